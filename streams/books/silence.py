"""Silences as incidents: a source, or one event type of it, for longer than its rhythm explains.

Invariants:
1. Pure: ``now_us`` is an argument of a look. Absence emits no record: time alone opens incidents.
2. There is at most one incident of a stream. It is opened, and closed when something came again or
   when the stream has no rhythm any more.
3. While a source as a whole is silent, none is opened for its event types, nor for what they
   missed in that time.
4. ``incident_id`` is a function of the stream and of when it fell silent; with ``sequence`` it
   identifies a change. So looking again, or by another process, tells the same under one identity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from streams.books.rhythm import SLOT_S, Rhythm, is_explained, passed

OPENED, CLOSED = "opened", "closed"
WHOLE = ""
"""The event type that stands for the source as a whole."""
SLOT_US = SLOT_S * 1_000_000
Record = dict[str, Any]


class Key(NamedTuple):
    """A stream.

    Attributes:
        source: in ``mailpulse.toml``.
        event_type: or ``WHOLE``.
    """

    source: str
    event_type: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of a stream.

    Attributes:
        rhythm: ``None``: too little is known.
        last_us: when the newest event came, microseconds since 1970.
        judged_from_us: of an event type, when its source came again after a silence of its own:
            each of its event types has all of its time from then on.
    """

    rhythm: Rhythm | None
    last_us: int
    judged_from_us: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """An open incident, as it was told.

    Attributes:
        since_us: when the last event before the silence came.
        opened_us: when it was opened.
        usual_us: what was usual then, and
        patience_us: what would have been explained.
    """

    since_us: int
    opened_us: int
    usual_us: int
    patience_us: int


def incident_id(key: Key, since_us: int) -> str:
    """Identity of a silence, 32 hexadecimal digits."""
    text = "\x1f".join((*key, str(since_us)))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def look(
    streams: Mapping[Key, Stream], held: Mapping[Key, Held], now_us: int
) -> tuple[list[Record], dict[Key, Held]]:
    """Judges every stream now.

    Args:
        streams: those with events stored.
        held: open incidents.
        now_us: through which time everything that came is known, microseconds since 1970.

    Returns:
        ``source_alert`` records to send, in order, and the incidents that are open then.
    """
    after = dict(held)
    records = []
    for key in sorted({*streams, *held}):  # a source as a whole comes first
        stream, before = streams.get(key), held.get(key)
        if before is None:
            whole = Key(key.source, WHOLE)
            if stream is None or (key.event_type and (whole in after or whole in held)):
                continue
            opened = _opened(stream, now_us)
            if opened is not None:
                after[key] = opened
                records.append(_record(key, opened, now_us))
        elif stream is None or stream.rhythm is None or stream.last_us > before.since_us:
            del after[key]
            resumed = stream.last_us if stream and stream.last_us > before.since_us else None
            records.append(_record(key, before, now_us, closed=True, resumed_us=resumed))
    return records, after


def _opened(stream: Stream, now_us: int) -> Held | None:
    """The incident that a stream's silence is; ``None``: it is explained."""
    rhythm, last = stream.rhythm, max(stream.last_us, stream.judged_from_us) // SLOT_US
    if rhythm is None or is_explained(rhythm, last, now_us // SLOT_US):
        return None
    usual = passed(rhythm, last, rhythm.usual)
    patience = passed(rhythm, last, rhythm.patience)
    return Held(stream.last_us, now_us, usual * SLOT_US, patience * SLOT_US)


def _record(
    key: Key, held: Held, now_us: int, *, closed: bool = False, resumed_us: int | None = None
) -> Record:
    return {
        "incident_id": incident_id(key, held.since_us),
        "sequence": 2 if closed else 1,
        "state": CLOSED if closed else OPENED,
        "source": key.source,
        "event_type": key.event_type,
        "level": "warning" if key.event_type else "critical",
        "silent_since": held.since_us,
        "usual_gap_s": held.usual_us // 1_000_000,
        "explained_s": held.patience_us // 1_000_000,
        "opened_at": held.opened_us,
        "resumed_at": resumed_us,
        "changed_at": now_us,
        "as_of": now_us,
        "advice": "" if closed else _advice(key),
    }


def _advice(key: Key) -> str:
    if key.event_type:
        return (
            f"Other events of {key.source} still come. Check at the provider that its event for"
            f" «{key.event_type}» is still switched on, and whether such mail was sent at all."
        )
    return (
        f"Run «mailpulse send-test {key.source}»: if that arrives, look at the provider's webhook"
        " log, where a deleted webhook or refused requests show; after a rotated key they are"
        " refused as unauthorized. If nothing was mailed, there is nothing to do."
    )


def learned(records: Iterable[Mapping[str, Any]]) -> dict[Key, Held]:
    """The open incidents, from their last records as they are stored."""
    return {
        Key(one["source"], one["event_type"]): Held(
            one["silent_since"], one["opened_at"],
            one["usual_gap_s"] * 1_000_000, one["explained_s"] * 1_000_000,
        )
        for one in records
        if one["state"] != CLOSED
    }  # fmt: skip
