"""Addresses of the servers that mailpulse talks to: one reader for each kind.

Invariants:
1. Pure. Schemes are read in any case; an IPv6 address is in brackets, as in any URL (RFC 3986,
   §3.2.2); user and password are percent-decoded; slashes at the end make no difference.
2. A part that would be ignored is refused, so that a typing error can't be taken for a default.
3. No message contains anything of the address: there may be a password in it, also where none is
   expected, as in ``http://sink:pa/ss@host``.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

CLICKHOUSE_PORTS = {"http": 8123, "https": 8443}
"""Of its HTTP interface, as in ClickHouse's «Network ports»."""
DATABASE_DEFAULT = "mailpulse"
USER_DEFAULT = "default"
STORE_SCHEMES = ("redis", "rediss", "valkey", "valkeys")

_DSN = "http(s)://user:password@host:port/database"
_REGISTRY = "http(s)://user:password@host:port/path"
_TOKENS = "https://host/path"
_STORE = "redis(s):// or valkey(s)://user:password@host:port/number"
_BROKERS = "host:port, comma-separated; an IPv6 address as [::1]:9092"
_ENCODE = "in a password write '/' as %2F, '?' as %3F, '#' as %23"
_BROKER = re.compile(
    r"(?:(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?)|\[(?P<six>[0-9A-Fa-f:.]+)\])"
    r":(?P<port>[0-9]{1,5})"
)


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """Where ClickHouse's HTTP interface is, and as whom.

    Attributes:
        scheme: ``http`` or ``https``.
        host: name or address; IPv6 without brackets.
        port: of the interface; without one in the DSN 8123, or 8443 for ``https``.
        user: decoded; without one ``default``.
        password: decoded; may be empty.
        database: without one ``mailpulse``.
    """

    scheme: str
    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def place(self) -> str:
        """``host:port``, for messages and in URLs."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """Without user, password and database."""
        return f"{self.scheme}://{self.place}"


def clickhouse_address(dsn: str) -> ClickHouseAddress:
    """The parts of a ClickHouse DSN.

    Raises:
        ValueError: with a message for the operator.
    """
    parts = _split(dsn, tuple(CLICKHOUSE_PORTS), _DSN)
    if parts.query or parts.fragment:
        raise ValueError(f"{_DSN}: nothing may follow '?' or '#'; {_ENCODE}")
    database = unquote(parts.path.strip("/"))
    if "/" in database:
        raise ValueError(f"{_DSN}: one database, no path")
    return ClickHouseAddress(
        parts.scheme,
        parts.hostname or "",
        parts.port or CLICKHOUSE_PORTS[parts.scheme],
        unquote(parts.username or "") or USER_DEFAULT,
        unquote(parts.password or ""),
        database or DATABASE_DEFAULT,
    )


def registry_url(url: str) -> str:
    """The base URL of a schema registry, without slashes at its end; empty if there is none.

    Raises:
        ValueError: with a message for the operator.
    """
    if not url.strip():
        return ""
    parts = _split(url, ("http", "https"), _REGISTRY)
    if parts.query or parts.fragment:
        raise ValueError(f"{_REGISTRY}: nothing may follow '?' or '#'; {_ENCODE}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def token_url(url: str) -> str:
    """The URL of an OAuth 2.0 token endpoint; empty if there is none.

    The secret goes there, so plain HTTP is for this machine alone.

    Raises:
        ValueError: with a message for the operator.
    """
    if not url.strip():
        return ""
    parts = _split(url, ("http", "https"), _TOKENS)
    if parts.username or parts.password:
        raise ValueError(f"{_TOKENS}: user and password are settings of their own")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{_TOKENS}: https, except on this machine")
    return parts.geturl()


def store_url(url: str) -> str:
    """The URL of a Redis or Valkey, as its client library takes it; empty if there is none.

    Raises:
        ValueError: with a message for the operator.
    """
    if not url.strip():
        return ""
    parts = _split(url, STORE_SCHEMES, _STORE)
    if not re.fullmatch(r"(/[0-9]*)?", parts.path.rstrip("/")) or parts.fragment:
        raise ValueError(f"{_STORE}: a number, or nothing, behind the host")
    query = f"?{parts.query}" if parts.query else ""
    # one client library for both servers: they speak the same protocol
    scheme = parts.scheme.replace("redis", "valkey", 1)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{query}"


def brokers(bootstrap: str) -> list[str]:
    """``host:port`` of each Kafka broker to ask first.

    Raises:
        ValueError: with a message for the operator.
    """
    found = [part.strip() for part in bootstrap.split(",") if part.strip()]
    for part in found:
        match = _BROKER.fullmatch(part)
        if match is None or not 0 < int(match["port"]) <= 65_535:
            raise ValueError(_BROKERS)
        if match["six"]:
            _split(f"kafka://{part}", ("kafka",), _BROKERS)
    if not found:
        raise ValueError(_BROKERS)
    return found


def bracketed(host: str) -> str:
    """``host`` as it is written in a URL: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host


def encoded(text: str) -> str:
    """A user or password as it is written in a URL."""
    return quote(text, safe="")


def _split(url: str, schemes: tuple[str, ...], form: str) -> SplitResult:
    """The parts of a URL that names a server.

    Raises:
        ValueError: it does not; the message is ``form`` and what is wrong.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        # urllib's own message quotes the address
        raise ValueError(f"{form}: host or port can't be read; {_ENCODE}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"{form}: begins with another scheme")
    if not host or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{form}: names no server")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"{form}: {_ENCODE}")
    return parts


_MSK_REGION = re.compile(r"\.kafka(?:-serverless)?\.([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com")


def msk_region(bootstrap: str) -> str:
    """The region that the names of Amazon MSK's brokers hold; empty if they hold none."""
    found = _MSK_REGION.search(bootstrap)
    return found[1] if found else ""
