"""Takes a clicked link apart, and names the group of links that it belongs to.

Invariants:
1. Pure and total: any text is read, none raises, and the same text always gives the same result.
2. A group is a label for counting, not an address to follow. Grouping a group changes nothing.
3. Nothing is decoded that would change what a link means: of percent-encoding only that of
   unreserved characters is undone (RFC 3986 §6.2.2.2), so ``%2F`` stays apart from ``/``.

Sources: RFC 3986 appendix B (taking apart), §6.2 (normalisation); UTS 46 (international hosts).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

import idna

from streams.classify.link_rules import LinkRules, Wrapper

HOSTS_CACHED_MAX: Final = 8_192
"""Distinct hosts cached per process."""
LINKS_CACHED_MAX: Final = 8_192
"""Distinct links whose groups are cached per process; links with a value per reader miss."""
READ_CACHED_MAX: Final = 256
"""Links cached as read: a click's is read twice in a row, to judge it and to group it."""

_PARTS: Final = re.compile(
    r"(?:([a-z][a-z0-9+.\-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_PLAIN = re.compile(r"https?://[a-z0-9\-]+(?:\.[a-z0-9\-]+)+/[\w.~/\-]*(?<!/)", re.ASCII)
"""A link that is its own group; nearly every link without parameters is one."""
_BREAKS: Final = re.compile(r"[\t\r\n]+")
_BEFORE_QUERY: Final = re.compile(r"[^?#]*")
_AMPERSANDS: Final = re.compile(r"&(?:amp;)+")
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OF_ADDRESSES: Final = frozenset("/?#@:%\\[]")
"""Characters that end a host, and so cannot be part of one."""
_ESCAPE: Final = re.compile(r"%([0-9a-f]{2})", re.IGNORECASE | re.ASCII)
_REFUSED: Final = re.compile(r"[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e%]")
"""Characters that a link may not contain (RFC 3986 §2): they are percent-encoded."""
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SLASHES: Final = re.compile(r"\A//+")
_PORTS: Final = {"http": "80", "https": "443"}
_WITHOUT_PAGE: Final = frozenset(("javascript", "data", "blob", "vbscript"))
"""Schemes whose links have no address, only content; the scheme is their group."""


class Link(NamedTuple):
    """The parts of a link as written, except that scheme and host are in lower case.

    Attributes:
        scheme: without the colon; empty if there is none.
        host: without user, password and port; international names in ASCII (``xn--…``).
        port: empty if it is not given, or the scheme's own.
        path: from the first slash on; for ``mailto:`` and the like all that follows the colon.
        query: without the question mark.
        fragment: without the number sign.
    """

    scheme: str
    host: str
    port: str
    path: str
    query: str
    fragment: str


@lru_cache(maxsize=READ_CACHED_MAX)
def read_link(text: str) -> Link:
    """A link's parts. As in browsers, line breaks and tabs are left out, and ``\\`` is a slash."""
    if "\n" in text or "\t" in text or "\r" in text:
        text = _BREAKS.sub("", text)
    if "\\" in text:
        text = _BEFORE_QUERY.sub(_with_slashes, text, count=1)
    found = _PARTS.fullmatch(text.strip())
    if found is None:  # no text is refused by the pattern
        return Link("", "", "", text, "", "")
    scheme, authority, path, query, fragment = found.groups("")
    scheme = scheme.lower()
    host = port = ""
    if authority:
        host, port = _host_and_port(authority.rpartition("@")[2])
        if port == _PORTS.get(scheme):
            port = ""
    return Link(scheme, host, port, path, query, fragment)


def _with_slashes(found: re.Match[str]) -> str:
    return found[0].replace("\\", "/")


@lru_cache(maxsize=HOSTS_CACHED_MAX)
def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):  # an IPv6 address
        host, _, rest = text.partition("]")
        return f"{host}]".lower(), rest.removeprefix(":")
    host, _, port = text.partition(":")
    if "%" in host and _OF_ADDRESSES.isdisjoint(decoded := unquote(host)):
        host = decoded
    host = "".join(host.split()).lower().rstrip(".")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):  # refused: kept as written, in lower case
            pass
    return host, port


def unwrapped(link: Link, wrappers: tuple[Wrapper, ...]) -> Link:
    """The link inside a known redirect, such as a mail filter's; any other link unchanged."""
    while link.query and (inner := _inner(link, wrappers)) is not None:
        link = read_link(inner)  # always shorter than what it was in
    return link


def _inner(link: Link, wrappers: tuple[Wrapper, ...]) -> str | None:
    for wrapper in wrappers:
        if link.host == wrapper.host or link.host.endswith(f".{wrapper.host}"):
            for name, value in parameters(link.query):
                if name == wrapper.parameter and "://" in (inner := unquote(value)):
                    return inner
    return None


def parameters(query: str) -> list[tuple[str, str]]:
    """Names and values of a query, encoded as they are, in their order; empty ones left out."""
    if "&amp;" in query:  # copied out of HTML
        query = _AMPERSANDS.sub("&", query)
    found = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            found.append((name, value))
    return found


@lru_cache(maxsize=LINKS_CACHED_MAX)
def link_group(text: str | None, rules: LinkRules) -> str:
    """The group of a clicked link: links that differ only in how they are written, or in parameters
    that say who clicked and not where to, are one group.

    User and password, default ports, a trailing slash, the fragment (unless it is a page of a
    single-page application: ``#/…`` or ``#!…``) and the parameters in ``rules.drop`` are left out;
    the other parameters are ordered by name. Known redirects are replaced by their target.

    Returns:
        The group; an empty text for no link.
    """
    if not text:
        return ""
    if _PLAIN.fullmatch(text):
        return text
    link = read_link(text)
    if link.query:
        link = unwrapped(link, rules.wrappers)
    if link.scheme in _WITHOUT_PAGE:
        return f"{link.scheme}:"
    if not (link.scheme or link.host):
        return _SLASHES.sub("/", link.path.strip())
    path = _normal(link.path)
    if not link.host:  # such as mailto: and tel:
        return f"{link.scheme}:{_SLASHES.sub('/', path)}"
    port = f":{link.port}" if link.port else ""
    start = f"{link.scheme}://" if link.scheme else "//"
    kept = _kept(link.query, rules) if link.query else ""
    route = _route(link.fragment) if link.fragment[:1] in ("/", "!") else ""
    return f"{start}{link.host}{port}{path.rstrip('/')}{kept}{route}"


def _route(fragment: str) -> str:
    route = _normal(fragment.partition("?")[0]).rstrip("/")
    return f"#{route}" if route else ""


def _kept(query: str, rules: LinkRules) -> str:
    kept = []
    for written, value in parameters(query):
        name = _normal(written)
        if not rules.drops(name):
            kept.append((name, f"{name}={_normal(value)}" if value else name))
    kept.sort(key=_name_of)  # stable: a repeated parameter keeps its order
    return "?" + "&".join(text for _, text in kept) if kept else ""


def _name_of(parameter: tuple[str, str]) -> str:
    return parameter[0]


def _normal(text: str) -> str:
    """``text`` in the one form that RFC 3986 §6.2.2 gives it."""
    if text.isascii() and text.replace("/", "").replace("-", "").replace("=", "").isalnum():
        return text
    if "%" in text:
        text = _ESCAPE.sub(_escape, _LONE_PERCENT.sub("%25", text))
    return _REFUSED.sub(_encoded, text)


def _escape(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if char in _UNRESERVED else f"%{found[1].upper()}"


def _encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace"))
