"""Decides whether an open or click came from a human or a machine, or whether that is unknown.

Invariants:
1. Pure: rules are a value, times are those of the events.
2. Two steps. ``by_itself`` and ``by_time`` judge an event alone; ``rejudge`` corrects that with
   the other recent events of the same message.
3. ``rejudge`` changes only verdicts that rest on time (``BY_TIME_REASONS``) or on a learned network
   (``FLEET``), and only away from the human: to unknown, or to a machine. It depends on the events
   as judged alone, not on their order, and a further event never undoes what it found.
4. Input from outside never raises; an invalid rules file does, at start.
5. No event is dropped: a verdict is a label with a reason (``schemas/glossary.py``).
6. What is missing is no evidence: a provider that sends no flag has said nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

from streams.classify.actor_rules import (
    BY_TIME_REASONS,
    DEFAULT_RULES,
    FLEET,
    HUMAN,
    MACHINE,
    NO_DELIVERY,
    SOON,
    SUSPECTED,
    TOO_SOON,
    UNKNOWN,
    Rules,
    Verdict,
)
from streams.classify.certainty import doubt_of
from streams.classify.network_rules import NetworkRule, address_of
from streams.classify.unsubscribe import unsubscribes

__all__ = [
    "DEFAULT_RULES",
    "LATER_HUMAN",
    "SOON_UNKNOWN",
    "SUSPECTED",
    "Evidence",
    "Rules",
    "by_itself",
    "by_suspicion",
    "by_time",
    "rejudge",
    "seconds_since",
    "unsubscribes",
    "verdict_alone",
]  # fmt: skip

NOT_JUDGED: Final = ("none", "")
_SUSPECT: Final = (UNKNOWN, SUSPECTED)
_UNKNOWN_DELIVERY: Final = (HUMAN, NO_DELIVERY)
SOON_UNKNOWN: Final = (UNKNOWN, SOON)
LATER_HUMAN: Final = (HUMAN, "")
"""Of what came later than scanners do, with nothing else against it."""

AGENTS_CACHED_MAX: Final = 16_384
"""Distinct user agents cached per process; about 300 bytes each, at most 2 kB."""
ADDRESSES_CACHED_MAX: Final = 65_536
"""Distinct IP addresses cached per process that may lie in a network of the rules."""
SECOND_US: Final = 1_000_000


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _by_agent(
    event_type: str, machine_kind: str, user_agent: str | None, rules: Rules
) -> Verdict | None:
    """By the provider's flag and the user agent, whichever says more against a human.

    Except that nobody can know whether Apple's prefetch was followed by a look: what a provider
    calls a prefetch stays unknown if it is Apple's.
    """
    flagged = rules.flags.get((event_type, machine_kind))
    named = _named(event_type, user_agent, rules) if user_agent else None
    if flagged is None or named is None:
        return flagged or named
    if machine_kind == "prefetch" and named[0] == UNKNOWN:
        return named
    return named if doubt_of(*named) >= doubt_of(*flagged) else flagged


def _named(event_type: str, user_agent: str, rules: Rules) -> Verdict | None:
    agent = user_agent.strip().lower()
    for rule in rules.agents:
        actor = rule.opened if event_type == "opened" else rule.clicked
        if actor and (agent in rule.equals or any(mark in agent for mark in rule.contains)):
            return (actor, rule.reason)
    return None


@lru_cache(maxsize=ADDRESSES_CACHED_MAX)
def _networks_with(event_type: str, ip: str, rules: Rules) -> tuple[NetworkRule, ...]:
    """The rules about this type of event that have the address in a network."""
    address = address_of(ip)
    if address is None:
        return ()
    found = rules.network_table.containing(address)
    return tuple(rule for rule in found if event_type in rule.events)


def _by_network(event_type: str, ip: str, user_agent: str | None, rules: Rules) -> Verdict | None:
    for rule in _networks_with(event_type, ip, rules):
        if not rule.agents or (user_agent or "").strip().lower() in rule.agents:
            return _SUSPECT if rule.reason == SUSPECTED else (MACHINE, rule.reason)
    return None


def by_itself(
    event_type: str,
    machine_kind: str,
    user_agent: str | None,
    ip: str | None,
    url: str | None,
    rules: Rules = DEFAULT_RULES,
) -> Verdict | None:
    """Judges one open or click by its link, the provider's flag, the user agent or the network.

    Args:
        event_type: ``opened`` or ``clicked``.
        machine_kind: a value of ``MachineKind``, as the provider reports it.
        user_agent: as the provider reports it.
        ip: address of the client, IPv4 or IPv6; anything else is ignored.
        url: the clicked link.
        rules: thresholds, flags, user agents, networks and links.

    Returns:
        ``(actor, reason)``, as ``verdict_alone``; ``None`` if none of them says anything. The
        reason ``SUSPECTED``: the time since the delivery decides (``by_suspicion``).
    """
    if rules.hidden_links and url and any(mark in url for mark in rules.hidden_links):
        return (MACHINE, "hidden_link")
    verdict = _by_agent(event_type, machine_kind, user_agent, rules)
    if verdict is None and ip and event_type in rules.network_events:
        ip = ip.strip()
        if ":" in ip or ip.partition(".")[0] in rules.beginnings:
            verdict = _by_network(event_type, ip, user_agent, rules)
    return verdict


def seconds_since(at_us: int, delivered_us: int) -> tuple[float, float]:
    """The least and the most time from a delivery to an event, in seconds.

    A time that is a whole second may lie anywhere in that second: many providers cut it off.
    """
    least, most = at_us - delivered_us, at_us - delivered_us
    if not delivered_us % SECOND_US:
        least -= SECOND_US
    if not at_us % SECOND_US:
        most += SECOND_US
    return least / 1e6, most / 1e6


def by_time(
    event_type: str, since: tuple[float, float] | None, rules: Rules = DEFAULT_RULES
) -> Verdict:
    """Judges an open or click by the time since the delivery alone.

    Args:
        since: as of ``seconds_since``, negative if it precedes the delivery; ``None``: unknown.

    Returns:
        ``(actor, reason)``. A machine's only if it came too soon for certain; soon if it may have.
    """
    if since is None:
        return _UNKNOWN_DELIVERY
    least, most = since
    if most < -rules.before_delivery_s_max:
        return LATER_HUMAN  # only the clocks disagree
    too_soon_s, unknown_s = rules.open_s if event_type == "opened" else rules.click_s
    if most < too_soon_s:
        return (MACHINE, TOO_SOON)
    return SOON_UNKNOWN if least < unknown_s else LATER_HUMAN


def by_suspicion(since: tuple[float, float] | None, rules: Rules = DEFAULT_RULES) -> Verdict:
    """Judges an open or click from a network of scanners that also carries people.

    Gateways check soon after the delivery. Later it may be a person in an isolated browser.
    """
    if since is None or since[1] >= rules.network_soon_s:
        return _SUSPECT
    return (MACHINE, SUSPECTED)


def verdict_alone(
    event_type: str,
    machine_kind: str,
    user_agent: str | None,
    ip: str | None,
    since: tuple[float, float] | None,
    rules: Rules = DEFAULT_RULES,
    *,
    url: str | None = None,
) -> Verdict:
    """Judges one event without the others of its message: ``by_itself``, then by time.

    Args:
        event_type: a value of ``EventType``.
        since: as of ``seconds_since``; ``None`` if unknown.
        url: the clicked link.

    Returns:
        ``(actor, reason)``; ``("none", "")`` for an event that is neither an open nor a click. The
        reasons are those of the rules file and of ``BY_TIME_REASONS``; ``""``: a human's, with
        nothing against it.
    """
    if event_type != "opened" and event_type != "clicked":
        return NOT_JUDGED
    verdict = by_itself(event_type, machine_kind, user_agent, ip, url, rules)
    if verdict is None:
        return by_time(event_type, since, rules)
    return by_suspicion(since, rules) if verdict == _SUSPECT else verdict


class Evidence(NamedTuple):
    """What ``rejudge`` needs to know about a recent event of a message.

    Attributes:
        event_type: a value of ``EventType``; only opens and clicks matter.
        at: event time, microseconds since 1970.
        actor: verdict on the event alone.
        reason: its reason.
        link: hash of the clicked address; 0 for none.
        agent: hash of the user agent; 0 for none.
    """

    event_type: str
    at: int
    actor: str
    reason: str
    link: int
    agent: int


def rejudge(recent: Sequence[Evidence], rules: Rules = DEFAULT_RULES) -> list[tuple[int, str, str]]:
    """Corrects verdicts by looking at all recent events of a message together.

    - the reasons of ``Rules.bursts``: a click within a span that has clicks on so many links.
    - ``many_agents``: the same with ``agents_min`` or more distinct user agents.
    - ``scanner_burst``: an open or click close to a machine's click, by the same user agent.

    Args:
        recent: opens and clicks of one message and recipient, as judged alone, in any order.
        rules: thresholds.

    Returns:
        ``(index into recent, new actor, new reason)``, ordered by index, for each verdict that
        changes.
    """
    clicks = [index for index, event in enumerate(recent) if event[0] == "clicked"]
    if not clicks:
        return []
    marked = _bursts(recent, clicks, rules) if len(clicks) > 1 else {}
    if len(clicks) < len(recent) or len(clicks) > 1:
        scanned = [
            i for i in clicks
            if recent[i].actor == MACHINE or marked.get(i, LATER_HUMAN)[0] == MACHINE
        ]  # fmt: skip
        if scanned:
            _beside(recent, scanned, rules, marked)
    return [
        (index, *verdict)
        for index, verdict in sorted(marked.items())
        if _replaces(verdict, (recent[index].actor, recent[index].reason))
    ]


def _replaces(verdict: Verdict, alone: Verdict) -> bool:
    """Whether a verdict on events together replaces that on one of them alone."""
    by_time = alone[1] in BY_TIME_REASONS and alone[0] != "none"
    if verdict == alone or not (by_time or alone[1] == FLEET):
        return False
    return doubt_of(*verdict) >= doubt_of(*alone)


def _raise(marked: dict[int, Verdict], index: int, verdict: Verdict) -> None:
    """Marks an event, unless it is marked with less doubt that it is a machine's."""
    if index not in marked or doubt_of(*verdict) >= doubt_of(*marked[index]):
        marked[index] = verdict


_link_of = itemgetter(4)
_agent_of = itemgetter(5)


def _bursts(recent: Sequence[Evidence], clicks: list[int], rules: Rules) -> dict[int, Verdict]:
    """Index of each click in a burst -> the verdict: the surest, then the most specific."""
    marked: dict[int, Verdict] = {}
    clicks.sort(key=lambda index: recent[index].at)
    if len(clicks) >= rules.agents_min:
        agents = _in_bursts(recent, clicks, rules.agents_us, _agent_of, rules.agents_min)
        marked = dict.fromkeys(agents, (MACHINE, "many_agents"))
    for burst in reversed(rules.bursts):
        if len(clicks) >= burst.links:
            for index in _in_bursts(recent, clicks, burst.span_us, _link_of, burst.links):
                _raise(marked, index, burst.verdict)
    return marked


def _in_bursts(
    recent: Sequence[Evidence],
    clicks: list[int],
    burst_us: int,
    feature: Callable[[Evidence], int],
    least: int,
) -> set[int]:
    """Clicks within a span of ``burst_us`` that has ``least`` or more distinct features.

    One pass over ``clicks``, which are ordered by time, with a window that ends at each click in
    turn. Any other window contains no more clicks than one of these.
    """
    found: set[int] = set()
    seen: dict[int, int] = {}
    start = added = 0
    for position, index in enumerate(clicks):
        event = recent[index]
        value = feature(event)
        if value:
            seen[value] = seen.get(value, 0) + 1
        while event.at - recent[clicks[start]].at > burst_us:
            gone = feature(recent[clicks[start]])
            if gone:
                seen[gone] -= 1
                if not seen[gone]:
                    del seen[gone]
            start += 1
        if len(seen) >= least:
            found.update(clicks[max(start, added) : position + 1])
            added = position + 1
    return found


def _times_by_agent(recent: Sequence[Evidence], indexes: Sequence[int]) -> dict[int, list[int]]:
    times: dict[int, list[int]] = {}
    for index in indexes:
        agent = recent[index].agent
        if agent:
            times.setdefault(agent, []).append(recent[index].at)
    for list_of_times in times.values():
        list_of_times.sort()
    return times


def _beside(
    recent: Sequence[Evidence], scanned: list[int], rules: Rules, marked: dict[int, Verdict]
) -> None:
    """Marks opens and clicks close to a machine's click by the same agent."""
    times = _times_by_agent(recent, scanned)
    own = set(scanned)
    for index, event in enumerate(recent):
        near = times.get(event.agent)
        if near is None or index in own:
            continue
        within = rules.open_beside_us if event.event_type == "opened" else rules.click_beside_us
        at = bisect_left(near, event.at - within)
        if within and at < len(near) and near[at] <= event.at + within:
            _raise(marked, index, (MACHINE, "scanner_burst"))
