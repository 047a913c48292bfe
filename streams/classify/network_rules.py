"""Networks of a rules file: parsed, and found by address.

Invariants:
1. Pure. Of several rules that contain an address, the first in the file comes first.
2. Looking an address up takes one step per length of prefix, however many networks there are:
   learned fleets are hundreds of addresses.
"""

import ipaddress
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NetworkRule(NamedTuple):
    """Networks whose events of the given types come from a scanner, or (suspected) may.

    Attributes:
        reason: of the verdict.
        networks: the rule is about events from these.
        events: ``opened``, ``clicked``.
        agents: only by these user agents, whole and in lower case; empty: by any.
        read_on: when they were copied from where they are published; ``None``: they are not.
    """

    reason: str
    networks: tuple[Network, ...]
    events: frozenset[str]
    agents: frozenset[str] = frozenset()
    read_on: date | None = None


class NetworkTable:
    """Finds the rules that contain an address.

    Args:
        rules: in the order in which they are tried.
    """

    def __init__(self, rules: Sequence[NetworkRule]) -> None:
        self._rules = tuple(rules)
        found: dict[tuple[int, int], dict[int, list[int]]] = {}
        for place, rule in enumerate(rules):
            for network in rule.networks:
                shift = network.max_prefixlen - network.prefixlen
                places = found.setdefault((network.version, shift), {})
                places.setdefault(int(network.network_address) >> shift, []).append(place)
        self._places = tuple((version, shift, by) for (version, shift), by in found.items())

    def containing(self, address: Address) -> tuple[NetworkRule, ...]:
        """The rules with a network that contains ``address``, in the file's order."""
        number, version = int(address), address.version
        places: set[int] = set()
        for of_version, shift, by_prefix in self._places:
            if of_version == version:
                places.update(by_prefix.get(number >> shift, ()))
        return tuple(self._rules[place] for place in sorted(places))


def address_of(text: str) -> Address | None:
    """An address, of IPv4 also where it is written in IPv6's form; ``None``: the text is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def beginnings(rules: Sequence[NetworkRule]) -> frozenset[str]:
    """What every IPv4 address in the networks has before its first dot."""
    found: set[str] = set()
    for rule in rules:
        for network in rule.networks:
            if network.version == 4:
                first, last = (int(ip) >> 24 for ip in (network[0], network[-1]))
                found.update(map(str, range(first, last + 1)))
    return frozenset(found)
