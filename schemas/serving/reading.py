"""Refuses requests that two parsers could read in two ways.

Invariants:
1. Pure.
2. A proxy in front and the server behind it agree on a request's host and end: it has one Host (RFC
   9112, 3.2), and no transfer coding but ``chunked``, in HTTP/1.1 only (6.1).
3. A request with a body must not ask for an upgrade: httptools would take the body for the next
   request, whose headers the client could choose. One without a body may (RFC 9110, 7.8, lets a
   server ignore it): Apache's HttpClient asks for TLS with each GET.
"""

from collections.abc import Sequence

HEADERS_MAX = 256
"""Headers of one request: clients and their proxies send about 50. A limit on bytes does not bound
the work on them: 32 kB hold 16,000, and a look-up of each takes time quadratic in their number.
"""


def fault_of(
    headers: Sequence[tuple[bytes, bytes]], version: str, *, upgrades: bool
) -> tuple[int, str] | None:
    """Status and code of the refusal of a request; ``None`` if it is accepted.

    Args:
        headers: names in lower case.
        version: of HTTP, such as ``1.1``.
        upgrades: whether the request asks for another protocol.
    """
    if len(headers) > HEADERS_MAX:
        return 431, "too_many_headers"
    hosts, has_body = 0, False
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            has_body = value.strip() != b"0"
        elif name == b"transfer-encoding":
            has_body = True
            if value.lower() != b"chunked":
                return 501, "transfer_coding"
            if version == "1.0":
                return 400, "transfer_coding"
    if version not in ("1.1", "1.0"):
        return 505, "not_http"
    if hosts != 1 and (hosts or version == "1.1"):
        return 400, "host_invalid"
    return (400, "upgrade") if upgrades and has_body else None
