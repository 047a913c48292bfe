"""Which addresses requests may go to: public ones, and networks that the destination names.

Invariants:
1. Pure. What is judged is the address itself, and the IPv4 address inside an IPv6 one (mapped,
   NAT64, 6to4): the connection would end there.
2. In doubt an address is not public.

Sources: IANA's special-purpose address registries, as in ``ipaddress``; RFC 4291, §2.5.5.2; RFC
6052; RFC 3056; RFC 4380.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: tuple[Network, ...] = (
    ipaddress.ip_network("0.0.0.0/8"),
    ipaddress.ip_network("100.64.0.0/10"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's own services, seen from its machines
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("100::/64"),
    ipaddress.ip_network("2001::/23"),  # Teredo too
    ipaddress.ip_network("fec0::/10"),
    ipaddress.ip_network("3fff::/20"),
    ipaddress.ip_network("5f00::/16"),
)
"""What Python versions disagree on, or calls global although it is no host's."""


def may_go_to(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a request may go to an address.

    Args:
        text: the address as a resolver gives it, perhaps with a zone (``fe80::1%eth0``).
        allowed: networks that the destination names.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    inner = _inside(address)
    named = any(
        one in network for one in {address, inner} for network in allowed
        if one.version == network.version
    )  # fmt: skip
    return named or (_is_public(inner) and (inner is not address or _is_public(address)))


def _inside(address: Address) -> Address:
    """The IPv4 address that packets for an IPv6 address end at; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    special = any(address in net for net in _NOT_PUBLIC if net.version == address.version)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)
