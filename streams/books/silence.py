"""Silences as incidents: a source, or one event type of it, for longer than its rhythm explains.

Invariants:
1. Pure: ``now_us`` is an argument of a look. Absence emits no record: time alone opens incidents.
2. There is at most one incident of a stream. It is opened, changed once at most (its requests come,
   but are refused), and closed when something came again or when the stream has no rhythm any more.
3. While a source as a whole is silent, none is opened for its event types, nor for what they
   missed in that time.
4. Requests that are refused open an incident earlier, and of a source without a rhythm too
   (``refusals``); of an event type they say nothing.
5. ``incident_id`` is a function of the stream and of when it fell silent; with ``sequence`` it
   identifies a change. So looking again, or by another process, tells the same under one identity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

from streams.books import refusals
from streams.books.refusals import NOTHING_KNOWN, REFUSED, UNREADABLE, Facts, Requests
from streams.books.rhythm import SLOT_S, SLOTS_MIN, Rhythm, is_explained, passed, silence

OPENED, CHANGED, CLOSED = "opened", "changed", "closed"
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
        last_us: when the newest event came, microseconds since 1970; 0: none ever did.
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
        sequence: of the newest change that was told.
        facts: of requests, as they were told then.
    """

    since_us: int
    opened_us: int
    usual_us: int
    patience_us: int
    sequence: int = 1
    facts: Facts = NOTHING_KNOWN


def incident_id(key: Key, since_us: int) -> str:
    """Identity of a silence, 32 hexadecimal digits."""
    text = "\x1f".join((*key, str(since_us)))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def look(
    streams: Mapping[Key, Stream],
    held: Mapping[Key, Held],
    now_us: int,
    requests: Mapping[str, Requests] = MappingProxyType({}),
) -> tuple[list[Record], dict[Key, Held]]:
    """Judges every stream now.

    Args:
        streams: those with events stored, and sources with requests.
        held: open incidents.
        now_us: through which time everything that came is known, microseconds since 1970.
        requests: source -> what is known of the requests to it.

    Returns:
        ``source_alert`` records to send, in order, and the incidents that are open then.
    """
    after = dict(held)
    records = []
    for key in sorted({*streams, *held}):  # a source as a whole comes first
        stream, before = streams.get(key), held.get(key)
        of_source = None if key.event_type else requests.get(key.source)
        if of_source is not None and (stream is None or stream.rhythm is None):
            of_source = refusals.of_senders(of_source)
        if before is None:
            whole = Key(key.source, WHOLE)
            if stream is None or (key.event_type and (whole in after or whole in held)):
                continue
            opened = _opened(stream, now_us, of_source)
            if opened is not None:
                after[key] = opened
                records.append(_record(key, opened, OPENED, now_us))
        elif _is_over(stream, before, of_source, now_us):
            del after[key]
            resumed = stream.last_us if stream and stream.last_us > before.since_us else None
            last = replace(before, sequence=before.sequence + 1)
            records.append(_record(key, last, CLOSED, now_us, resumed))
        elif (facts := _news(of_source, before)) is not None:
            after[key] = replace(before, sequence=before.sequence + 1, facts=facts)
            records.append(_record(key, after[key], CHANGED, now_us))
    return records, after


def _is_over(stream: Stream | None, held: Held, requests: Requests | None, now_us: int) -> bool:
    if stream is not None and stream.last_us > held.since_us:
        return True
    if stream is not None and stream.rhythm is not None:
        return False
    if held.facts.cause not in (REFUSED, UNREADABLE):
        return True
    return not refusals.lasts(requests, 0 if stream is None else stream.last_us, now_us)


def _news(requests: Requests | None, held: Held) -> Facts | None:
    """What is to be told of an incident besides what was; ``None``: nothing."""
    if held.facts.cause in (REFUSED, UNREADABLE):
        return None
    facts = refusals.facts_of(requests, held.since_us)
    return facts if facts.cause in (REFUSED, UNREADABLE) else None


def _opened(stream: Stream, now_us: int, requests: Requests | None) -> Held | None:
    """The incident that a stream's silence is; ``None``: it is explained."""
    facts = refusals.facts_of(requests, stream.last_us)
    rhythm, now = stream.rhythm, now_us // SLOT_US
    if rhythm is None:
        if not refusals.is_refused(requests, stream.last_us, young=True):
            return None
        since = stream.last_us or facts.refused_since or now_us
        return None if since > now_us else Held(since, now_us, 0, 0, facts=facts)
    last = max(stream.last_us, stream.judged_from_us) // SLOT_US
    if is_explained(rhythm, last, now):
        is_short = now - last < SLOTS_MIN or silence(rhythm, last, now) <= rhythm.usual
        if is_short or not refusals.is_refused(requests, stream.last_us, young=False):
            return None
    usual = passed(rhythm, last, rhythm.usual)
    patience = min(rhythm.slots_max, passed(rhythm, last, rhythm.patience))
    return Held(stream.last_us, now_us, usual * SLOT_US, patience * SLOT_US, facts=facts)


def _record(key: Key, held: Held, state: str, now_us: int, resumed_us: int | None = None) -> Record:
    return {
        "incident_id": incident_id(key, held.since_us),
        "sequence": held.sequence,
        "state": state,
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
        "advice": "" if state == CLOSED else _advice(key, held.facts),
        **held.facts._asdict(),
    }


def _advice(key: Key, facts: Facts) -> str:
    if key.event_type:
        return (
            f"Other events of {key.source} still come. Check at the provider that its event for"
            f" «{key.event_type}» is still switched on, and whether such mail was sent at all."
        )
    if facts.cause in (REFUSED, UNREADABLE):
        return refusals.advice(key.source, facts)
    if facts.cause == refusals.REPEATS:
        return (
            "Requests come and are accepted, but bring nothing new: look at the provider which"
            " events its webhook sends."
        )
    said = "No request came since, not even one that was refused." if facts.cause else (
        "Whether requests were refused is not known."
    )  # fmt: skip
    if facts.refused:
        said = f"Requests: {facts.refused:,} were refused since, as usual ({facts.refusal})."
    return (
        f"{said} Run «mailpulse send-test {key.source}»: if that arrives, look at the provider's"
        " webhook log, where a deleted webhook or a blocked address shows. If nothing was mailed,"
        " there is nothing to do."
    )


def learned(records: Iterable[Mapping[str, Any]]) -> dict[Key, Held]:
    """The open incidents, from their last records as they are stored."""
    return {
        Key(one["source"], one["event_type"]): Held(
            one["silent_since"], one["opened_at"],
            one["usual_gap_s"] * 1_000_000, one["explained_s"] * 1_000_000,
            one["sequence"], Facts(*(one[name] for name in Facts._fields)),
        )
        for one in records
        if one["state"] != CLOSED
    }  # fmt: skip
