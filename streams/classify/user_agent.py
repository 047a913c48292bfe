"""Reads device, operating system and mail client from a user agent.

Invariants:
1. Pure, never raises on input from outside; results are cached and the cache is bounded.
2. Family names are those of uap-core, through ``ua-parser``, which uses no network.
3. A proxy or program that fetches on behalf of somebody is device ``bot``, and no operating system
   is reported: the one that such user agents name is not the person's.
"""

import re
from functools import lru_cache

import ua_parser

AGENTS_CACHED_MAX = 16_384
"""Distinct user agents cached per process; about 600 bytes each."""
AGENT_CHARS_MAX = 384
"""The rest of a user agent is ignored: regular expressions over long junk take milliseconds."""

UNKNOWN = ("", "", "")

_PROXIES = (
    ("googleimageproxy", "Gmail image proxy"),
    ("yahoomailproxy", "Yahoo mail proxy"),
    ("yahoocachesystem", "Yahoo mail proxy"),
)
_BOT = re.compile(
    r"(?<!cu)bot\b"  # Cubot makes phones
    r"|crawl|spider|slurp|\bscan|urlscan|preview\b|headless|phantomjs"
    r"|curl/|wget/|python-|aiohttp/|go-http-client|okhttp/|\bjava/|libwww-perl"
)
_DESKTOPS = frozenset(
    {"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD",
     "OpenBSD", "NetBSD", "Solaris", "Red Hat", "SUSE", "Mint", "Arch Linux", "Gentoo"}
)  # fmt: skip
_PHONES = frozenset(
    {"Windows Phone", "BlackBerry OS", "Symbian OS", "Firefox OS", "KaiOS", "Bada", "Tizen"}
)


_MINOR = re.compile(r"(?<=\d[._])\d+")


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def client_of(user_agent: str | None) -> tuple[str, str, str]:
    """Reads a user agent.

    Returns:
        ``(device, os, client)``: device is desktop, phone, tablet, bot or ``""``; operating system
        and client are family names without a version, ``""`` if unknown.
    """
    if not user_agent:
        return UNKNOWN
    # Families do not depend on minor versions, and parsing takes a millisecond: without them,
    # Chrome's hundreds of builds share cache entries. They become 0, as patterns count the dots.
    return _read(_MINOR.sub("0", user_agent[:AGENT_CHARS_MAX]))


def load() -> None:
    """Loads the tables of ``ua-parser``, which takes most of a second, before the first event."""
    ua_parser.parse_user_agent("")


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _read(text: str) -> tuple[str, str, str]:
    lower = text.lower()
    for mark, name in _PROXIES:
        if mark in lower:
            return ("bot", "", name)
    agent = ua_parser.parse_user_agent(text)
    client = agent.family if agent is not None else ""
    if _BOT.search(lower):
        return ("bot", "", client)
    system = ua_parser.parse_os(text)
    family = system.family if system is not None else ""
    return (_device(family, lower), family, client)


def _device(family: str, lower: str) -> str:
    if family == "iOS":
        return "tablet" if "ipad" in lower else "phone"
    if family == "Android":
        # Google's own rule: phones say «Mobile», tablets leave it out
        return "phone" if "mobile" in lower else "tablet"
    if family in _DESKTOPS:
        return "desktop"
    return "phone" if family in _PHONES else ""
