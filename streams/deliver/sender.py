"""Sends requests to one destination over HTTP.

Invariants:
1. A connection goes to an address that was judged (``streams.deliver.addresses``): the address is
   refused as its socket is made, after the name was resolved, so a name that resolves otherwise a
   moment later changes nothing. Host, SNI and the certificate's name are the URL's.
2. Redirects are not followed, proxies of the environment are not used, cookies are not kept.
3. Every wait has a limit, the destination's ``connect_timeout_s`` and ``timeout_s``; of an answer
   at most ``ANSWER_BYTES_MAX`` are read, and it is not decompressed.
4. Nothing that is raised or returned has the URL, a secret or a token in it, at most the host:
   neither by mailpulse nor in the beginning of an answer, which may repeat what was sent.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from standardwebhooks import Webhook

from schemas.errors import ConfigError
from streams.deliver.addresses import may_go_to
from streams.deliver.bodies import Body, signed_headers, together
from streams.deliver.destinations import SECTION, Destination
from streams.deliver.outcomes import Blame, Outcome, of_answer

ANSWER_BYTES_MAX = 64 << 10
"""A longer answer is cut off: its connection is closed."""
SAID_CHARS_MAX = 500
HIDDEN = "[hidden]"
"""In place of a secret that an answer repeats."""
SECRET_CHARS_MIN = 8
"""Of the values of a URL's query: shorter ones are words of an answer."""
KEEPALIVE_S = 4.0
"""How long an idle connection is kept: less than the servers in use do, which would close it just
as a request is sent (uvicorn: 5 s; Node.js: 5 s)."""
HEADER_BYTES_MAX = 8_190
AGENT = "mailpulse-deliver"


class NotPublic(OSError):
    """The address is not public, and the destination does not name it."""


class Sender:
    """Requests to one destination. An async context manager.

    Args:
        destination: where to.
        clock: seconds since 1970.

    Raises:
        ConfigError: a certificate file can't be read.
    """

    def __init__(self, destination: Destination, clock: Callable[[], float] = time.time) -> None:
        self._url = destination.url.get_secret_value()
        self._clock = clock
        self._secrets = [Webhook(one.get_secret_value()) for one in destination.secret]
        self._networks = destination.networks
        self._tls = _context(destination)
        self._connections = destination.concurrency
        self._timeout = aiohttp.ClientTimeout(
            total=destination.timeout_s, sock_connect=destination.connect_timeout_s
        )
        self._headers = {"content-type": "application/json", "user-agent": AGENT,
                         "accept-encoding": "identity"}  # fmt: skip
        if destination.bearer is not None:
            self._headers["authorization"] = f"Bearer {destination.bearer.get_secret_value()}"
        self._hidden = _hidden(destination)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The cache holds nothing longer than a look-up takes: those of one moment are one, so that
        # a name that no server answers takes one of the process's few threads, not all of them.
        connector = aiohttp.TCPConnector(
            limit=self._connections, ssl=self._tls, use_dns_cache=True, ttl_dns_cache=0,
            keepalive_timeout=KEEPALIVE_S, socket_factory=self._socket,
        )  # fmt: skip
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            read_bufsize=ANSWER_BYTES_MAX, max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def _socket(self, where: Any) -> socket.socket:
        """The socket for an address that was resolved (invariant 1)."""
        family, kind, protocol, _, address = where
        if not may_go_to(address[0], self._networks):
            raise NotPublic(f"{address[0]} is not a public address; see allow_networks")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    async def send(self, bodies: Sequence[Body]) -> Outcome:
        """Sends one request; returns what came of it, whatever that is."""
        assert self._session is not None, "used outside of its context"
        body = together(bodies)
        headers = signed_headers(body, self._secrets, self._clock())
        try:
            async with self._session.post(
                self._url, data=body.json, headers=headers, allow_redirects=False
            ) as answer:
                beginning = await self._beginning(answer)
                told = {"retry-after": answer.headers.get("retry-after", "")}
                return of_answer(answer.status, beginning, told, self._clock())
        except (aiohttp.InvalidURL, UnicodeError):  # a name that IDNA can't encode
            return Outcome("no connection: its url is invalid", Blame.DESTINATION)
        except aiohttp.ClientConnectorError as error:
            return Outcome(f"no connection: {_reason(error)}", Blame.DESTINATION)
        except aiohttp.ConnectionTimeoutError:
            return Outcome("no connection: connect_timeout_s passed", Blame.DESTINATION)
        except TimeoutError:
            return Outcome("no answer: timeout_s passed", Blame.UNKNOWN)
        except aiohttp.ClientResponseError:
            return Outcome("the answer is no HTTP", Blame.DESTINATION)
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(f"no answer: {type(error).__name__}", Blame.UNKNOWN)

    async def _beginning(self, answer: aiohttp.ClientResponse) -> str:
        """The beginning of the answer as one line; what follows it is not waited for.

        The status has been read: whatever happens to the rest changes nothing.
        """
        read = bytearray()
        try:
            while len(read) < ANSWER_BYTES_MAX:
                part = await answer.content.read(ANSWER_BYTES_MAX - len(read))
                if not part:
                    return self._line(bytes(read))
                read += part
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        answer.close()
        return self._line(bytes(read))

    def _line(self, read: bytes) -> str:
        text = read.decode("utf-8", "replace")
        for secret in self._hidden:  # before it is cut: half a secret is not found
            text = text.replace(secret, HIDDEN)
        return _one_line(text[: 4 * SAID_CHARS_MAX])


def _hidden(destination: Destination) -> list[str]:
    """What no answer is shown with: the token, and of the URL what may be a secret."""
    url = destination.url.get_secret_value()
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query) if len(value) >= SECRET_CHARS_MIN]
    found = {url, parts.query, *values, parts.path if len(parts.path) > 1 else ""}
    if destination.bearer is not None:
        found.add(destination.bearer.get_secret_value())
    return sorted(found - {""}, key=len, reverse=True)


def _one_line(text: str) -> str:
    shown = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(shown.split())[:SAID_CHARS_MAX]


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, without the URL."""
    cause: BaseException = error.os_error if error.os_error is not None else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {cause.verify_message}"
    if isinstance(cause, NotPublic):
        return str(cause)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host is not found"
    return getattr(cause, "strerror", None) or type(cause).__name__


def _context(destination: Destination) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=destination.ca_file)
        if destination.client_cert_file is not None:
            context.load_cert_chain(destination.client_cert_file, destination.client_key_file)
    except (OSError, ssl.SSLError) as error:
        where = f"{SECTION}.{destination.name}"
        files = ("ca_file", "client_cert_file", "client_key_file")
        named = ", ".join(name for name in files if getattr(destination, name) is not None)
        raise ConfigError([f"{where}: {named}: {error.strerror or type(error).__name__}"]) from None
    return context
