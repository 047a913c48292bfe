"""uvicorn's HTTP/1.1 with bounds on what a connection may send: the base of every listener.

Invariants:
1. Headers, and the framing of a body (chunk extensions, trailers), have a size. Headers, and
   requests sent ahead of their answers, have a number.
2. The headers of a request are those before its body. Trailers are dropped and counted (RFC 9110
   §6.5.1: they must not be merged unless a field's definition allows it).
3. What two parsers could read in two ways is refused (``schemas.serving.reading``). What httptools
   refuses by itself: both lengths, folded lines, spaces before a colon, bare line feeds.

Subclasses decide how a connection is refused, add the limits on time and on the number of
connections, and are tested on real sockets. uvicorn has none of these limits. Its protocol was not
made to be extended, hence ``schemas.serving.internals``.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.serving.reading import fault_of


class RequestRefused(Exception):
    """Raised within the parser: this request is refused, and whatever follows it is not read."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def _reason(error: httptools.HttpParserError) -> tuple[int, str, bool]:
    """Status and code for what the parser failed on, and whether we refused it ourselves.

    A function of its own: a local variable that holds the cause would be part of a frame that the
    error refers to, and the circle would keep the bytes received until the next garbage collection.
    """
    refused = error.__context__
    if isinstance(refused, RequestRefused):
        return refused.status, refused.code, True
    return 400, "not_http", False


class _Dropped:
    """Takes the place of headers that are complete: drops what the parser appends (invariant 2)."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Counts a trailer."""
        self._count()

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class BoundedProtocol(HttpToolsProtocol):
    """A connection.

    Attributes:
        header_bytes_max: request line and headers together; and the framing between two reads that
            bring some of the body.
        requests_ahead_max: requests that a client may send before the first of them is answered.
    """

    header_bytes_max: ClassVar[int]
    requests_ahead_max: ClassVar[int]
    _in_headers = True
    _header_bytes = 0
    _framing_bytes = 0
    _ended = False
    """Whether everything that still arrives is ignored."""

    @abstractmethod
    def _refuse(self, status: int, code: str, ours: bool) -> None:
        """Refuses what came; ``ours``: by a limit or rule of ours, else the parser failed."""

    @abstractmethod
    def _exceeded(self, status: int, code: str) -> None:
        """Ends the connection, for headers or framing without an end are over their size."""

    @abstractmethod
    def _count_trailer(self) -> None:
        """A trailer was dropped."""

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._chunks: list[bytes] = []
        self._dropped = _Dropped(self._count_trailer)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._unset_keepalive_if_required()
        if self._ended:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(*_reason(error))
            return
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        # Headers, or a body, that ended within this data were handed on, whatever their size: the
        # event loop bounds one read of a socket.
        if not self._in_headers:
            self._check_framing(len(data))
        elif self._header_bytes > self.header_bytes_max:
            self._exceeded(431, "header_too_large")
        if self._chunks:
            self._join_chunks()

    def _check_framing(self, size: int) -> None:
        if self._chunks:
            self._framing_bytes = 0
            return
        self._framing_bytes += size
        if self._framing_bytes > self.header_bytes_max:
            self._exceeded(400, "framing_too_large")

    def _check_headers(self) -> None:
        """Judges a request by its headers.

        Raises:
            RequestRefused: it is not accepted.
        """
        fault = fault_of(
            self.headers, self.parser.get_http_version(), upgrades=self.parser.should_upgrade()
        )
        if fault is not None:
            raise RequestRefused(*fault)
        if len(self.pipeline) >= self.requests_ahead_max:
            raise RequestRefused(429, "too_many_ahead")

    def on_headers_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._check_headers()
        super().on_headers_complete()
        self._in_headers = False
        self._header_bytes = self._framing_bytes = 0
        self.headers = self._dropped  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """See ``HttpToolsProtocol``, which copies all it has with each chunk, however small."""
        self._chunks.append(body)

    def _join_chunks(self) -> None:
        chunks = self._chunks
        super().on_body(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        chunks.clear()

    def on_message_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        if self._chunks:
            self._join_chunks()
        self._in_headers = True
        super().on_message_complete()
