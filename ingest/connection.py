"""One connection of the front door: HTTP/1.1, with limits on its time, its bytes and its number.

Invariants:
1. A connection has a deadline whenever the next move is its client's: to the end of a request's
   headers, to the end of its body, until an answer is read. Between requests it may be idle.
2. Nothing that comes is unbounded: headers, trailers and the framing of a body (chunk extensions)
   each have a size; headers, and requests sent ahead of their answers, have a number.
3. The headers of a request are those before its body. What follows the body (trailers) is dropped
   and counted (RFC 9110 §6.5.1: it must not be merged unless a field's definition allows it).
4. What two parsers could read in two ways is refused (``schemas.serving.reading``).
5. A request that is complete gets its answer, whatever comes behind it.

uvicorn has none of these limits; this class puts them around its protocol's methods, and tests on
real sockets hold them. What httptools refuses by itself (both lengths, folded lines, spaces before
a colon, bare line feeds) is in the same tests.
"""

import asyncio
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ingest.crowd import Crowd, Full
from ingest.metrics import IngestMetrics
from ingest.problems import MEDIA_TYPE, problem
from ingest.receiving import LINGER_S, PROVEN, WHOLE
from schemas.serving.origin import Networks, address_of, client_key
from schemas.serving.reading import fault_of
from schemas.settings import Settings

REQUESTS_AHEAD_MAX = 64
"""Requests that a client may send before the first of them is answered."""
BODY_GRACE_S = LINGER_S + 1.0
"""How long after a body's time is over its connection is closed: until then it gets an answer."""


class _Refused(Exception):
    """Raised within the parser: this request is not taken, nor anything behind it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def _reason(error: httptools.HttpParserError) -> tuple[int, str, bool]:
    """Status and code of what the parser does not take, and whether we refused it ourselves.

    A function of its own, for nothing of the error must stay in a frame that the error knows: such
    a circle would keep the bytes that came until the garbage collector comes by.
    """
    refused = error.__context__
    if isinstance(refused, _Refused):
        return refused.status, refused.code, True
    return 400, "not_http", False


class _Dropped:
    """Takes what the parser appends to headers that are complete, and drops it (invariant 3)."""

    def __init__(self, metrics: IngestMetrics) -> None:
        self._metrics = metrics

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Counts a trailer."""
        self._metrics.trailers_dropped.inc()

    def __iter__(self) -> Any:
        return iter(())


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits (see the module)."""

    settings: ClassVar[Settings]
    metrics: ClassVar[IngestMetrics]
    crowd: ClassVar["Crowd[GuardedProtocol]"]
    trusted: ClassVar[Networks]
    _deadline: asyncio.TimerHandle | None = None
    """To the end of the headers or of the body."""
    _answer_deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _framing_bytes = 0
    _in_headers = True
    _is_known = False
    _last_words: bytes | None = None
    """Not ``None``: nothing that comes is read any more, and this is sent behind the answers."""

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._chunks: list[bytes] = []
        self._dropped = _Dropped(self.metrics)
        address = address_of(self.client[0]) if self.client else None
        try:
            displaced = self.crowd.enter(
                self, "" if address in self.trusted else client_key(address)
            )
        except Full:
            self._cut("too_many")
            return
        if displaced is not None:
            displaced._cut("displaced")
        self._set_deadline(self.settings.header_timeout_ms, "header_timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self.crowd.leave(self)
        self._clear_deadline()
        self._clear_answer_deadline()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``: the client does not read what it asked for."""
        super().pause_writing()
        self.crowd.waits(self)
        self._set_answer_deadline()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        super().resume_writing()
        self._clear_answer_deadline()
        if self._is_working():
            self.crowd.works(self)

    def timeout_keep_alive_handler(self) -> None:
        """See ``HttpToolsProtocol``: closing would wait for a client that does not read."""
        self.transport.abort()

    # --- what comes ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._unset_keepalive_if_required()
        if self._last_words is not None:
            return
        before = -1
        if self._in_headers:
            self._header_bytes += len(data)
        else:
            before = len(self.cycle.body)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            status, code, is_refused = _reason(error)
            # An answer to HEAD has no body; of what the parser broke off the method is not known.
            self._end(status, code, is_refused and self.parser.get_method() == b"HEAD")
            return
        if self._chunks:
            self._join_chunks()
        # A block of headers, or a body, that ended within this data was handed on, whatever its
        # size: one read of a socket is bounded by the loop. Most do, and need no deadline.
        if not self._in_headers:
            self._check_body(len(data), before)
        elif self._header_bytes:
            if self._header_bytes > self.settings.header_bytes_max:
                self._cut("header_too_large")
            elif self._deadline is None:
                self._set_deadline(self.settings.header_timeout_ms, "header_timeout")

    def _check_body(self, size: int, before: int) -> None:
        """Invariants 1 and 2 for a body that goes on; ``before``: its length before this data."""
        if self._deadline is None:
            grace_ms = round(BODY_GRACE_S * 1000)
            self._set_deadline(self.settings.body_timeout_ms + grace_ms, "body_timeout")
        if before != len(self.cycle.body):
            self._framing_bytes = 0
            return
        self._framing_bytes += size
        if self._framing_bytes > self.settings.header_bytes_max:
            self._cut("framing_too_large")

    def on_headers_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        fault = fault_of(
            self.headers, self.parser.get_http_version(), upgrades=self.parser.should_upgrade()
        )
        if fault is not None:
            raise _Refused(*fault)
        if self.parser.should_upgrade():  # of nobody who sends webhooks
            raise _Refused(400, "upgrade")
        if len(self.pipeline) >= REQUESTS_AHEAD_MAX:
            raise _Refused(429, "too_many_ahead")
        super().on_headers_complete()
        self._in_headers = False
        self._header_bytes = self._framing_bytes = 0
        if self._deadline is not None:
            self._clear_deadline()
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
        if self._deadline is not None:
            self._clear_deadline()
        self.scope[WHOLE] = True  # type: ignore[literal-required] # an addition of ours
        super().on_message_complete()
        if not self.cycle.response_complete:
            self.crowd.works(self)

    # --- what goes -------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        cycle = self.cycle
        if not self._is_known and PROVEN in cycle.scope:
            self._is_known = True
            self.crowd.knows(self)
        super().on_response_complete()
        if cycle.response_complete or not self._is_working():
            self.crowd.waits(self)
            if self._last_words is not None:
                return self._say_last_words()
        if self.transport.is_closing():
            self._hurry()

    def _is_working(self) -> bool:
        """Whether there is a complete request without its answer."""
        cycle = self.cycle
        return bool(self.pipeline) or (
            cycle is not None and not cycle.response_complete and not cycle.more_body
        )

    def _end(self, status: int, code: str, head_only: bool) -> None:
        """Refuses what came, and reads nothing more (invariant 5)."""
        self._clear_deadline()
        self.metrics.connections_refused.labels(code).inc()
        content = problem(status, code)
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self._last_words = head % (STATUS_LINE[status], MEDIA_TYPE, len(content))
        if not head_only:
            self._last_words += content
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if not self._in_headers:  # a body is broken: its request gets no other answer
            answering = bool(self.pipeline)  # it is the last in line then
            if answering:
                self.pipeline.popleft()
            elif cycle.response_started:
                self._last_words = b""
            cycle.disconnected = True
            cycle.message_event.set()
        if not answering:
            self._say_last_words()

    def _say_last_words(self) -> None:
        self.transport.write(self._last_words or b"")
        self.transport.close()
        self._hurry()

    def _hurry(self) -> None:
        """Closing waits until the client has read what is written: not for ever."""
        if self.transport.get_write_buffer_size():
            self._set_answer_deadline()

    # --- deadlines -------------------------------------------------------------------------------

    def _set_deadline(self, ms: int, reason: str) -> None:
        self._deadline = self.loop.call_later(ms / 1000, self._cut, reason)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _set_answer_deadline(self) -> None:
        if self._answer_deadline is None:
            seconds = self.settings.answer_timeout_ms / 1000
            self._answer_deadline = self.loop.call_later(seconds, self._cut, "answer_timeout")

    def _clear_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None

    def _cut(self, reason: str) -> None:
        self.metrics.connections_refused.labels(reason).inc()
        self.transport.abort()
