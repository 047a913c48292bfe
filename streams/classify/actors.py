"""Decides whether an open or click came from a human, a machine acting for one, or a scanner.

Invariants:
1. Pure: rules are a value, time is a difference or the event's own time.
2. Two steps. ``by_itself`` and ``by_time`` judge an event alone; ``rejudge`` corrects that with
   the recent events of the same message.
3. A correction only turns human into scanner. It depends on the events' types, times, links and
   agents, and on which clicks are attributed to a scanner. So the order of the list does not
   matter, running ``rejudge`` again changes nothing, and later evidence never undoes a correction.
4. Input from outside never raises; an invalid rules file does, at start.
5. No event is dropped: a verdict is a label with a reason (``schemas/glossary.py``).
"""

import ipaddress
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from streams.classify.actor_rules import (
    DEFAULT_RULES,
    HUMAN,
    MACHINE,
    SCANNER,
    Rules,
)
from streams.classify.unsubscribe import unsubscribes

__all__ = [
    "DEFAULT_RULES", "Evidence", "Rules", "by_itself", "by_time", "rejudge", "unsubscribes",
    "verdict_alone",
]  # fmt: skip

NOT_JUDGED = ("none", "")
JUDGED_HUMAN = (HUMAN, "")

AGENTS_CACHED_MAX = 16_384
"""Distinct user agents cached per process; about 300 bytes each, at most 2 kB."""
ADDRESSES_CACHED_MAX = 65_536
"""Distinct IP addresses cached per process, if the rules name networks."""

_PROVIDER_KINDS: dict[tuple[str, str], tuple[str, str]] = {
    # (event_type, machine_kind): a click before the human's is a scan; a proxy stays a proxy
    ("opened", "apple_mpp"): (MACHINE, "apple_mpp"),
    ("opened", "gmail_proxy"): (MACHINE, "gmail_proxy"),
    ("opened", "prefetch"): (MACHINE, "provider_flag"),
    ("opened", "unknown"): (MACHINE, "provider_flag"),
    ("opened", "scanner"): (SCANNER, "provider_flag"),
    ("clicked", "apple_mpp"): (MACHINE, "apple_mpp"),
    ("clicked", "gmail_proxy"): (MACHINE, "gmail_proxy"),
    ("clicked", "prefetch"): (SCANNER, "provider_flag"),
    ("clicked", "unknown"): (SCANNER, "provider_flag"),
    ("clicked", "scanner"): (SCANNER, "provider_flag"),
}


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _by_agent(
    event_type: str, machine_kind: str, user_agent: str | None, rules: Rules
) -> tuple[str, str] | None:
    flagged = _PROVIDER_KINDS.get((event_type, machine_kind))
    if flagged is not None:
        return flagged
    if not user_agent:
        return None
    agent = user_agent.strip().lower()
    for rule in rules.agents:
        actor = rule.opened if event_type == "opened" else rule.clicked
        if actor and (agent in rule.equals or any(mark in agent for mark in rule.contains)):
            return (actor, rule.reason if actor != HUMAN else "")
    return None


@lru_cache(maxsize=ADDRESSES_CACHED_MAX)
def _by_network(event_type: str, ip: str, rules: Rules) -> tuple[str, str] | None:
    try:
        address = ipaddress.ip_address(ip.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for rule in rules.networks:
        if event_type in rule.events and any(address in network for network in rule.networks):
            return (SCANNER, rule.reason)
    return None


def by_itself(
    event_type: str,
    machine_kind: str,
    user_agent: str | None,
    ip: str | None,
    rules: Rules = DEFAULT_RULES,
) -> tuple[str, str] | None:
    """Judges one open or click by the provider's flag, the user agent or the network.

    A provider that flags no machine proves nothing: SendGrid's flag covers Apple only.

    Args:
        event_type: ``opened`` or ``clicked``.
        machine_kind: a value of ``MachineKind``, as the provider reports it.
        user_agent: as the provider reports it.
        ip: address of the client, IPv4 or IPv6; anything else is ignored.
        rules: thresholds, user agents and networks.

    Returns:
        ``(actor, reason)``, as ``verdict_alone``; ``None`` if none of them says anything.
    """
    verdict = _by_agent(event_type, machine_kind, user_agent, rules)
    if verdict is None and ip and rules.networks:
        verdict = _by_network(event_type, ip, rules)
    return verdict


def by_time(
    event_type: str, seconds_since_delivery: float, rules: Rules = DEFAULT_RULES
) -> tuple[str, str] | None:
    """Judges an open or click by the time since the delivery, negative if it precedes that.

    Returns:
        ``(actor, reason)`` of one that came too soon for a human; else ``None``.
    """
    if seconds_since_delivery < -rules.before_delivery_s_max:
        return None
    if event_type == "opened":
        return (MACHINE, "too_soon") if seconds_since_delivery < rules.open_too_soon_s else None
    return (SCANNER, "too_soon") if seconds_since_delivery < rules.click_too_soon_s else None


def verdict_alone(
    event_type: str,
    machine_kind: str,
    user_agent: str | None,
    ip: str | None,
    seconds_since_delivery: float | None,
    rules: Rules = DEFAULT_RULES,
) -> tuple[str, str]:
    """Judges one event without the others of its message: ``by_itself``, then ``by_time``.

    Args:
        event_type: a value of ``EventType``.
        seconds_since_delivery: ``None`` if unknown.

    Returns:
        ``(actor, reason)``; the reason for a human is ``""``; ``("none", "")`` for an event that is
        neither an open nor a click. Reasons: ``provider_flag``, ``apple_mpp``, ``gmail_proxy``,
        ``too_soon``, and those of the rules file (as shipped: ``yahoo_proxy``, ``prefetch_ua``,
        ``preview_ua``, ``program_ua``, ``scanner_ua``, ``scanner_network``).
    """
    if event_type != "opened" and event_type != "clicked":
        return NOT_JUDGED
    verdict = by_itself(event_type, machine_kind, user_agent, ip, rules)
    if verdict is None and seconds_since_delivery is not None:
        verdict = by_time(event_type, seconds_since_delivery, rules)
    return verdict or JUDGED_HUMAN


class Evidence(NamedTuple):
    """What ``rejudge`` needs to know about a recent event of a message.

    Attributes:
        event_type: a value of ``EventType``; only opens and clicks matter.
        at: event time, microseconds since 1970.
        actor: current verdict.
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

    - ``all_links_clicked``: a click within a span of ``burst_us`` that has clicks on ``links_min``
      or more distinct links.
    - ``many_agents``: the same with ``agents_min`` or more distinct user agents.
    - ``scanner_burst``: an open within ``burst_us`` of a scanner's click, by the same user agent.

    Args:
        recent: opens and clicks of one message and recipient, in any order.
        rules: thresholds.

    Returns:
        ``(index into recent, new actor, new reason)``, ordered by index, for each verdict that
        changes; always from human to scanner.
    """
    clicks = [index for index, event in enumerate(recent) if event[0] == "clicked"]
    if not clicks:
        return []
    changes: list[tuple[int, str, str]] = []
    marked: dict[int, str] = {}
    if len(clicks) >= min(rules.links_min, rules.agents_min):
        clicks.sort(key=lambda index: recent[index].at)
        agents = _in_bursts(recent, clicks, rules.burst_us, _agent_of, rules.agents_min)
        marked = dict.fromkeys(agents, "many_agents")
        for index in _in_bursts(recent, clicks, rules.burst_us, _link_of, rules.links_min):
            marked[index] = "all_links_clicked"  # more specific than ``many_agents``
        for index, reason in marked.items():
            if recent[index].actor == HUMAN:
                changes.append((index, SCANNER, reason))
    if len(clicks) < len(recent):
        scanned = [i for i in clicks if i in marked or recent[i].actor == SCANNER]
        if scanned:
            changes += _opens_beside(recent, scanned, rules.burst_us)
    changes.sort()
    return changes


_link_of = itemgetter(4)
_agent_of = itemgetter(5)


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


def _opens_beside(
    recent: Sequence[Evidence], scanned: list[int], burst_us: int
) -> list[tuple[int, str, str]]:
    """Human opens within ``burst_us`` of a scanner's click by the same agent, as changes."""
    times: dict[int, list[int]] = {}
    for index in scanned:
        times.setdefault(recent[index].agent, []).append(recent[index].at)
    for list_of_times in times.values():
        list_of_times.sort()
    changes = []
    for index, event in enumerate(recent):
        if event.event_type != "opened" or event.actor != HUMAN or not event.agent:
            continue
        near = times.get(event.agent)
        if near:
            at = bisect_left(near, event.at - burst_us)
            if at < len(near) and near[at] <= event.at + burst_us:
                changes.append((index, SCANNER, "scanner_burst"))
    return changes
