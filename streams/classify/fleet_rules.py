"""A rules file with learned fleets, for a person to read, edit and accept.

Invariants:
1. Pure. All of the given rules stays, comments too, except fleets that are told to go; ``version``
   is raised.
2. What is returned parses, and its networks are the new fleets before the given ones: the first
   that contains an address wins, and a suspected wider network would hide a fleet.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from streams.classify.actor_rules import FLEET, SUSPECTED, Rules
from streams.classify.fleets import WIDEST_BITS, Fleet, Seen, fleets_of, no_longer
from streams.classify.network_rules import Address, Network, NetworkRule, NetworkTable

_CLICKED = frozenset(("clicked",))
_VERSION = re.compile(r"^version\s*=\s*\d+", re.MULTILINE)
_TABLES = re.compile(r"^(?=\[)", re.MULTILINE)
NETWORKS = "[[networks]]"
"""How a table of networks begins."""


def fleets_in(rules: Rules) -> tuple[NetworkRule, ...]:
    """The fleets that a rules file has."""
    return tuple(rule for rule in rules.networks if rule.reason == FLEET)


class Covered:
    """Whether rules take the clicks of an address for a machine's already.

    A suspected network covers nothing: its later clicks stay unknown.
    """

    def __init__(self, rules: Rules) -> None:
        self._table = NetworkTable(
            [
                rule
                for rule in rules.networks
                if "clicked" in rule.events and rule.reason != SUSPECTED
            ]
        )

    def __call__(self, address: Address, agent: str) -> bool:
        """Of clicks by this user agent."""
        found = self._table.containing(address)
        return any(not rule.agents or agent.strip().lower() in rule.agents for rule in found)


def with_fleets(
    text: str, fleets: Sequence[Fleet], day: str, gone: Collection[NetworkRule] = ()
) -> str:
    """The rules in ``text`` with the fleets, which judge clicks only: opens may be people's.

    Args:
        text: a rules file.
        fleets: those proposed.
        day: when they were learned, as in 2026-11-28.
        gone: fleets of the file that are left out.

    Raises:
        ValueError: ``text`` is no rules file, a fleet's network is none or too wide, or the text
            has its networks or version in a form that can't be changed.
    """
    rules = Rules.load(text)
    new = tuple(_rule(fleet) for fleet in fleets)
    blocks = [block for block in blocks_of(text) if not _is_one_of(block, gone)]
    place = next((n for n, one in enumerate(blocks) if one.startswith(NETWORKS)), len(blocks))
    if place and not blocks[place - 1].endswith("\n"):
        blocks[place - 1] += "\n"
    blocks[place:place] = [_entry(fleet, day) for fleet in fleets]
    made = raised("".join(blocks), rules.version)
    loaded = Rules.load(made)
    expected = *new, *(rule for rule in rules.networks if rule not in gone)
    if loaded.version != rules.version + 1 or loaded.networks != expected:
        raise ValueError("version, networks: in a form that fleets can't be added to")
    return made


def blocks_of(text: str) -> list[str]:
    """A rules file, cut where a table begins; comments belong to the table before them."""
    return _TABLES.split(text)


def raised(text: str, version: int) -> str:
    """A rules file with the version after ``version``."""
    return _VERSION.sub(f"version = {version + 1}", text, count=1)


def _rule(fleet: Fleet) -> NetworkRule:
    networks = tuple(ipaddress.ip_network(cidr) for cidr in fleet.cidrs)
    for network in networks:
        if network.prefixlen < WIDEST_BITS[network.version]:
            raise ValueError(f"{network}: wider than a /{WIDEST_BITS[network.version]}")
    agents = frozenset(agent.strip().lower() for agent in fleet.agents)
    return NetworkRule(FLEET, networks, _CLICKED, agents)


def _is_one_of(block: str, gone: Collection[NetworkRule]) -> bool:
    """Whether a table of the file is one of these fleets.

    Raises:
        ValueError: it can't be read by itself.
    """
    if not gone or not block.startswith(NETWORKS):
        return False
    (table,) = tomllib.loads(block)["networks"]
    if table.get("reason") != FLEET:
        return False
    networks = tuple(ipaddress.ip_network(cidr) for cidr in table.get("cidrs", ()))
    agents = frozenset(agent.strip().lower() for agent in table.get("agents", ()))
    return any(rule.networks == networks and rule.agents == agents for rule in gone)


def _entry(fleet: Fleet, day: str) -> str:
    return "".join(f"{line}\n" for line in _lines(fleet, day)) + "\n"


def _lines(fleet: Fleet, day: str) -> Iterator[str]:
    habit = fleet.habit
    yield NETWORKS
    yield (
        f"# Learned on {day}: {habit.clicked:,} messages to {recipients(fleet)} recipients on"
        f" {len(habit.days)} days,"
    )
    yield (
        f"# surely a machine's {habit.sure:,}, within minutes of the delivery {habit.soon:,}, later"
        f" {habit.later:,}."
    )
    yield f"reason = {json.dumps(FLEET)}"
    yield f"cidrs = [{', '.join(json.dumps(cidr) for cidr in fleet.cidrs)}]"
    if fleet.agents:
        yield f"agents = [{', '.join(_quoted(agent) for agent in fleet.agents)}]"
    yield 'events = ["clicked"]'


def recipients(fleet: Fleet) -> str:
    """How many recipients: hashes are kept of the first 64 per address and user agent."""
    number = len(fleet.habit.recipients)
    return f"{number:,}" if number < 64 else f"at least {number:,}"


def _quoted(agent: str) -> str:
    """A user agent as TOML, whose escapes are JSON's.

    A person reads the file: characters that a terminal obeys, or that hide or turn the text around
    them, are escaped.
    """
    return "".join(
        char if char.isprintable() else f"\\U{ord(char):08x}"
        for char in json.dumps(agent, ensure_ascii=False)
    )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be accepted.

    Attributes:
        fleets: new ones.
        gone: fleets of the rules in force that are left out, and why.
        text: the rules file.
    """

    fleets: list[Fleet]
    gone: dict[NetworkRule, list[str]]
    text: str

    @property
    def networks(self) -> list[Network]:
        """All networks that it is about."""
        new = [ipaddress.ip_network(cidr) for fleet in self.fleets for cidr in fleet.cidrs]
        return [*new, *(network for rule in self.gone for network in rule.networks)]


def proposal_of(text: str, seen: Sequence[Seen], day: str) -> Proposal | None:
    """The fleets to learn from what was seen, and the rules with them; ``None``: nothing changes.

    Args:
        text: the rules in force.
        day: today, as in 2026-11-28.

    Raises:
        ValueError: fleets can't be added to the rules' text.
    """
    rules = Rules.load(text)
    fleets = fleets_of(seen, Covered(rules))
    gone = {
        rule: said
        for rule in fleets_in(rules)
        if (said := no_longer(rule.networks, rule.agents, seen))
    }
    if not fleets and not gone:
        return None
    return Proposal(fleets, gone, with_fleets(text, fleets, day, gone))
