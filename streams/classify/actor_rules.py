"""The rules that tell humans and machines apart and judge links, parsed from TOML.

Invariants:
1. The caller passes the text of a file; only the rules shipped with the package are read here.
2. An invalid rules file is rejected as a whole, with the name of the wrong key.
3. ``Rules`` is immutable.
4. Files of an earlier form are read with the meaning that they had: epochs of the past hold them.
   There ``scanner`` is a machine, and what is said nowhere is off.
"""

import ipaddress
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple

from streams.classify.link_rules import (
    LinkRules,
    UnsubscribeRules,
    link_rules,
    unsubscribe_rules,
)
from streams.classify.network_rules import NetworkRule, NetworkTable, beginnings

HUMAN = "human"
MACHINE = "machine"
UNKNOWN = "unknown"
SOON, NO_DELIVERY, TOO_SOON = "soon", "no_delivery_time", "too_soon"
SUSPECTED = "suspected_network"
FLEET = "fleet"
"""Reason of a machine's clicks from learned networks; one that is as sure replaces it."""
BY_TIME_REASONS = frozenset(("", SOON, NO_DELIVERY, TOO_SOON, SUSPECTED))
"""Reasons of verdicts that rest on the time since the delivery, so that more evidence may change
them; a rules file can't give them to others."""
_ACTORS = {"": "", HUMAN: HUMAN, MACHINE: MACHINE, UNKNOWN: UNKNOWN, "scanner": MACHINE}
Verdict = tuple[str, str]
"""Actor and reason."""


class AgentRule(NamedTuple):
    """A verdict by user agent. Texts are in lower case; an empty actor means no verdict."""

    reason: str
    contains: tuple[str, ...]
    equals: frozenset[str]
    opened: str
    clicked: str


class Burst(NamedTuple):
    """Clicks within ``span_us`` of each other, on ``links`` distinct links of a message or more."""

    span_us: int
    links: int
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """A parsed rules file. Compared by identity, so that caches keyed by it stay cheap.

    Attributes:
        version: raised with every change that can change a verdict.
        open_s, click_s: for opens and clicks: one surely less than the first of these after the
            delivery is a machine's, one that may be less than the second is unknown.
        soon_us, later_us: short cuts, whatever the resolution of times: an event of the type less
            than this after the delivery is unknown; one at least that long after it is a human's.
        network_soon_s: how long after delivery a suspected network's open or click is a machine's;
            later it is unknown.
        before_delivery_s_max: how long before delivery still counts as soon.
        bursts: the first that fits gives its reason.
        agents_us: length of a burst of clicks by several agents, microseconds.
        agents_min: distinct user agents in such a burst.
        open_beside_us: an open so close to a machine's click by the same agent is a machine's.
        click_beside_us: the same of a click.
        flags: event type and the provider's word -> verdict.
        agents: checked in order; the first match wins.
        networks: checked in order; the first that contains the address, and names the user agent
            if it names any, wins.
        network_table: finds them by address.
        network_events: types of events that any of them is about.
        beginnings: what the IPv4 addresses in them have before the first dot.
        hidden_links: a click on a link that has one of these in it is a machine's.
        unsubscribe: which links unsubscribe.
        links: which links are one group.
    """

    version: int
    open_s: tuple[float, float]
    click_s: tuple[float, float]
    soon_us: Mapping[str, float]
    later_us: float
    network_soon_s: float
    before_delivery_s_max: float
    bursts: tuple[Burst, ...]
    agents_us: int
    agents_min: int
    open_beside_us: int
    click_beside_us: int
    flags: Mapping[tuple[str, str], Verdict]
    agents: tuple[AgentRule, ...]
    networks: tuple[NetworkRule, ...]
    network_table: NetworkTable
    network_events: frozenset[str]
    beginnings: frozenset[str]
    hidden_links: tuple[str, ...]
    unsubscribe: UnsubscribeRules
    links: LinkRules

    @staticmethod
    def load(text: str) -> "Rules":
        """Parses a rules file, in the form of ``streams/classify/tables/machines.toml``.

        Raises:
            ValueError: not TOML, or a value is missing or wrong; the message names the key.
        """
        try:
            document = tomllib.loads(text)
        except RecursionError:
            raise ValueError("lists or tables lie too deep within each other") from None
        timing = _table(document, "timing")
        burst = _table(document, "burst")
        burst_us = _microseconds(burst, "seconds")
        times = _times(timing, "open"), _times(timing, "click")
        networks = tuple(_network_rule(entry) for entry in _list(document, "networks"))
        flags = _list(document, "flags") if "flags" in document else _FLAGS_OF_FORM_1
        return Rules(
            version=_whole(document, "version", 1),
            open_s=times[0],
            click_s=times[1],
            soon_us={
                kind: 0 if math.isfinite(too_soon_s) else unknown_s * 1e6
                for kind, (too_soon_s, unknown_s) in zip(_JUDGED, times, strict=True)
            },
            later_us=(max(0, *times[0], *times[1]) + 1) * 1e6,
            network_soon_s=_number(timing, "network_soon_s", 0, 0),
            before_delivery_s_max=_number(timing, "before_delivery_s_max", 0),
            bursts=(
                *(_burst(entry) for entry in _list(document, "bursts")),
                # at least two: one person may click two links, or use a phone and a desktop
                Burst(burst_us, _whole(burst, "links_min", 2), (MACHINE, "all_links_clicked")),
            ),
            agents_us=burst_us,
            agents_min=_whole(burst, "agents_min", 2),
            open_beside_us=_microseconds(burst, "open_beside_s", burst_us / 1e6),
            click_beside_us=_microseconds(burst, "click_beside_s", 0),
            flags={key: verdict for entry in flags for key, verdict in _flag(entry)},
            agents=tuple(_agent_rule(entry) for entry in _list(document, "agents")),
            networks=networks,
            network_table=NetworkTable(networks),
            network_events=frozenset().union(*(rule.events for rule in networks)),
            beginnings=beginnings(networks),
            hidden_links=_texts(document, "hidden_links"),
            unsubscribe=unsubscribe_rules(document),
            links=link_rules(document),
        )


_JUDGED = ("opened", "clicked")
WHOLE_MAX = 2**31 - 1
"""Of Avro's int, in which records carry the version of rules."""
SECONDS_MAX = 2**31 - 1
"""Longest span of a burst: 68 years."""
_FLAGS_OF_FORM_1 = [
    {"kind": "apple_mpp", "reason": "apple_mpp", "opened": MACHINE, "clicked": MACHINE},
    {"kind": "gmail_proxy", "reason": "gmail_proxy", "opened": MACHINE, "clicked": MACHINE},
    {"kind": "prefetch", "reason": "provider_flag", "opened": MACHINE, "clicked": MACHINE},
    {"kind": "scanner", "reason": "provider_flag", "opened": MACHINE, "clicked": MACHINE},
    {"kind": "unknown", "reason": "provider_flag", "opened": MACHINE, "clicked": MACHINE},
]
"""What a provider's flag meant before files said it."""


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


def _number(table: dict[str, Any], key: str, least: float, default: float | None = None) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ValueError(f"{key}: must be a number of at least {least}")
    return value


def _whole(table: dict[str, Any], key: str, least: int) -> int:
    """A number without its fraction, at most what records can hold."""
    value = _number(table, key, least)
    if value > WHOLE_MAX:
        raise ValueError(f"{key}: must be at most {WHOLE_MAX}")
    return int(value)


def _microseconds(table: dict[str, Any], key: str, default: float | None = None) -> int:
    value = _number(table, key, 0, default)
    if value > SECONDS_MAX:
        raise ValueError(f"{key}: must be at most {SECONDS_MAX} seconds")
    return round(value * 1_000_000)


def _texts(table: dict[str, Any], key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{key}: must be a list of texts, none of them empty")
    return tuple(value)


def _reason(table: dict[str, Any]) -> str:
    value = table.get("reason")
    if not isinstance(value, str) or not value:
        raise ValueError("reason: must be a text")
    if value in BY_TIME_REASONS:
        raise ValueError(f"reason: {value!r} is what verdicts by time say")
    return value


def _actors(table: dict[str, Any]) -> dict[str, str]:
    actors = {key: table.get(key, "") for key in ("opened", "clicked")}
    for key, actor in actors.items():
        if not isinstance(actor, str) or actor not in _ACTORS:
            raise ValueError(f"{key}: must be human, machine or unknown, not {actor!r}")
    return {key: _ACTORS[actor] for key, actor in actors.items()}


def _flag(table: dict[str, Any]) -> list[tuple[tuple[str, str], Verdict]]:
    kind, reason = table.get("kind"), _reason(table)
    if not isinstance(kind, str) or not kind:
        raise ValueError("kind: must be a text")
    actors = _actors(table).items()
    return [((event_type, kind), (actor, reason)) for event_type, actor in actors if actor]


def _burst(table: dict[str, Any]) -> Burst:
    actor = table.get("actor")
    if actor not in (MACHINE, UNKNOWN):
        raise ValueError(f"actor: must be machine or unknown, not {actor!r}")
    links = _whole(table, "links_min", 2)
    return Burst(_microseconds(table, "seconds"), links, (actor, _reason(table)))


def _times(table: dict[str, Any], kind: str) -> tuple[float, float]:
    """Below which time a kind of event is a machine's, and unknown; 0: never."""
    too_soon_s = _number(table, f"{kind}_too_soon_s", 0)
    unknown_s = _number(table, f"{kind}_unknown_s", 0, 0)
    return too_soon_s or -math.inf, unknown_s or -math.inf


def _agent_rule(table: dict[str, Any]) -> AgentRule:
    actors = _actors(table)
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
    suspected = table.get("suspected", False)
    if not isinstance(suspected, bool):
        raise ValueError("suspected: must be true or false")
    agents = frozenset(text.strip().lower() for text in _texts(table, "agents"))
    read_on = table.get("read_on")
    if read_on is not None and type(read_on) is not date:
        raise ValueError("read_on: must be a date, such as 2026-11-26")
    reason = SUSPECTED if suspected else _reason(table)
    return NetworkRule(reason, networks, events, agents, read_on)


DEFAULT_RULES = Rules.load(
    files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
)
"""The rules that ship with mailpulse."""
