"""Which addresses and networks click as only a fleet of scanners does.

What speaks for a machine: its clicks on a message were a machine's beyond doubt (links at once, the
provider's word, its own name), or they came within minutes of the delivery, two links at once, or
at the top of several hours. What speaks for people: lone clicks later than that, and opens that
load their images themselves. One soon click is worth little, since people are quick too: so many of
them, by so many people, without late ones, are what counts.

Invariants:
1. Pure. A fleet is proposed only if nothing speaks against it; each objection is said in words.
2. Nothing wider than a /24 or a /48 is proposed, and that only if many addresses of it clicked and
   none of them as people do; else single addresses, or one user agent at an address that people
   share.
3. People's activity only ever speaks against a fleet: more of it never makes one.
4. Nobody is picked for having been quick: an address is judged by all that came from it, a network
   by all of its addresses.
"""

import ipaddress
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from streams.classify.network_rules import Address, Network

WIDEST_BITS = {4: 24, 6: 48}
SURE_LOG10 = 2.0
"""Worth of a message whose clicks were surely a machine's: at most 1 in 100 of these verdicts is
wrong (``streams.classify.certainty``; a provider's own flag is the least sure of them)."""


@dataclass(frozen=True, slots=True)
class Habit:
    """What came from an address, or from several, in a period. Numbers are of messages.

    Attributes:
        recipients: whose messages were clicked, as hashes; counted up to those of 64 per row.
        days: with clicks, as numbers.
        sure: messages whose clicks were a machine's, certainly or with high certainty, by what
            they were and not by their network.
        soon: others, clicked within minutes of the delivery, on two links within a second, or only
            at the top of several hours.
        later: others, clicked later: as people do.
        opened: messages whose images were loaded as only people do, minutes after the delivery.
        other: clicked messages that say nothing of the address, as those without a delivery, and
            those of user agents that rules know wherever they are.
        surprise: how unlikely it is that people were so soon: the sum, over ``soon``, of
            -log10 of the share of people in the same campaign who were.
    """

    recipients: frozenset[int]
    days: frozenset[int]
    sure: int = 0
    soon: int = 0
    later: int = 0
    opened: int = 0
    other: int = 0
    surprise: float = 0.0

    @property
    def clicked(self) -> int:
        """Clicked messages."""
        return self.sure + self.soon + self.later + self.other

    def with_(self, more: "Habit") -> "Habit":
        """Of both together."""
        return Habit(
            self.recipients | more.recipients, self.days | more.days, self.sure + more.sure,
            self.soon + more.soon, self.later + more.later, self.opened + more.opened,
            self.other + more.other, self.surprise + more.surprise,
        )  # fmt: skip


NOTHING = Habit(frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Seen:
    """What came from one address by one user agent. Addresses of IPv4 are not written as IPv6."""

    address: Address
    agent: str
    habit: Habit


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fleet has at least, and at most. Assumptions: tune them on labelled logs.

    Attributes:
        messages_min: that were clicked as machines do.
        recipients_min: people.
        days_min: distinct days.
        log10_min: evidence, so that of so many (10 to the power of it) addresses with people
            behind them one is expected to be taken for a fleet.
        later_share_max: messages clicked as people do, of all clicked; one message always may
            be: scanners come late too, 3 % of them (measured: craft-campaign issue 546).
        wide_min: addresses of a network that clicked, below which the others of it are left out.
    """

    messages_min: int = 5
    recipients_min: int = 5
    days_min: int = 2
    log10_min: float = 5.0
    later_share_max: float = 0.06
    wide_min: int = 8


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Networks whose clicks are a fleet's.

    Attributes:
        cidrs: at least one.
        agents: only by these user agents; empty: by any.
        habit: what came from there.
    """

    cidrs: tuple[str, ...]
    agents: tuple[str, ...]
    habit: Habit


def evidence(habit: Habit) -> float:
    """-log10 of the chance that people did this, who were late in ``later`` of their messages."""
    judged = habit.soon + habit.later
    choices = math.comb(judged, habit.later) if habit.later else 1
    return habit.surprise + SURE_LOG10 * habit.sure - math.log10(choices)


def objections(habit: Habit, limits: Limits = DEFAULT) -> list[str]:
    """Why what came from somewhere is not a fleet's; empty: it is."""
    scans = habit.sure + habit.soon
    told = [
        f"{found} {what}, fewer than {least}"
        for found, least, what in (
            (scans, limits.messages_min, "messages clicked as machines do"),
            (len(habit.recipients), limits.recipients_min, "recipients"),
            (len(habit.days), limits.days_min, "days"),
        )
        if found < least
    ]
    told += objections_of_people(habit, limits)
    if evidence(habit) < limits.log10_min:
        told.append("people may have been so quick by chance")
    return told


def objections_of_people(habit: Habit, limits: Limits = DEFAULT) -> list[str]:
    """Those that people made by what they did."""
    told = []
    if habit.opened:
        told.append(f"people: {habit.opened} messages opened as people do")
    judged = habit.sure + habit.soon + habit.later
    if habit.later > max(1, limits.later_share_max * judged):
        told.append(f"people: {habit.later} of {judged} messages clicked as people do")
    return told


def total(habits: Iterable[Habit]) -> Habit:
    """Of all together."""
    return reduce(Habit.with_, habits, NOTHING)


def network_of(address: Address) -> Network:
    """The widest network that may be proposed for an address."""
    bits = WIDEST_BITS[address.version]
    return ipaddress.ip_network((int(address), bits), strict=False)


def fleets_of(
    seen: Iterable[Seen],
    is_covered: Callable[[Address, str], bool],
    limits: Limits = DEFAULT,
) -> list[Fleet]:
    """The fleets to propose, those with the most evidence first.

    Args:
        seen: one row per address and user agent.
        is_covered: whether rules judge the clicks of an address, by this user agent, already.
    """
    by_network: dict[Network, dict[Address, dict[str, Habit]]] = defaultdict(dict)
    for one in seen:
        if not is_covered(one.address, one.agent):
            agents = by_network[network_of(one.address)].setdefault(one.address, {})
            agents[one.agent] = agents.get(one.agent, NOTHING).with_(one.habit)
    found: list[Fleet] = []
    for network, addresses in by_network.items():
        found += _of_network(network, addresses, limits)
    return sorted(found, key=lambda fleet: (-evidence(fleet.habit), fleet.cidrs, fleet.agents))


def _of_network(
    network: Network, addresses: dict[Address, dict[str, Habit]], limits: Limits
) -> list[Fleet]:
    """The whole of it, or some of its addresses, or user agents at them."""
    whole = {address: total(agents.values()) for address, agents in addresses.items()}
    free = [address for address in addresses if not _has_people(addresses[address], whole[address])]
    together = total(whole.values())
    if len(free) == len(addresses) > 1 and not objections(together, limits):
        wide = len(free) >= limits.wide_min
        cidrs = [str(network)] if wide else [_cidr(address) for address in sorted(free, key=int)]
        return [Fleet(tuple(cidrs), (), together)]
    found = []
    for address, agents in addresses.items():
        if address in free and not objections(whole[address], limits):
            found.append(Fleet((_cidr(address),), (), whole[address]))
            continue
        scanning = [
            agent for agent, habit in agents.items() if agent and not objections(habit, limits)
        ]
        if scanning:
            habit = total(agents[agent] for agent in scanning)
            found.append(Fleet((_cidr(address),), tuple(sorted(scanning)), habit))
    return found


def _has_people(agents: dict[str, Habit], whole: Habit) -> bool:
    """Whether people share an address: by its user agents, or by most of what it does."""
    shared = any(
        (habit.later or habit.opened) and not habit.sure + habit.soon for habit in agents.values()
    )
    return shared or whole.opened > 0 or whole.later > whole.sure + whole.soon


def _cidr(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def no_longer(
    fleet: Sequence[Network], agents: frozenset[str], seen: Iterable[Seen],
    limits: Limits = DEFAULT,
) -> list[str]:  # fmt: skip
    """Why a fleet that was accepted should go: what people did there since.

    Args:
        fleet: its networks.
        agents: its user agents, in lower case; empty: any.
        seen: one row per address and user agent.
    """
    there = (
        one.habit
        for one in seen
        if not agents or one.agent.strip().lower() in agents
        if any(one.address in network for network in fleet)
    )
    return objections_of_people(total(there), limits)
