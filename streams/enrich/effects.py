"""What a step asks the shell to do, and how its corrections are completed.

Invariants:
1. Pure: outputs are values.
2. A correction carries the bytes of the event's raw record, which state does not keep. A step
   leaves it incomplete; the shell reads the records that ``wanted`` names, and ``complete`` puts
   them in.
3. A correction whose record can't be read any more is left out, and told as lost. Counts are not
   affected: they need no records.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas import enrichment
from schemas.codec import Codec
from schemas.errors import BadInput
from schemas.event import recipient_identity
from schemas.raw_head import Head
from streams.enrich import derive
from streams.enrich.derive import LookUps, Standing
from streams.enrich.message import Pending
from streams.enrich.suppressions import GONE
from streams.enrich.telling import Retold, Told, completed

Enriched = tuple[bytes | None, bytes, int]
"""Key, framed value and timestamp (ms) of an enriched record, to be written to the partition that
the raw record came from."""
Engaged = tuple[str, dict[str, Any]]
"""Recipient and record."""


class Restated(NamedTuple):
    """A further revision of an earlier event.

    Attributes:
        event: the event as of now.
        standing: its message as of now.
        previous_campaign, previous_key: that the revision before was under, if it was another one.
        message_key: unit of the event.
        key, timestamp, version: of the record that it follows from; Kafka key, ms, offset.
    """

    event: Pending
    standing: Standing
    previous_campaign: str | None
    message_key: bytes
    key: bytes | None
    timestamp: int
    version: int
    previous_key: bytes | None = None


class Reengaged(NamedTuple):
    """Engagement of an earlier event, or its withdrawal.

    Attributes:
        offset: of the event.
        standing: its message as of now, or as of before when it is withdrawn.
        version: offset of the record that it follows from.
    """

    offset: int
    standing: Standing
    version: int
    withdrawn: bool


@dataclass(slots=True)
class Effects:
    """What a step asks the shell to do, in order within each list."""

    enriched: list[Enriched | Restated] = field(default_factory=list)
    suppressions: list[Told | Retold] = field(default_factory=list)
    engagement: list[Engaged | Reengaged] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    revised: dict[int, int] = field(default_factory=dict)
    """Index in ``enriched`` -> revision, for those that are not an event's first."""
    read: int = 0
    replayed: int = 0
    duplicates: int = 0
    corrected: int = 0
    scopes_beyond: int = 0
    """Events of lists or groups beyond an address's limit (``suppressions.SCOPES_MAX``)."""
    ambiguous: int = 0
    """Message-IDs that turned out to stand for several messages to one recipient."""


def wanted(effects: Effects) -> set[int]:
    """Offsets of the raw records that the effects still need."""
    offsets = {one.event.offset for one in effects.enriched if isinstance(one, Restated)}
    offsets |= {one.offset for one in effects.engagement if isinstance(one, Reengaged)}
    offsets |= {one.telling.offset for one in effects.suppressions if isinstance(one, Retold)}
    return offsets - {GONE}


@dataclass(slots=True)
class Completed:
    """The outputs of a step as they are to be written; see ``Effects``.

    Attributes:
        lost: corrections left out, because the event's raw record can't be read any more.
    """

    enriched: list[Enriched]
    suppressions: list[Told]
    engagement: list[Engaged]
    dead_letters: list[dict[str, Any]]
    revised: dict[int, int]
    corrected: int
    lost: int


def complete(
    effects: Effects,
    raws: Mapping[int, bytes],
    *,
    codec: Codec,
    look_ups: LookUps,
    log_id: str,
    partition: int,
) -> Completed:
    """Puts raw records into the corrections.

    Args:
        raws: framed raw records by offset; of ``wanted``, those that could be read.
    """
    frame, origin = codec.prefix("enriched_event"), enrichment.origin(log_id, partition)
    enriched: list[Enriched] = []
    revised: dict[int, int] = {}
    lost = 0
    for number, one in enumerate(effects.enriched):
        if number in effects.revised:
            revised[len(enriched)] = effects.revised[number]
        if not isinstance(one, Restated):
            enriched.append(one)
        elif (raw := raws.get(one.event.offset)) is not None:
            enriched.append(_restate(frame, origin, raw, codec, one, look_ups))
        else:
            revised.pop(len(enriched), None)
            lost += 1
    engagement: list[Engaged] = []
    for change in effects.engagement:
        if not isinstance(change, Reengaged):
            engagement.append(change)
        elif (raw := raws.get(change.offset)) is not None:
            with suppress(BadInput):  # another producer's, with a wrong head: it engaged nobody
                head = codec.raw_head(raw)
                if "erased" not in head:
                    engagement.append(_reengage(head, change, log_id, partition))
    return Completed(
        enriched, _suppressions(effects, raws, codec, look_ups, log_id, partition), engagement,
        effects.dead_letters, revised, effects.corrected - lost, lost,
    )  # fmt: skip


def _suppressions(
    effects: Effects,
    raws: Mapping[int, bytes],
    codec: Codec,
    look_ups: LookUps,
    log_id: str,
    partition: int,
) -> list[Told]:
    out = []
    for one in effects.suppressions:
        if isinstance(one, Retold):
            raw = raws.get(one.telling.offset)
            head = None if raw is None else codec.raw_head(raw)
            one = completed(one, head, look_ups, log_id, partition)
        out.append(one)
    return out


def _restate(
    frame: bytes, origin: bytes, raw: bytes, codec: Codec, one: Restated, look_ups: LookUps
) -> Enriched:
    head = codec.raw_head(raw)
    value = derive.value(
        frame, origin, raw, head, one.standing, one.event, derive.bounce_of(head), look_ups,
        version=one.version, key=one.message_key, previous_campaign=one.previous_campaign,
        previous_key=one.previous_key,
    )  # fmt: skip
    return one.key, value, one.timestamp


def _reengage(head: Head, change: Reengaged, log_id: str, partition: int) -> Engaged:
    record = derive.engagement(
        head, change.standing, withdrawn=change.withdrawn, log_id=log_id, partition=partition,
        offset=change.version,
    )  # fmt: skip
    return recipient_identity(head), record
