"""Connections to one host over HTTP, for whatever is sent there.

Invariants:
1. A connection goes to an address that was judged (``streams.deliver.addresses``): the address is
   refused as its socket is made, after the name was resolved, so a name that resolves otherwise a
   moment later changes nothing. Host, SNI and the certificate's name are the URL's.
2. Redirects are not followed, proxies of the environment are not used, cookies are not kept.
3. Every wait has a limit; of an answer so much is read as the caller says, and it is not
   decompressed.
4. Nothing that is raised or returned has the URL or a secret in it, at most the host.
"""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from yarl import URL

from schemas.errors import ConfigError
from streams.deliver.addresses import Network, may_go_to
from streams.deliver.outcomes import Blame, Outcome, of_answer

KEEPALIVE_S = 4.0
"""How long an idle connection is kept: less than the servers in use do, which would close it just
as a request is sent (uvicorn: 5 s; Node.js: 5 s)."""
ANSWER_BYTES_MAX = 64 << 10
"""Of an answer to what is posted; a longer one is cut off: its connection is closed."""
SAID_CHARS_MAX = 500
"""Of such an answer that are told."""
READ_BYTES = 64 << 10
"""Of an answer, before its connection waits for a reader."""
HEADER_BYTES_MAX = 8_190
AGENT = "mailpulse-deliver"
SECRET_CHARS_MIN = 8
"""Of the values of a URL's query: shorter ones are words of an answer."""
HIDDEN = "[hidden]"
"""In place of a secret that an answer repeats."""


class NotPublic(OSError):
    """The address is not public, and the destination does not name it."""


class NoAnswer(Exception):
    """There is no answer; ``outcome`` says what that means."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.said)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Names of headers are in lower case.

    Attributes:
        body: its beginning.
        whole: that is all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


class Connections:
    """To one host. An async context manager.

    Args:
        networks: that are not public and may be reached all the same.
        tls: as of ``tls_context``.
        most: open at once.
        connect_timeout_s, timeout_s: until there is a connection, and a whole answer.
        headers: of every request.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        tls: ssl.SSLContext,
        most: int,
        connect_timeout_s: float,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> None:
        self._networks = networks
        self._tls = tls
        self._most = most
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._headers = {"user-agent": AGENT, "accept-encoding": "identity", **headers}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The cache holds nothing longer than a look-up takes: those of one moment are one, so that
        # a name that no server answers takes one of the process's few threads, not all of them.
        connector = aiohttp.TCPConnector(
            limit=self._most, ssl=self._tls, use_dns_cache=True, ttl_dns_cache=0,
            keepalive_timeout=KEEPALIVE_S, socket_factory=self._socket,
        )  # fmt: skip
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            read_bufsize=READ_BYTES, max_line_size=HEADER_BYTES_MAX,
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

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], hidden: Sequence[str],
        clock: Callable[[], float],
    ) -> Outcome:  # fmt: skip
        """Posts a body; returns what came of it, whatever that is.

        Args:
            hidden: what of the answer is not told.
            clock: seconds since 1970, when the answer is there.
        """
        try:
            reply = await self.request("POST", url, body, headers, ANSWER_BYTES_MAX)
        except NoAnswer as error:
            return error.outcome
        said = one_line(reply.body.decode("utf-8", "replace"), hidden, SAID_CHARS_MAX)
        return of_answer(reply.status, said, reply.headers, clock())

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], most: int,
        *, encoded: bool = False,
    ) -> Reply:  # fmt: skip
        """Sends one request.

        Args:
            most: bytes of the answer to read; a longer one is cut off and its connection closed.
            encoded: the URL goes out as it is.

        Raises:
            NoAnswer: there is none.
        """
        assert self._session is not None, "used outside of its context"
        try:
            where = URL(url, encoded=True) if encoded else url
            async with self._session.request(
                method, where, data=body or None, headers=headers, allow_redirects=False
            ) as answer:
                found, whole = await _beginning(answer, most)
                told = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(answer.status, told, found, whole)
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            raise NoAnswer(_outcome(error)) from None


async def _beginning(answer: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The beginning of the answer, and whether that is all; what follows is not waited for.

    The status has been read: whatever happens to the rest changes nothing of it.
    """
    read = bytearray()
    try:
        while len(read) < most:
            part = await answer.content.read(most - len(read))
            if not part:
                return bytes(read), True
            read += part
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    answer.close()
    return bytes(read), False


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):  # a name that IDNA can't encode
        return Outcome("no connection: its url is invalid", Blame.DESTINATION)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Outcome(f"no connection: {_reason(error)}", Blame.DESTINATION)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Outcome("no connection: connect_timeout_s passed", Blame.DESTINATION)
    if isinstance(error, TimeoutError):
        return Outcome("no answer: timeout_s passed", Blame.UNKNOWN)
    if isinstance(error, aiohttp.ClientResponseError):
        return Outcome("the answer is no HTTP", Blame.DESTINATION)
    return Outcome(f"no answer: {type(error).__name__}", Blame.UNKNOWN)


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


def tls_context(
    where: str, ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """How connections are encrypted, and whom they trust.

    Args:
        where: the section of the file, for the error.

    Raises:
        ConfigError: a certificate file can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        given = {"ca_file": ca_file, "client_cert_file": cert_file, "client_key_file": key_file}
        named = ", ".join(name for name, path in given.items() if path is not None)
        raise ConfigError([f"{where}: {named}: {error.strerror or type(error).__name__}"]) from None
    return context


def secrets_in(url: str) -> set[str]:
    """What may be a secret of a URL: itself, its path, its query and the values in that."""
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query) if len(value) >= SECRET_CHARS_MIN]
    return {url, parts.query, *values, parts.path if len(parts.path) > 1 else ""} - {""}


def one_line(text: str, hidden: Sequence[str], most: int) -> str:
    """A text from outside as one printable line, without what is ``hidden``.

    That is replaced before it is cut: half a secret would not be found.
    """
    for secret in hidden:
        text = text.replace(secret, HIDDEN)
    shown = "".join(one if one.isprintable() else " " for one in text[: 4 * most])
    return " ".join(shown.split())[:most]
