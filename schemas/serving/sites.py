"""Refuses requests that a browser makes for another site, and keeps answers from other sites.

Invariants:
1. Pure: ``refusal`` is a function of the request; the middleware only applies it.
2. Programs do not send where a request originates, and are accepted. A browser does: by ``Origin``
   (RFC 6454), by ``Sec-Fetch-*`` (Fetch Metadata), and by the name in ``Host`` (DNS rebinding).
   Each of these that is present has to match.
3. No answer may be read (no CORS), embedded or run as a script by another site.

``Sites`` decides which names match: exact ones where everybody who reaches the listener is trusted,
any where callers prove themselves or where nothing needs protection.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"([a-z0-9]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")
"""A name or address, and a port: RFC 3986's host without percent signs, user or trailing dot."""

ANSWER_HEADERS: dict[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; sandbox",
    b"x-frame-options": b"DENY",
    b"cache-control": b"no-store",
}
"""Headers of every answer, unless the application sets them."""


@dataclass(frozen=True, slots=True)
class Sites:
    """The host names that a listener answers to.

    Attributes:
        names: in addition to this machine's loopback and the address that was connected to: in
            lower case, with a port if only that one is accepted.
        any_name: answer to every well-formed name, and without one (HTTP/1.0).
        pages: paths that other sites may link to, such as from a chat message.
        setting: name of the setting that holds ``names``, for the refusal's text.
    """

    names: frozenset[str] = frozenset()
    any_name: bool = False
    pages: frozenset[str] = frozenset()
    setting: str = ""

    @classmethod
    def of_listener(
        cls, host: str, names: Iterable[str] = (), *, setting: str = "", open_: bool = False
    ) -> "Sites":
        """For a listener bound to ``host``.

        Args:
            host: address or name that it is bound to.
            names: configured names.
            setting: the setting that holds them.
            open_: whether it answers to any name if it is not bound to loopback and no names are
                configured.
        """
        told = frozenset(name.lower() for name in names)
        return cls(told, open_ and not told and not is_loopback(host), setting=setting)


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without a port, is this machine's loopback."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def refusal(scope: Message, sites: Sites) -> str:
    """Why a request is refused: a sentence for whoever made it. Empty when it is not.

    Args:
        scope: ASGI's, with the socket's own address in ``server``.
        sites: what the listener answers to.
    """
    headers: Headers = scope["headers"]
    hosts, origins, fetched = (
        _values(headers, name) for name in (b"host", b"origin", b"sec-fetch-site")
    )
    problem = _of_host(hosts, scope.get("server"), sites)
    if problem:
        return problem
    if origins and not (len(origins) == 1 and _is_own(origins[0], hosts, sites)):
        named = f" ({sites.setting} names more)" if sites.setting else ""
        return f"the request was made by a page of another site: Origin does not fit Host{named}"
    if fetched and fetched not in (["same-origin"], ["none"]) and not _is_link(scope, sites):
        return "the request was made by a page of another site (Sec-Fetch-Site)"
    return ""


def _values(headers: Headers, wanted: bytes) -> list[str]:
    found = (value.strip(b" \t").lower() for name, value in headers if name == wanted)
    return [value.decode("latin-1") for value in found]


def _of_host(hosts: Sequence[str], server: Any, sites: Sites) -> str:
    if len(hosts) != 1:
        if not hosts and sites.any_name:
            return ""
        return "a request needs one Host header"
    found = _HOST.fullmatch(hosts[0])
    if found is None or ".." in hosts[0]:
        return "the Host header is not the name of a host"
    if sites.any_name or hosts[0] in sites.names or found[1] in sites.names:
        return ""
    address, port = server or ("", None)
    here = found[1] in LOOPBACK_NAMES or _is_same(found[1], address)
    if here and (found[3] is None or found[3] == str(port)):
        return ""
    named = f"; {sites.setting} names more" if sites.setting else ""
    return f"this answers to its own names only, not to the one in the Host header{named}"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_same(host: str, address: str) -> bool:
    found = _address(host.strip("[]"))
    return host == address or (found is not None and found == _address(address))


def _is_own(origin: str, hosts: Sequence[str], sites: Sites) -> bool:
    """Whether an origin is this listener's own: as in ``Host``, or a name that it was told."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    return parts.netloc in hosts or parts.netloc in sites.names or host in sites.names


def _is_link(scope: Message, sites: Sites) -> bool:
    """Whether a person followed a link to a page: a top-level navigation that changes nothing."""
    headers: Headers = scope["headers"]
    return (
        scope["method"] in ("GET", "HEAD")
        and scope["path"] in sites.pages
        and _values(headers, b"sec-fetch-mode") == ["navigate"]
        and _values(headers, b"sec-fetch-dest") == ["document"]
    )


class SameSite:
    """ASGI middleware: refuses by ``refusal``, and puts ``ANSWER_HEADERS`` on every answer.

    Args:
        app: what answers the rest.
        sites: what the listener answers to.
        refused: makes the body of a refusal (plain text, status 403) of its reason.
    """

    def __init__(
        self, app: App, sites: Sites, refused: Callable[[str], str] = "{}\n".format
    ) -> None:
        self._app = app
        self._sites = sites
        self._refused = refused

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Judges the request, answers it or hands it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _for_no_other_site(message.get("headers", ()))}
            await send(message)

        reason = refusal(scope, self._sites)
        if not reason:
            await self._app(scope, receive, guarded)
            return
        body = self._refused(reason).encode()
        head = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ]
        await guarded({"type": "http.response.start", "status": 403, "headers": head})
        shown = b"" if scope["method"] == "HEAD" else body
        await guarded({"type": "http.response.body", "body": shown})


def _for_no_other_site(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [
        (name, value) for name, value in headers if not name.lower().startswith(b"access-control-")
    ]
    there = {name.lower() for name, _ in kept}
    return kept + [item for item in ANSWER_HEADERS.items() if item[0] not in there]
