"""Access control, sessions and security headers of the dashboard.

Invariants:
1. On loopback no sign-in is needed; then the host name of a request must be loopback's or one from
   the settings (``sites``), and a request that came through a proxy is refused.
2. On any other address the process does not start without a token or the header of a proxy that
   signs people in.
3. A session is an expiry time and its HMAC under the token: nothing is stored, and a new token ends
   all sessions.
4. Secrets are compared in constant time; the number of wrong tokens is limited, per client and in
   total.
5. Headers of proxies are trusted only if the peer is a configured proxy; the client is then the
   right-most address that is not one (``schemas.serving.origin``).
6. A session cookie over HTTPS is bound to this host and to HTTPS (``__Host-``, RFC 6265bis,
   4.1.3.2).
7. The content security policy allows only our own files.
"""

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from schemas.errors import ConfigError
from schemas.serving.origin import FORWARDED, Networks, Origin, address_of, origin_of
from schemas.serving.sites import Sites, is_loopback
from schemas.settings import PREFIX, AnalyticsSettings

COOKIE = "mailpulse_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
FAILURES_MAX = 10
"""Wrong tokens of one client within ``FAILURES_S``, from which on it has to wait."""
FAILURES_OF_ALL_MAX = 1_000
"""The same for all clients together, against an attacker with many addresses."""
FAILURES_S = 60.0
ADDRESSES_MAX = 10_000
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


def check(settings: AnalyticsSettings) -> None:
    """Invariant 2.

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


def sites(settings: AnalyticsSettings, pages: Iterable[str]) -> Sites:
    """Host names that the dashboard answers to (invariant 1), and the pages open to links."""
    told = frozenset(name.lower() for name in settings.dashboard_hosts)
    signs_in = bool(_token(settings) or settings.dashboard_user_header)
    setting = f"{PREFIX}DASHBOARD_HOSTS"
    return Sites(told, signs_in and not told, frozenset(pages), setting)


def _token(settings: AnalyticsSettings) -> str:
    return settings.dashboard_token.get_secret_value()


@dataclass(frozen=True, slots=True)
class Caller:
    """The parts of a request that matter for access.

    Attributes:
        peer: the socket's peer address.
        headers: lower-case name -> value; repeated headers are joined by commas.
        cookies: name -> value.
        scheme: of the socket.
    """

    peer: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"


class Gate:
    """Decides whether requests are allowed.

    Args:
        settings: ``dashboard_*``.
        wall: returns seconds since 1970.
    """

    def __init__(self, settings: AnalyticsSettings, wall: Callable[[], float]) -> None:
        self._token = _token(settings)
        self._header = settings.dashboard_user_header.lower()
        self._proxies = Networks(settings.dashboard_proxy_ips)
        self._session_s = settings.dashboard_session_hours * 3600
        self._wall = wall
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._failures_of_all: deque[float] = deque(maxlen=FAILURES_OF_ALL_MAX)

    @property
    def has_token(self) -> bool:
        """Whether people can sign in with a token."""
        return bool(self._token)

    @property
    def open(self) -> bool:
        """Whether nobody needs to sign in: loopback only."""
        return not self._token and not self._header

    def refusal(self, caller: Caller) -> str:
        """Why a request to a dashboard without sign-in is refused; empty if it is not."""
        if not self.open:
            return ""
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
        if kind.lower() == "bearer" and self.is_token(value.strip(), caller):
            return True
        return self._is_session(caller.cookies.get(self.cookie(caller), ""))

    def user(self, caller: Caller) -> str:
        """Who an allowed caller is, for the log: the proxy's name of the user, else the client."""
        if self._is_signed_in_by_proxy(caller):
            return caller.headers[self._header]
        return f"token at {self.origin(caller).key}"

    def _is_signed_in_by_proxy(self, caller: Caller) -> bool:
        """Whether a configured proxy names a user; two values mean that the client sent one too."""
        user = caller.headers.get(self._header, "") if self._header else ""
        return bool(user) and "," not in user and address_of(caller.peer) in self._proxies

    def origin(self, caller: Caller) -> Origin:
        """The client behind our proxies, and whether it uses HTTPS (invariant 5)."""
        headers = caller.headers
        return origin_of(
            caller.peer,
            caller.scheme,
            headers.get("x-forwarded-for", ""),
            headers.get("x-forwarded-proto", ""),
            self._proxies,
        )

    def cookie(self, caller: Caller) -> str:
        """Name of the session cookie (invariant 6)."""
        return SECURE_COOKIE if self.origin(caller).https else COOKIE

    def is_token(self, given: str, caller: Caller) -> bool:
        """Whether the token is right; always false after too many wrong ones."""
        if self.is_slowed(caller):
            return False
        right = bool(self._token) and hmac.compare_digest(given.encode(), self._token.encode())
        if not right and self._token:
            self._failed(self.origin(caller).key)
        return right

    def is_slowed(self, caller: Caller) -> bool:
        """Whether this client, or all together, sent too many wrong tokens within a minute."""
        since = self._wall() - FAILURES_S
        of_all = self._failures_of_all
        if len(of_all) == FAILURES_OF_ALL_MAX and of_all[0] > since:
            return True
        recent = [at for at in self._failures.get(self.origin(caller).key, ()) if at > since]
        return len(recent) >= FAILURES_MAX

    def _failed(self, client: str) -> None:
        now = self._wall()
        recent = [at for at in self._failures.pop(client, ()) if at > now - FAILURES_S]
        self._failures[client] = [*recent, now][-FAILURES_MAX:]
        self._failures_of_all.append(now)
        while len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def session(self) -> tuple[str, int]:
        """A new session cookie and its lifetime in seconds."""
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
    """Where to go after the sign-in: one of our pages, never another site."""
    try:
        parts = urlsplit(wished)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or "\\" in wished or parts.path not in known:
        return "/"
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
