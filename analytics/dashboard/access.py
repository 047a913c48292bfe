"""Who may look, and what a browser may do with the pages.

Laws of this file:
1. On loopback nobody signs in; then the name in the address must be loopback's own too (another
   site's name that points here is refused), and a request that came through a proxy is refused.
2. Anywhere else the process does not start without a token or a header of a signing-in proxy.
3. A session is an expiry and its HMAC under the token: nothing is stored, a new token ends all.
4. Every comparison of secrets takes constant time; failures of one address are slowed down.
5. The content security policy lets in our own files and nothing else.
"""

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas.errors import ConfigError
from schemas.settings import PREFIX, AnalyticsSettings

COOKIE = "mailpulse_session"
FAILURES_MAX = 10
FAILURES_S = 60.0
ADDRESSES_MAX = 10_000
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without a port, is this machine's loopback."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check(settings: AnalyticsSettings) -> None:
    """Law 2.

    Raises:
        ConfigError: the dashboard would be open to the network.
    """
    if is_loopback(settings.dashboard_host) or _token(settings) or settings.dashboard_user_header:
        return
    raise ConfigError(
        [
            f"{PREFIX}DASHBOARD_TOKEN or {PREFIX}DASHBOARD_USER_HEADER: one is needed when"
            f" {PREFIX}DASHBOARD_HOST ({settings.dashboard_host}) is not loopback;"
            " 'openssl rand -hex 16' makes a token"
        ]
    )


def _host(header: str) -> str:
    """The host in a Host header, without its port; empty when it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _token(settings: AnalyticsSettings) -> str:
    return settings.dashboard_token.get_secret_value()


@dataclass(frozen=True, slots=True)
class Caller:
    """A request, as far as access is concerned.

    Attributes:
        peer: address that the connection comes from.
        headers: lower-case name -> value.
        cookie: the session cookie, or empty.
    """

    peer: str
    headers: Mapping[str, str]
    cookie: str = ""


class Gate:
    """Decides on requests.

    Args:
        settings: ``dashboard_*``.
        wall: seconds since 1970.
    """

    def __init__(self, settings: AnalyticsSettings, wall: Callable[[], float]) -> None:
        self._token = _token(settings)
        self._header = settings.dashboard_user_header.lower()
        self._proxies = [
            ipaddress.ip_network(n, strict=False) for n in settings.dashboard_proxy_ips
        ]
        self._session_s = settings.dashboard_session_hours * 3600
        self._wall = wall
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def has_token(self) -> bool:
        """Whether people can sign in here."""
        return bool(self._token)

    @property
    def open(self) -> bool:
        """Whether nobody needs to sign in: loopback only."""
        return not self._token and not self._header

    def refusal(self, caller: Caller) -> str:
        """Why a request to an open dashboard is refused; empty when it is not."""
        if not self.open:
            return ""
        host = _host(caller.headers.get("host", ""))
        if not is_loopback(host):
            return (
                f"This dashboard has no sign-in, so it answers on localhost only, not on {host!r}."
                f" Set {PREFIX}DASHBOARD_TOKEN to open it to others."
            )
        if any(name in caller.headers for name in FORWARDED):
            return (
                "This dashboard has no sign-in, so it takes no requests through a proxy."
                f" Set {PREFIX}DASHBOARD_TOKEN or {PREFIX}DASHBOARD_USER_HEADER."
            )
        return ""

    def allows(self, caller: Caller) -> bool:
        """Whether the caller is signed in, or need not be."""
        if self.open or self._is_signed_in_by_proxy(caller):
            return True
        if not self._token:
            return False
        kind, _, value = caller.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(value.strip(), caller.peer):
            return True
        return self._is_session(caller.cookie)

    def _is_signed_in_by_proxy(self, caller: Caller) -> bool:
        return bool(
            self._header and caller.headers.get(self._header) and self.is_proxy(caller.peer)
        )

    def is_proxy(self, peer: str) -> bool:
        """Whether the peer's word about a request is believed."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def is_token(self, given: str, peer: str) -> bool:
        """Whether the token is right; after too many wrong ones from an address, never."""
        if self.is_slowed(peer):
            return False
        right = bool(self._token) and hmac.compare_digest(given.encode(), self._token.encode())
        if not right and self._token:
            self._failed(peer)
        return right

    def is_slowed(self, peer: str) -> bool:
        """Whether an address gave too many wrong tokens within a minute."""
        since = self._wall() - FAILURES_S
        recent = [at for at in self._failures.get(peer, ()) if at > since]
        return len(recent) >= FAILURES_MAX

    def _failed(self, peer: str) -> None:
        since = self._wall() - FAILURES_S
        recent = [at for at in self._failures.pop(peer, ()) if at > since]
        self._failures[peer] = [*recent, self._wall()][-FAILURES_MAX:]
        while len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def session(self) -> tuple[str, int]:
        """A new session cookie and its life time in seconds."""
        expiry = str(int(self._wall()) + self._session_s)
        return f"{expiry}.{self._signature(expiry)}", self._session_s

    def _is_session(self, cookie: str) -> bool:
        expiry, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(expiry).encode()):
            return False
        return expiry.isdigit() and int(expiry) > self._wall()

    def _signature(self, text: str) -> str:
        key = hashlib.sha256(b"mailpulse session\0" + self._token.encode()).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def local_path(wished: str, known: Sequence[str]) -> str:
    """Where to go after signing in: a page of ours, never another site."""
    try:
        parts = urlsplit(wished)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or "\\" in wished or parts.path not in known:
        return "/"
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
