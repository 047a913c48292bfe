"""The client's address and scheme, by the trusted-proxy rules; allow-lists.

Invariants:
1. Pure.
2. ``X-Forwarded-*`` is used only from a proxy that is configured as trusted. The client is the
   right-most address of the chain that is not such a proxy: the client may have written everything
   to the left of it.
3. The scheme is that of the client's own connection: of the values of ``X-Forwarded-Proto``, the
   one at the same position from the right as the client's address. Proxies that pass the header on,
   or replace it, leave fewer values: then all must be ``https``.
4. An address that can't be parsed is in no allow-list.
5. RFC 7239's ``Forwarded`` is ignored: no proxy writes it by default, and a proxy that does not
   would pass on the client's own.
6. Results are cached, within limits: a provider calls from few addresses.
"""

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

FORWARDED_CHARS_MAX = 4_096
"""Longest chain of proxies that is evaluated and cached; with a longer one there is no client."""
FORWARDED = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
)  # fmt: skip
"""Headers that show that a request came through some proxy."""
_TRACES = frozenset(FORWARDED)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(text: str) -> Address | None:
    """The address in ``text``: bare, in brackets, or with a port; ``None`` if it is not one.

    An IPv4 address mapped into IPv6 gives that IPv4 address.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_key(address: Address | None) -> str:
    """The client that an address is counted for by limits: in IPv6 a whole /64.

    Never empty: unknown addresses are one client together.
    """
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


class Networks:
    """A set of networks, IPv4 and IPv6."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[_Network, ...] = tuple(
            ipaddress.ip_network(item, strict=False) for item in networks
        )

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        return address is not None and any(address in network for network in self._networks)


@dataclass(frozen=True)
class Origin:
    """Where a request comes from.

    Attributes:
        address: the client's, ``None`` if it is unknown.
        https: whether the client itself spoke TLS, to us or to a trusted proxy.
    """

    address: Address | None
    https: bool

    @cached_property
    def client(self) -> str:
        """The address as text, empty if it is unknown."""
        return "" if self.address is None else str(self.address)

    @cached_property
    def key(self) -> str:
        """The client that limits count this for."""
        return client_key(self.address)

    @cached_property
    def safe(self) -> bool:
        """Whether the client spoke TLS, or is on this machine, see ``came_over_a_network``."""
        return self.https or (self.address is not None and self.address.is_loopback)


def origin_of(
    peer: str, scheme: str, forwarded_for: str, forwarded_proto: str, trusted: Networks
) -> Origin:
    """The origin of a request.

    Args:
        peer: address at the other end of the socket.
        scheme: ``http`` or ``https``, of the socket.
        forwarded_for: every ``X-Forwarded-For`` value, joined by commas in their order.
        forwarded_proto: every ``X-Forwarded-Proto`` value, likewise.
        trusted: the proxies whose headers are used.
    """
    if not _is_trusted(peer, trusted):
        return _direct(peer, scheme)
    if len(forwarded_for) + len(forwarded_proto) > FORWARDED_CHARS_MAX:
        return Origin(None, False)
    return _forwarded(peer, scheme, forwarded_for, forwarded_proto, trusted)


@lru_cache(maxsize=4096)
def _is_trusted(peer: str, trusted: Networks) -> bool:
    return bool(trusted) and address_of(peer) in trusted


@lru_cache(maxsize=4096)
def _direct(peer: str, scheme: str) -> Origin:
    return Origin(address_of(peer), scheme == "https")


@lru_cache(maxsize=4096)
def _forwarded(
    peer: str, scheme: str, forwarded_for: str, forwarded_proto: str, trusted: Networks
) -> Origin:
    address = address_of(peer)
    https = scheme == "https"
    hops_behind = -1
    for hop in reversed(forwarded_for.split(",")) if forwarded_for else ():
        address = address_of(hop)
        hops_behind += 1
        if address not in trusted:
            break
    if forwarded_proto:
        schemes = [one.strip().lower() for one in forwarded_proto.split(",")]
        behind = max(hops_behind, 0)
        if behind < len(schemes):
            https = schemes[-1 - behind] == "https"
        else:
            https = all(one == "https" for one in schemes)
    return Origin(address, https)


def came_over_a_network(
    origin: Origin, peer: str, names: Collection[str], trusted: Networks
) -> bool:
    """Whether somebody on a network could have read or changed the request.

    A loopback address is a client on this machine only if there is no proxy between: an untrusted
    proxy on this machine leaves its headers, and a trusted one names the client, unless it is not
    set up to.

    Args:
        names: of the request's headers, in lower case.
    """
    if origin.https or not origin.safe:
        return not origin.https
    if _is_trusted(peer, trusted):
        return "x-forwarded-for" not in names
    return not _TRACES.isdisjoint(names)


def why_unsafe(peer: str, trusted: Networks) -> str:
    """For the log: who came without TLS, and whether its ``X-Forwarded-*`` was used."""
    address = address_of(peer)
    if address in trusted:
        return f"plain HTTP from {peer}"
    if address is not None and address.is_loopback:
        return f"by a proxy at {peer} that is not in MAILPULSE_TRUSTED_PROXIES"
    return f"plain HTTP from {peer}, no trusted proxy"
