"""uvicorn's HTTP/1.1 with limits: what ``places`` decides, done to real connections.

Invariants:
1. Headers end where the headers end: a trailer behind a body never becomes a header (RFC 9110,
   6.5.1, lets a recipient discard it).
2. The request target is a path of ours. One with a host in it (absolute form, RFC 9112, 3.2.2) is
   for proxies, and is refused.
3. What is refused is said in the log once a minute for each reason, with the count.
4. What two readers could take in two ways is refused (``schemas.serving.reading``).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.serving.places import Cut, Limits, Places, Turn
from schemas.serving.reading import fault_of
from schemas.serving.sparing import Sparing

Message = Any
Proves = Callable[[list[tuple[bytes, bytes]]], bool]
"""Judges headers as ASGI has them: names in lower case."""
_PROVEN = "proven"
"""Where in a request's ``state`` the verdict stands."""

_SAID = {Cut.HEADER_TIMEOUT: 408, Cut.BODY_TIMEOUT: 408, Cut.WRITE_TIMEOUT: 0, Cut.MADE_ROOM: 0}
"""Statuses that a connection still gets told when it is cut; 0: none."""


def is_proven(scope: Message) -> bool:
    """Whether the listener's ``proves`` accepted the headers of this request.

    Args:
        scope: ASGI's; one that came by another way than a guarded listener is not proven.
    """
    return scope.get("state", {}).get(_PROVEN) is True


class _Refused(Exception):
    """Ends the parsing of a connection's data; what there is to say was said."""


class _Sparingly(logging.Filter):
    """Lets one record of each text through in a while, with the count of those held back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._sparing = Sparing()

    def filter(self, record: logging.LogRecord) -> bool:
        count = self._sparing.happened(str(record.msg), self._loop.time())
        if count is not None and count > 1:
            record.msg = f"{record.msg} ({count} times since it was last said)"
        return count is not None


class Listener:
    """What the connections of one listening socket share.

    Args:
        name: of the listener, for the log.
        limits: what it takes.
        loop: the event loop that serves it.
        proves: whether a request's headers prove that its sender may make it.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        proves: Proves = lambda _headers: False,
    ) -> None:
        self.name = name
        self.limits = limits
        self.proves = proves
        self.places: Places[GuardedProtocol] = Places(limits)
        self._loop = loop
        self._sparing = Sparing()
        self._log = structlog.get_logger("mailpulse.serving")
        # uvicorn writes a line for each bad request and each exception; a logger of our own, as
        # filters of its shared one would be everybody's
        self.logger = logging.Logger("mailpulse.serving", logging.WARNING)
        self.logger.parent = logging.getLogger()
        self.logger.addFilter(_Sparingly(loop))

    def refused(self, reason: str) -> None:
        """Counts a refusal, and says so if it is time to."""
        count = self._sparing.happened(reason, self._loop.time())
        if count is not None:
            self._say(reason, count)

    def _say(self, reason: str, count: int) -> None:
        self._log.warning("refused", listener=self.name, reason=reason, count=count)

    def sweep(self) -> None:
        """Ends what is overdue; to be called a few times a second."""
        now = self._loop.time()
        for protocol in self.places:
            self.places.unsent(protocol, protocol.transport.get_write_buffer_size(), now)
        for protocol, reason in self.places.overdue(now):
            protocol.cut(reason)
        for kind, count in self._sparing.due(now):
            self._say(kind, count)


async def _busy(scope: Message, receive: Message, send: Message) -> None:
    """ASGI application for one request too many."""
    body = b"too many requests at once, try again\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class GuardedProtocol(HttpToolsProtocol):
    """A connection. Subclasses name their ``listener``."""

    listener: ClassVar[Listener]
    _reading = Turn.HEAD  # of the message that is being received
    _under_way = 0  # requests whose headers are complete and whose answer is not
    _head_bytes = 0
    _body_bytes = 0
    _framing_bytes = 0
    _ended = False

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._chunks: list[bytes] = []
        self.logger = self.listener.logger
        client = self.client[0] if self.client else ""
        leaves = self.listener.places.arrive(self, client, self.loop.time())
        if leaves is not None:
            leaves.cut(Cut.MADE_ROOM)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._ended = True
        self.listener.places.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._ended:
            return
        if self._reading is Turn.IDLE:
            self._reads(Turn.HEAD)
        in_head = self._reading is Turn.HEAD
        before = self._body_bytes
        super().data_received(data)
        if not self._ended:
            self._join_chunks()
            self.listener.places.received(self, max(0, self._body_bytes - before))
            self._bound_framing(len(data), before)
        # A line that has not ended is not known to ``on_header`` yet, so bytes are counted too. A
        # head that ended within this data was handed on: one read of a socket is bounded.
        if in_head and self._reading is Turn.HEAD and not self._ended:
            self._head_bytes += len(data)
            if self._head_bytes > self.listener.limits.header_bytes_max:
                self._end("header_too_large", 431)

    def _bound_framing(self, size: int, before: int) -> None:
        """Ends a body of which much came and nothing was body: a trailer, or a chunk's extension.

        httptools keeps a field that has not ended, and copies it with each read.
        """
        if self._reading is not Turn.BODY or self._body_bytes != before:
            self._framing_bytes = 0
            return
        self._framing_bytes += size
        if self._framing_bytes > self.listener.limits.header_bytes_max:
            self._end("framing_too_large", 400)

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``: an answer in pieces has more in the buffer now."""
        super().pause_writing()
        self._notes_unsent()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``: most of a piece was read, which the next sweep can't see."""
        self._notes_unsent()
        super().resume_writing()

    def _notes_unsent(self) -> None:
        size = self.transport.get_write_buffer_size()
        self.listener.places.unsent(self, size, self.loop.time())

    def on_message_begin(self) -> None:
        """See ``HttpToolsProtocol``."""
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0
        self._reads(Turn.HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See ``HttpToolsProtocol``."""
        if self._reading is not Turn.HEAD:  # invariant 1
            self.listener.refused("trailer")
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self.listener.limits.header_bytes_max:
            self._end("header_too_large", 431)
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        if not self.url.startswith(b"/"):  # invariant 2
            self._end("request_target", 400)
            raise _Refused
        fault = fault_of(
            self.headers, self.parser.get_http_version(), upgrades=self.parser.should_upgrade()
        )
        if fault is not None:
            status, reason = fault
            self._end(reason, status)
            raise _Refused
        if len(self.pipeline) >= self.listener.limits.pipelined_max:
            self._end("pipelined", 0)
            raise _Refused
        proven = self.listener.proves(self.headers)
        self.listener.places.prove(self, proven)
        self.scope["state"][_PROVEN] = proven
        app = self.app
        if not self._under_way and not self._is_admitted():
            self.app = _busy
        self._under_way += 1
        self._reads(Turn.BODY)
        super().on_headers_complete()
        self.app = app

    def _is_admitted(self) -> bool:
        admitted, leaves = self.listener.places.admit(self, self.loop.time())
        if leaves is not None:
            leaves.cut(Cut.MADE_ROOM)
        if not admitted:
            self.listener.refused("busy")
        return admitted

    def on_body(self, body: bytes) -> None:
        """See ``HttpToolsProtocol``."""
        self._body_bytes += len(body)
        if self._body_bytes > self.listener.limits.body_bytes_max:
            self._end("body_too_large", 413)
            raise _Refused
        self._chunks.append(body)  # uvicorn copies all that it has with each, however small

    def _join_chunks(self) -> None:
        if self._chunks:
            super().on_body(b"".join(self._chunks))
            self._chunks.clear()

    def on_message_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._join_chunks()
        super().on_message_complete()
        self._reads(Turn.IDLE)

    def on_response_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._under_way -= 1
        super().on_response_complete()
        self._settle()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered so, unless more was said already."""
        if not self._ended:
            self._end("not_http", 400)

    def _reads(self, turn: Turn) -> None:
        self._reading = turn
        self._settle()

    def _settle(self) -> None:
        """Says whose turn it is.

        Ours while there is a request to answer, unless its own body is what we wait for.
        """
        waits_for_body = self._under_way == 1 and self._reading is Turn.BODY
        ours = self._under_way > 0 and not waits_for_body
        turn = Turn.OURS if ours else self._reading
        self.listener.places.turn(self, turn, self.loop.time())

    def cut(self, reason: Cut) -> None:
        """Ends the connection, for the other side kept us waiting.

        One that sent nothing is ended without a word: browsers connect ahead of their needs.
        """
        sent_nothing = self._reading is Turn.HEAD and not self._head_bytes and not self._under_way
        if sent_nothing and reason is Cut.HEADER_TIMEOUT:
            self._ended = True
            self.transport.close()
        else:
            self._end(reason.value, _SAID[reason])

    def _end(self, reason: str, status: int) -> None:
        """Ends the connection, with an answer if it still makes sense to the other side.

        Args:
            reason: for the log, and the answer.
            status: of the answer; 0 for none.
        """
        if self._ended:
            return
        self._ended = True
        self.listener.refused(reason)
        unanswered = self._under_way == 0 or (
            self._under_way == 1 and self._reading is Turn.BODY and not self.cycle.response_started
        )
        if status and unanswered and not self.transport.is_closing():
            words = b"%s\n" % reason.encode()
            self.transport.write(
                STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(words), words)
            )
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
