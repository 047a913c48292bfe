"""Copies of published networks in a rules file, compared with what is published now.

Invariants:
1. Pure. All else of the file stays; ``version`` is raised only if networks changed.
2. What is published is taken only if it is what the owner's list has been: networks, none wider
   than ``WIDEST``. Whole clouds are refused.
"""

import ipaddress
import json
import re
from collections.abc import Sequence
from datetime import date

import orjson

from streams.classify.actor_rules import Rules
from streams.classify.fleet_rules import NETWORKS, blocks_of, raised
from streams.classify.network_rules import Network, NetworkRule

MICROSOFT = "microsoft_network"
PAGES = {
    MICROSOFT: "https://endpoints.office.com/endpoints/worldwide"
    "?clientrequestid=6f3c8a52-0c7d-4f0e-9b57-3d1c2a9e4b10"
}
"""Reason of a rule -> where its networks are published. The id is any UUID that names the client
(learn.microsoft.com, Microsoft 365 IP address and URL web service)."""
MICROSOFT_SETS = (9, 10)
"""Of the list: Exchange Online Protection. The others carry people."""
WIDEST = {4: 12, 6: 32}
"""Shortest prefixes that are believed; the widest so far are a /14 and a /48."""
NETWORKS_MAX = 1_000
"""Of a set; the longest has 30. A person reads what changed."""
NETWORK_CHARS_MAX = 49
"""Of an IPv6 network; more of what is none is not shown."""
_CIDRS = re.compile(r"^cidrs\s*=\s*\[[^\]]*\]", re.MULTILINE)
_READ_ON = re.compile(r"^read_on\s*=.*$", re.MULTILINE)
PER_LINE = 5


def published(content: bytes | str) -> tuple[Network, ...]:
    """The networks of Microsoft's list that mail is checked from.

    Raises:
        ValueError: it is not the list, or has what can't be.
    """
    try:
        sets = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    if not isinstance(sets, list) or not all(isinstance(one, dict) for one in sets):
        raise ValueError("not a list of sets")
    found = {str(one.get("id")): one.get("ips") for one in sets}
    networks: set[Network] = set()
    for number in MICROSOFT_SETS:
        ips = found.get(str(number))
        if not isinstance(ips, list) or not ips:
            raise ValueError(f"set {number} has no addresses")
        if len(ips) > NETWORKS_MAX:
            raise ValueError(f"set {number} has more than {NETWORKS_MAX:,} addresses")
        networks |= {_network(ip) for ip in ips}
    return tuple(sorted(networks, key=lambda one: (one.version, int(one.network_address))))


def _network(text: object) -> Network:
    if not isinstance(text, str):
        raise ValueError("an address is no text")
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text[:NETWORK_CHARS_MAX]!r} is no network") from None
    if network.prefixlen < WIDEST[network.version]:
        raise ValueError(f"{network} is wider than a /{WIDEST[network.version]}")
    return network


def difference(rule: NetworkRule, now: Sequence[Network]) -> tuple[list[Network], list[Network]]:
    """What is published and not in the rule, and what is no longer published."""
    kept, wanted = set(rule.networks), set(now)
    return [one for one in now if one not in kept], [
        one for one in rule.networks if one not in wanted
    ]


def with_networks(text: str, reason: str, now: Sequence[Network], day: date) -> str:
    """The rules with these networks under a reason, as read on a day.

    Raises:
        ValueError: the text has them in a form that can't be changed.
    """
    rules = Rules.load(text)
    blocks = blocks_of(text)
    mine = f"reason = {json.dumps(reason)}"
    for place, block in enumerate(blocks):
        if block.startswith(NETWORKS) and mine in block and _READ_ON.search(block):
            cidrs = _CIDRS.sub(_listed(now), block, count=1)
            blocks[place] = _READ_ON.sub(f"read_on = {day}", cidrs, count=1)
    made = raised("".join(blocks), rules.version)
    expected = tuple(
        rule._replace(networks=tuple(now), read_on=day)
        if rule.reason == reason and rule.read_on
        else rule
        for rule in rules.networks
    )
    if Rules.load(made).networks != expected or expected == rules.networks:
        raise ValueError(f"networks: {reason} is in a form that can't be changed")
    return made


def _listed(networks: Sequence[Network]) -> str:
    lines = [
        "  " + ", ".join(f'"{one}"' for one in networks[begin : begin + PER_LINE]) + ","
        for begin in range(0, len(networks), PER_LINE)
    ]
    return "\n".join(["cidrs = [", *lines, "]"])
