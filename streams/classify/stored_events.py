"""Judges stored events of a message again, as reprocessing would.

Invariants:
1. Pure. It combines the parts of ``streams.classify.actors`` as the fold does, for a message whose
   events are all within its correction window.
2. Times are as stored, in milliseconds: a time of whole milliseconds is taken as exact, one of
   whole seconds as anywhere in its second, as in the fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.classify.actor_rules import Rules, Verdict
from streams.classify.actors import Evidence, rejudge, seconds_since, verdict_alone
from streams.classify.certainty import doubt_of


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A delivery, open or click.

    Attributes:
        at_ms: milliseconds since 1970.
        verdict: as it is stored.
        counts: False for a click that unsubscribes.
    """

    event_type: str
    at_ms: int
    verdict: Verdict
    machine_kind: str
    user_agent: str
    ip: str
    url: str
    counts: bool = True


def judged(events: Sequence[StoredEvent], rules: Rules) -> list[Verdict]:
    """The verdict on each event of one message, by ``rules``."""
    delivered = min((e.at_ms for e in events if e.event_type == "delivered"), default=None)
    verdicts = [_alone(event, delivered, rules) for event in events]
    bases = [
        Evidence(event.event_type, event.at_ms * 1_000, *verdict, _hash(event.url),
                 _hash(event.user_agent))
        for event, verdict in zip(events, verdicts, strict=True)
    ]  # fmt: skip
    places = [place for place, base in enumerate(bases) if base.actor != "none"]
    for index, actor, reason in rejudge([bases[place] for place in places], rules):
        verdicts[places[index]] = (actor, reason)
    return verdicts


def _alone(event: StoredEvent, delivered_ms: int | None, rules: Rules) -> Verdict:
    since = None
    if delivered_ms is not None:
        since = seconds_since(event.at_ms * 1_000, delivered_ms * 1_000)
    return verdict_alone(
        event.event_type, event.machine_kind, event.user_agent or None, event.ip or None, since,
        rules, url=event.url or None,
    )  # fmt: skip


def _hash(text: str) -> int:
    return hash(text) if text else 0


LEVELS = (1, 2, 3, 4)
"""A message counts as opened or clicked by humans, with the unknown, at most, and by anyone, if one
of its events has less doubt than this."""


def reach(
    events: Sequence[StoredEvent], verdicts: Sequence[Verdict], event_type: str
) -> tuple[bool, ...]:
    """Whether a message counts as opened, or clicked, at each of ``LEVELS``."""
    doubts = [
        doubt_of(*verdict)
        for event, verdict in zip(events, verdicts, strict=True)
        if event.event_type == event_type and event.counts
    ]
    least = min(doubts, default=max(LEVELS))
    return tuple(least < level for level in LEVELS)
