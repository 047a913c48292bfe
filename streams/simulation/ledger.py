"""Which simulated events were answered 200, and the counts that must result.

Invariants:
1. Pure and independent: it implements the glossary's definitions without any code of the streams,
   from a plain list of events, one line per counter.
2. Only accepted events count. An event without a definite answer is *unsure*: it may be stored once
   or not at all, and is reported neither as lost nor as counted twice.
3. An event is identified by what an analyst sees of it: message, type and time.
"""

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from streams.simulation.simulator import (
    HUMAN,
    MACHINE,
    PROBABLY_MACHINE,
    UNKNOWN,
    Happening,
)

Identity = tuple[str, str, int]
"""Message id, event type, seconds since 1970: unique in the simulator (its invariant 4)."""


def identity(event: Happening) -> Identity:
    """Identifies an event among the stored ones."""
    return (event.message_id, event.kind, event.at_s)


@dataclass(slots=True)
class Ledger:
    """What was sent in one run, and how it was answered.

    Attributes:
        accepted: native id -> event, of every event that was answered 200 at least once; a mapping
            other than a ``dict`` must iterate in order of message ids.
        unsure: the same of events that got no answer or were deferred; they may be stored.
    """

    accepted: MutableMapping[str, Happening] = field(default_factory=dict)
    unsure: dict[str, Happening] = field(default_factory=dict)
    sent_requests: int = 0
    accepted_requests: int = 0
    refused_requests: int = 0
    duplicates_sent: int = 0
    malformed_accepted: int = 0
    forged_accepted: int = 0
    forged_refused: int = 0

    def accept(self, events: Iterable[Happening]) -> None:
        """Notes that a request with these events was answered 200."""
        for event in events:
            if event.native_id in self.accepted:
                self.duplicates_sent += 1
            else:
                self.accepted[event.native_id] = event
            self.unsure.pop(event.native_id, None)

    def doubt(self, events: Iterable[Happening]) -> None:
        """Notes that a request with these events was sent and not definitely answered."""
        for event in events:
            if event.native_id not in self.accepted:
                self.unsure[event.native_id] = event

    def parts(self, events_max: int) -> "Iterator[Part]":
        """The events in parts, by ranges of message ids; together they cover every id.

        Args:
            events_max: most accepted events in a part, unless a single message has more.
        """
        events: Iterable[Happening] = self.accepted.values()
        if isinstance(self.accepted, dict):
            events = sorted(events, key=_message_id)
        first, part = "", dict[str, Happening]()
        for message_id, group in groupby(events, key=_message_id):
            found = {event.native_id: event for event in group}
            if part and len(part) + len(found) > events_max:
                yield self._part(first, message_id, part)
                first, part = message_id, {}
            part |= found
        yield self._part(first, "", part)

    def _part(self, first: str, beyond: str, accepted: dict[str, Happening]) -> "Part":
        unsure = {
            native_id: event
            for native_id, event in self.unsure.items()
            if first <= event.message_id and (not beyond or event.message_id < beyond)
        }
        return Part(first, beyond, Ledger(accepted, unsure))


def _message_id(event: Happening) -> str:
    return event.message_id


@dataclass(frozen=True, slots=True)
class Part:
    """The events of some messages.

    Attributes:
        first: smallest message id; ``beyond``: upper limit, exclusive; '' for none.
        ledger: their events.
    """

    first: str
    beyond: str
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Compared:
    """Stored events compared with accepted ones.

    Attributes:
        stored: rows of this run in ClickHouse.
        lost: accepted events without a row.
        double_counted: rows beyond one per accepted event, including any row of an event that was
            never accepted (a forgery, for example).
    """

    stored: int = 0
    lost: int = 0
    double_counted: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(
            self.stored + other.stored,
            self.lost + other.lost,
            self.double_counted + other.double_counted,
        )


def compare_events(ledger: Ledger, stored: Mapping[Identity, int]) -> Compared:
    """Compares the number of rows per identity in ClickHouse with the ledger."""
    accepted = {identity(event) for event in ledger.accepted.values()}
    unsure = {identity(event) for event in ledger.unsure.values()} - accepted
    lost = sum(1 for one in accepted if not stored.get(one))
    allowed = accepted | unsure
    extra = sum(rows - (one in allowed) for one, rows in stored.items())
    return Compared(sum(stored.values()), lost, extra)


def recount(events: Iterable[Happening]) -> dict[str, Tally[str]]:
    """Campaign -> counter of the glossary -> value, from distinct events.

    A message's events count for the campaign that any of them names; '' if none does.
    """
    messages: dict[str, list[Happening]] = defaultdict(list)
    for event in events:
        messages[event.message_id].append(event)
    campaigns: dict[str, Tally[str]] = defaultdict(Tally)
    for message in messages.values():
        named = {event.campaign for event in message if event.told}
        campaigns[named.pop() if named else ""].update(count_message(message))
    return dict(campaigns)


def count_message(events: list[Happening]) -> Tally[str]:
    """What one message adds to its campaign's counters, by the glossary's definitions."""
    delivered = [event.at_s for event in events if event.kind == "delivered"]
    count: Tally[str] = Tally()
    count["events"] = len(events)
    count["delivered"] = bool(delivered)
    count["deferred"] = _number(events, "deferred")
    unique = _opens_and_clicks(events, count)
    bounces = [event for event in events if event.kind == "bounced"]
    if bounces and not delivered:
        count[f"bounced_{bounces[0].bounce}"] = 1
        count[f"attempt_bounced_{bounces[0].bounce}"] = 1
    count["attempt_sent"] = bool(delivered or bounces)
    refused = [event for event in events if event.kind == "rejected"]
    count["suppressed"] = any(event.bounce == "suppressed" for event in refused)
    count["rejected"] = any(event.bounce != "suppressed" for event in refused)
    unique |= {
        "complained": _number(events, "complained") > 0,
        "unsubscribed": _number(events, "unsubscribed") > 0,
        "bounced_late": bool(bounces) and bool(delivered),
    }
    for name, value in unique.items():
        count[name] = int(value)
        count[f"cohort_{name}"] = int(value and bool(delivered))
    count["cohort_opened_clicked"] = count["cohort_opened"] and count["cohort_clicked"]
    return count


def _opens_and_clicks(events: list[Happening], count: Tally[str]) -> dict[str, bool]:
    """Counts the opens and clicks of a message.

    Returns:
        What counts once for the message, by name.
    """
    unique = {}
    for kind, plural in (("opened", "opens"), ("clicked", "clicks")):
        doubts = [event.doubt for event in events if event.kind == kind and not event.unsubscribe]
        count[plural] = doubts.count(HUMAN)
        count[f"unknown_{plural}"] = doubts.count(UNKNOWN)
        count[f"machine_{plural}"] = sum(doubt >= PROBABLY_MACHINE for doubt in doubts)
        for end, most in _ENDS.items():
            unique[f"{kind}{end}"] = any(doubt <= most for doubt in doubts)
    count["unsubscribe_clicks"] = sum(event.unsubscribe for event in events)
    return unique


_ENDS = {"": HUMAN, "_or_unknown": UNKNOWN, "_at_most": PROBABLY_MACHINE, "_any": MACHINE}
"""End of a count's name -> the farthest from a human's that it counts."""


def _number(events: list[Happening], kind: str) -> int:
    return sum(1 for event in events if event.kind == kind)


def differences(
    expected: Mapping[str, Mapping[str, int]],
    found: Mapping[str, Mapping[str, int]],
    counters: Sequence[str],
) -> dict[str, dict[str, tuple[int, int]]]:
    """Campaign -> counter -> (expected, found), where they differ."""
    out: dict[str, dict[str, tuple[int, int]]] = {}
    for campaign in {**expected, **found}:
        wanted, got = expected.get(campaign, {}), found.get(campaign, {})
        pairs = {name: (int(wanted.get(name, 0)), int(got.get(name, 0))) for name in counters}
        wrong = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if wrong:
            out[campaign] = wrong
    return out
