"""What a fold writes: revisions of events, and engagement.

Invariants:
1. Pure: outputs are values, put into ``Effects``.
2. An event is written when it comes. It is written again, as its next revision, when a later event
   changes its verdict, its campaign or whether it is the first; the version is the offset of that
   later event.
3. Engagement that no longer holds is withdrawn before what replaces it is published.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

from schemas import enrichment
from schemas.codec import Codec
from schemas.event import Event, message_key
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.enrich import derive
from streams.enrich.derive import Head, LookUps
from streams.enrich.message import Message, Pending
from streams.enrich.message_bytes import PENDING, PENDING_END, PENDING_KEY_AT
from streams.enrich.minute_counts import Scan
from streams.enrich.shard import Shard


class ConsumedRecord(Protocol):
    """What a step needs of a consumed Kafka record (aiokafka's ``ConsumerRecord`` has it)."""

    @property
    def offset(self) -> int: ...  # noqa: D102 — see aiokafka
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


Item = tuple[ConsumedRecord, Head, bytes, bytes, int]
"""Record, its head, keys of message and recipient (empty: not needed), event time in µs."""

Enriched = tuple[bytes | None, bytes, int]
"""Key, framed value and timestamp (ms) of an enriched record, to be written to the partition that
the raw record came from."""


@dataclass(slots=True)
class Effects:
    """What a step asks the shell to do, in order within each list."""

    enriched: list[Enriched] = field(default_factory=list)
    suppressions: list[tuple[str, dict[str, Any] | None]] = field(default_factory=list)
    engagement: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    revised: dict[int, int] = field(default_factory=dict)
    """Index in ``enriched`` -> revision, for those that are not an event's first."""
    lifts: list[tuple[int, int]] = field(default_factory=list)
    """Offset and time (ms) of the records that lift, one for each ``None`` in ``suppressions``."""
    read: int = 0
    replayed: int = 0
    duplicates: int = 0
    corrected: int = 0


class StepWork:
    """What every part of a step uses."""

    __slots__ = ("codec", "effects", "emit", "frame", "look_ups", "origin", "shard")

    def __init__(self, shard: Shard, look_ups: LookUps, codec: Codec, *, emit: bool) -> None:
        self.shard = shard
        self.look_ups = look_ups
        self.codec = codec
        self.emit = emit
        self.effects = Effects()
        self.frame = codec.prefix("enriched_event")
        self.origin = enrichment.origin(shard.log_id, shard.partition)


First = tuple[int, int]
NONE_FIRST: First = (-1, -1)


def first_offsets(message: Message) -> First:
    """Offsets of the pending events that are the first human open and click; -1 if none is."""
    return message.first_human("opened")[1], message.first_human("clicked")[1]


def publish(
    work: StepWork,
    cause: ConsumedRecord,
    head: Head,
    key: bytes,
    message: Message,
    event: Pending,
    bounce: tuple[str, str],
    changed: frozenset[int],
    first_before: First,
    *,
    learned: bool,
) -> None:
    """Writes the event, and again every earlier one that it changed.

    Args:
        cause: the record of the event.
        changed: offsets of pending events whose verdict changed.
        first_before: ``first_offsets`` before the event.
        learned: whether the campaign became known with this event.
    """
    first_now = first_offsets(message) if message.pending else NONE_FIRST
    if message.pending and _is(message.pending[-1], event):
        event = message.pending[-1]
    if work.emit:
        write(work, cause, head, key, message, event, bounce, None, first_now)
    if not (changed or learned or first_now != first_before):
        return
    moved = set(first_before) ^ set(first_now)
    for position, earlier in enumerate(message.pending):
        if _is(earlier, event):
            continue
        if learned or earlier.offset in changed or earlier.offset in moved:
            again = message.pending[position] = earlier._replace(revision=earlier.revision + 1)
            if work.emit:
                work.effects.corrected += 1
                previous = "" if learned else None
                its = work.codec.raw_head(again.raw)
                _rewrite(work, cause, its, key, message, again, previous, first_now, first_before)


def _is(pending: Pending, event: Pending) -> bool:
    """Whether a pending event is this one, with another verdict perhaps.

    Its bytes are compared too, because in a recreated log it may have an offset of the earlier log.
    """
    return pending.raw is event.raw and pending.offset == event.offset


def _rewrite(
    work: StepWork,
    cause: ConsumedRecord,
    head: Head,
    key: bytes,
    message: Message,
    event: Pending,
    previous_campaign: str | None,
    first_now: First,
    first_before: First,
) -> None:
    """Adds another revision of an event that was written before (invariant 3)."""
    revision = work.look_ups.epoch << REVISION_EPOCH_SHIFT | event.revision
    work.effects.revised[len(work.effects.enriched)] = revision
    if event.offset in first_before and event.offset not in first_now:
        _engage(work, cause, head, message, withdrawn=True)
    bounce = derive.bounce_of(head)
    write(
        work, cause, head, key, message, event, bounce, previous_campaign, first_now, first_before
    )


def write(
    work: StepWork,
    cause: ConsumedRecord,
    head: Head,
    key: bytes,
    message: Message,
    event: Pending,
    bounce: tuple[str, str],
    previous_campaign: str | None,
    first_now: First,
    first_before: First = NONE_FIRST,
) -> None:
    """Adds one revision of an event to the effects, and its engagement if it is a first."""
    first_human = event.offset in first_now
    value = derive.value(
        work.frame, work.origin, head, message, event, bounce, work.look_ups,
        version=cause.offset, key=key, first_human=first_human,
        previous_campaign=previous_campaign,
    )  # fmt: skip
    work.effects.enriched.append((cause.key, value, cause.timestamp))
    if first_human and event.offset not in first_before:
        _engage(work, cause, head, message, withdrawn=False)


def _engage(
    work: StepWork, cause: ConsumedRecord, head: Head, message: Message, *, withdrawn: bool
) -> None:
    record = derive.engagement(
        head, message, withdrawn=withdrawn, log_id=work.shard.log_id,
        partition=work.shard.partition, offset=cause.offset,
    )  # fmt: skip
    work.effects.engagement.append(((head["recipient"] or "").lower(), record))


class Cause(NamedTuple):
    """Takes the place of a ``ConsumedRecord`` when an event is restated."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None = None


RESTATED_MESSAGES = 200


def restate(
    shard: Shard, scan: Scan, look_ups_at: Callable[[int], LookUps], codec: Codec
) -> Iterator[Effects]:
    """Writes every pending event once more as it is now, when an epoch begins.

    The earlier rules may have corrected some of them after this offset, where the new rules do not.
    No engagement is published.

    Args:
        scan: over the stored state, which must be complete.
        look_ups_at: look-ups that judged an offset, with the present epoch's number.
    """
    keys = [key[PENDING_KEY_AT:] for key, _ in scan(PENDING, PENDING_END)]
    for begin in range(0, len(keys), RESTATED_MESSAGES):
        some = keys[begin : begin + RESTATED_MESSAGES]
        shard.fetch(some, ())
        effects = Effects()
        for key in some:
            _restate_message(shard, effects, look_ups_at, codec, key)
        yield effects


def _restate_message(
    shard: Shard,
    effects: Effects,
    look_ups_at: Callable[[int], LookUps],
    codec: Codec,
    key: bytes,
) -> None:
    message = shard.message(key)
    first = first_offsets(message)
    for event in message.pending:
        work = StepWork(shard, look_ups_at(event.offset), codec, emit=True)
        work.effects = effects
        head = codec.raw_head(event.raw)
        cause = Cause(shard.applied, shard.log_time * 1000, message_key(cast(Event, head)))
        _rewrite(work, cause, head, key, message, event, None, first, first)
