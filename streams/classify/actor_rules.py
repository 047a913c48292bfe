"""The rules that tell humans, machines and scanners apart and judge links, parsed from TOML.

Invariants:
1. The caller passes the text of a file; only the rules shipped with the package are read here.
2. An invalid rules file is rejected as a whole, with the name of the wrong key.
3. ``Rules`` is immutable.
"""

import ipaddress
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from streams.classify.link_rules import (
    LinkRules,
    UnsubscribeRules,
    link_rules,
    unsubscribe_rules,
)

HUMAN = "human"
MACHINE = "machine"
SCANNER = "scanner"


class AgentRule(NamedTuple):
    """A verdict by user agent. Texts are in lower case; an empty actor means no verdict."""

    reason: str
    contains: tuple[str, ...]
    equals: frozenset[str]
    opened: str
    clicked: str


class NetworkRule(NamedTuple):
    """Networks whose events of the given types come from a scanner."""

    reason: str
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    events: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """A parsed rules file. Compared by identity, so that caches keyed by it stay cheap.

    Attributes:
        version: raised with every change that can change a verdict.
        open_too_soon_s: an open less than this after delivery is attributed to a machine.
        click_too_soon_s: a click less than this after delivery is attributed to a scanner.
        before_delivery_s_max: how long before delivery still counts as too soon.
        burst_us: length of a burst of clicks, microseconds.
        links_min: distinct links in a burst from which on it is attributed to a scanner.
        agents_min: distinct user agents in a burst from which on it is attributed to a scanner.
        agents: checked in order; the first match wins.
        networks: checked in order; the first that contains the address wins.
        unsubscribe: which links unsubscribe.
        links: which links are one group.
    """

    version: int
    open_too_soon_s: float
    click_too_soon_s: float
    before_delivery_s_max: float
    burst_us: int
    links_min: int
    agents_min: int
    agents: tuple[AgentRule, ...]
    networks: tuple[NetworkRule, ...]
    unsubscribe: UnsubscribeRules
    links: LinkRules

    @staticmethod
    def load(text: str) -> "Rules":
        """Parses a rules file, in the form of ``streams/classify/tables/machines.toml``.

        Raises:
            ValueError: not TOML, or a value is missing or wrong; the message names the key.
        """
        document = tomllib.loads(text)
        timing = _table(document, "timing")
        burst = _table(document, "burst")
        return Rules(
            version=int(_number(document, "version", 1)),
            open_too_soon_s=_number(timing, "open_too_soon_s", 0),
            click_too_soon_s=_number(timing, "click_too_soon_s", 0),
            before_delivery_s_max=_number(timing, "before_delivery_s_max", 0),
            burst_us=round(_number(burst, "seconds", 0) * 1_000_000),
            # at least two: one person may click two links, or use a phone and a desktop
            links_min=int(_number(burst, "links_min", 2)),
            agents_min=int(_number(burst, "agents_min", 2)),
            agents=tuple(_agent_rule(entry) for entry in _list(document, "agents")),
            networks=tuple(_network_rule(entry) for entry in _list(document, "networks")),
            unsubscribe=unsubscribe_rules(document),
            links=link_rules(document),
        )


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key}: table is missing")
    return value


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{key}: must be a list of tables")
    return value


def _number(table: dict[str, Any], key: str, least: float) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ValueError(f"{key}: must be a number of at least {least}")
    return value


def _texts(table: dict[str, Any], key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{key}: must be a list of texts, none of them empty")
    return tuple(value)


def _reason(table: dict[str, Any]) -> str:
    value = table.get("reason")
    if not isinstance(value, str) or not value:
        raise ValueError("reason: must be a text")
    return value


def _agent_rule(table: dict[str, Any]) -> AgentRule:
    actors = {key: table.get(key, "") for key in ("opened", "clicked")}
    for key, actor in actors.items():
        if actor not in ("", HUMAN, MACHINE, SCANNER):
            raise ValueError(f"{key}: must be human, machine or scanner, not {actor!r}")
    return AgentRule(
        reason=_reason(table),
        contains=tuple(text.lower() for text in _texts(table, "contains")),
        equals=frozenset(text.lower() for text in _texts(table, "equals")),
        opened=actors["opened"],
        clicked=actors["clicked"],
    )


def _network_rule(table: dict[str, Any]) -> NetworkRule:
    events = frozenset(_texts(table, "events", ("opened", "clicked")))
    if not events <= {"opened", "clicked"}:
        raise ValueError("events: only opened and clicked can be judged")
    try:
        networks = tuple(ipaddress.ip_network(cidr) for cidr in _texts(table, "cidrs"))
    except ValueError as error:
        raise ValueError(f"cidrs: {error}") from error
    return NetworkRule(_reason(table), networks, events)


DEFAULT_RULES = Rules.load(
    files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
)
"""The rules that ship with mailpulse."""
