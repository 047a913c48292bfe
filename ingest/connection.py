"""One connection of the front door: HTTP/1.1 with deadlines, within the bounds of all listeners.

Invariants:
1. A connection has a deadline whenever the next move is its client's: to the end of a request's
   headers, to the end of its body, until an answer is read. Between requests it may be idle.
2. A request that is complete gets its answer, whatever follows it on the connection.

What it may send, ``schemas.serving.bounded`` says. Tests on real sockets hold both.
"""

import asyncio
from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ingest.crowd import Crowd, Full
from ingest.metrics import IngestMetrics
from ingest.problems import MEDIA_TYPE, problem
from ingest.receiving import LINGER_S, PROVEN, WHOLE
from schemas.serving.bounded import BoundedProtocol, RequestRefused
from schemas.serving.origin import Networks, address_of, client_key
from schemas.settings import Settings

REQUESTS_AHEAD_MAX = 64
BODY_GRACE_S = LINGER_S + 1.0
"""How long after a body's deadline its connection is closed: until then it gets an answer."""


class Displaceable(Protocol):
    """What has a place in the crowd."""

    def cut(self, reason: str) -> None:
        """Ends the connection; ``reason``: for the metric."""
        ...


def client_of(peer: tuple[str, int] | None, trusted: Networks) -> str:
    """Whose limit on connections a connection counts in; empty: nobody's, a trusted proxy's.

    Args:
        peer: host and port of the other side, where they are known.
        trusted: the proxies.
    """
    address = address_of(peer[0]) if peer else None
    return "" if address in trusted else client_key(address)


class FrontDoorProtocol(BoundedProtocol):
    """A connection of the front door (see the module)."""

    requests_ahead_max = REQUESTS_AHEAD_MAX
    settings: ClassVar[Settings]
    metrics: ClassVar[IngestMetrics]
    crowd: ClassVar[Crowd[Displaceable]]
    trusted: ClassVar[Networks]
    handshake: Displaceable | None = None
    """Whose place it takes, over TLS."""
    _deadline: asyncio.TimerHandle | None = None
    """To the end of the headers or of the body."""
    _answer_deadline: asyncio.TimerHandle | None = None
    _is_known = False
    _last_words = b""
    """Once the connection has ended: sent after the answers that are still to come."""

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        if self.handshake is not None:
            self.crowd.leave(self.handshake)
        try:
            displaced = self.crowd.enter(self, client_of(self.client, self.trusted))
        except Full:
            self.cut("too_many")
            return
        if displaced is not None:
            displaced.cut("displaced")
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

    # --- receiving -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See ``BoundedProtocol``; headers or a body that are not complete yet get a deadline."""
        super().data_received(data)
        if self._deadline is not None or self._ended:
            return
        if not self._in_headers:
            timeout_ms = self.settings.body_timeout_ms + round(BODY_GRACE_S * 1000)
            self._set_deadline(timeout_ms, "body_timeout")
        elif self._header_bytes:
            self._set_deadline(self.settings.header_timeout_ms, "header_timeout")

    def _count_trailer(self) -> None:
        self.metrics.trailers_dropped.inc()

    def _check_headers(self) -> None:
        super()._check_headers()
        if self.parser.should_upgrade():  # nobody who sends webhooks asks for it
            raise RequestRefused(400, "upgrade")

    def on_headers_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        super().on_headers_complete()
        if self._deadline is not None:
            self._clear_deadline()

    def on_message_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        if self._deadline is not None:
            self._clear_deadline()
        self.scope[WHOLE] = True  # type: ignore[literal-required] # an addition of ours
        super().on_message_complete()
        if not self.cycle.response_complete:
            self.crowd.works(self)

    # --- answering -------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        cycle = self.cycle
        if not self._is_known and PROVEN in cycle.scope:
            self._is_known = True
            self.crowd.knows(self)
        super().on_response_complete()
        if cycle.response_complete or not self._is_working():
            self.crowd.waits(self)
            if self._ended:
                return self._say_last_words()
        if self.transport.is_closing():
            self._hurry()

    def _is_working(self) -> bool:
        """Whether there is a complete request without its answer."""
        cycle = self.cycle
        return bool(self.pipeline) or (
            cycle is not None and not cycle.response_complete and not cycle.more_body
        )

    def _refuse(self, status: int, code: str, ours: bool) -> None:
        """Answers with a refusal, after the answers to complete requests (invariant 2)."""
        self._ended = True
        self._clear_deadline()
        self.metrics.connections_refused.labels(code).inc()
        content = problem(status, code)
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self._last_words = head % (STATUS_LINE[status], MEDIA_TYPE, len(content))
        # An answer to HEAD has no body. Where the parser failed, the method is not known.
        if not (ours and self.parser.get_method() == b"HEAD"):
            self._last_words += content
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if not self._in_headers:  # the body is broken: the refusal is its request's answer
            answering = bool(self.pipeline)  # then its request is the last one there
            if answering:
                self.pipeline.popleft()
            elif cycle.response_started:
                self._last_words = b""
            cycle.disconnected = True
            cycle.message_event.set()
        if not answering:
            self._say_last_words()

    def _exceeded(self, status: int, code: str) -> None:
        self.cut(code)

    def _say_last_words(self) -> None:
        self.transport.write(self._last_words)
        self.transport.close()
        self._hurry()

    def _hurry(self) -> None:
        """Closing waits until the client has read what is written, within the answer's deadline."""
        if self.transport.get_write_buffer_size():
            self._set_answer_deadline()

    # --- deadlines -------------------------------------------------------------------------------

    def _set_deadline(self, ms: int, reason: str) -> None:
        self._deadline = self.loop.call_later(ms / 1000, self.cut, reason)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _set_answer_deadline(self) -> None:
        if self._answer_deadline is None:
            seconds = self.settings.answer_timeout_ms / 1000
            self._answer_deadline = self.loop.call_later(seconds, self.cut, "answer_timeout")

    def _clear_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None

    def cut(self, reason: str) -> None:
        """Ends the connection without a word."""
        self.metrics.connections_refused.labels(reason).inc()
        self.transport.abort()
