"""A connection of a listener: what ``places`` decides, done to a real connection.

Invariants:
1. The request target is a path of ours. One with a host in it (absolute form, RFC 9112, 3.2.2) is
   for proxies, and is refused.
2. A refusal is logged once a minute for each reason, with the count.

What a connection may send, ``schemas.serving.bounded`` says.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import structlog
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from schemas.serving.bounded import BoundedProtocol, RequestRefused
from schemas.serving.places import Cut, Limits, Places, Turn
from schemas.serving.sparing import Sparing

Message = Any
Proves = Callable[[list[tuple[bytes, bytes]]], bool]
"""Judges headers as ASGI has them: names in lower case."""
_PROVEN = "proven"
"""Where in a request's ``state`` the verdict stands."""

_SAID = {Cut.HEADER_TIMEOUT: 408, Cut.BODY_TIMEOUT: 408, Cut.WRITE_TIMEOUT: 0, Cut.MADE_ROOM: 0}
"""Status of the answer to a connection that is cut; 0: no answer."""


def is_proven(scope: Message) -> bool:
    """Whether the listener's ``proves`` accepted the headers of this request.

    Args:
        scope: ASGI's; one that did not come through a listener is not proven.
    """
    return scope.get("state", {}).get(_PROVEN) is True


class _Sparingly(logging.Filter):
    """Rate-limits log records of the same text, and adds the count of suppressed ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._sparing = Sparing()

    def filter(self, record: logging.LogRecord) -> bool:
        count = self._sparing.happened(str(record.msg), self._loop.time())
        if count is not None and count > 1:
            record.msg = f"{record.msg} ({count} times since it was last logged)"
        return count is not None


class Listener:
    """State shared by the connections of one listening socket.

    Args:
        name: of the listener, for the log.
        limits: of the listener.
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
        self.places: Places[ListenerProtocol] = Places(limits)
        self._loop = loop
        self._sparing = Sparing()
        self._log = structlog.get_logger("mailpulse.serving")
        # uvicorn logs each exception; a separate logger, since a filter on its shared one would
        # apply to all listeners
        self.logger = logging.Logger("mailpulse.serving", logging.WARNING)
        self.logger.parent = logging.getLogger()
        self.logger.addFilter(_Sparingly(loop))

    def refused(self, reason: str) -> None:
        """Counts a refusal, and logs it if none of its kind was logged for a while."""
        count = self._sparing.happened(reason, self._loop.time())
        if count is not None:
            self._say(reason, count)

    def _say(self, reason: str, count: int) -> None:
        self._log.warning("refused", listener=self.name, reason=reason, count=count)

    def sweep(self) -> None:
        """Ends overdue connections; has to be called a few times a second."""
        now = self._loop.time()
        for protocol in self.places:
            self.places.unsent(protocol, protocol.transport.get_write_buffer_size(), now)
        for protocol, reason in self.places.overdue(now):
            protocol.cut(reason)
        for kind, count in self._sparing.due(now):
            self._say(kind, count)


_BUSY = PlainTextResponse(
    "too many requests at once, try again\n", 503, {"retry-after": "1", "connection": "close"}
)
"""ASGI application for requests over the limit."""


class ListenerProtocol(BoundedProtocol):
    """A connection. Subclasses set their ``listener``."""

    listener: ClassVar[Listener]
    _reading = Turn.HEAD  # state of the message that is being received
    _under_way = 0  # requests whose headers are complete and whose answer is not
    _body_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
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
        """See ``BoundedProtocol``."""
        if self._reading is Turn.IDLE and not self._ended:
            self._reads(Turn.HEAD)
        before = self._body_bytes
        super().data_received(data)
        if not self._ended:
            self.listener.places.received(self, max(0, self._body_bytes - before))

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``; notes the size of the write buffer."""
        super().pause_writing()
        self._notes_unsent()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``; notes the size of the write buffer, which has shrunk."""
        self._notes_unsent()
        super().resume_writing()

    def _notes_unsent(self) -> None:
        size = self.transport.get_write_buffer_size()
        self.listener.places.unsent(self, size, self.loop.time())

    def on_message_begin(self) -> None:
        """See ``HttpToolsProtocol``."""
        super().on_message_begin()
        self._body_bytes = 0
        self._reads(Turn.HEAD)

    def _count_trailer(self) -> None:
        self.listener.refused("trailer")

    def _check_headers(self) -> None:
        if not self.url.startswith(b"/"):  # invariant 1
            raise RequestRefused(400, "request_target")
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.header_bytes_max:  # all of it was received in a single read
            raise RequestRefused(431, "header_too_large")
        super()._check_headers()
        proven = self.listener.proves(self.headers)
        self.listener.places.prove(self, proven)
        self.scope["state"][_PROVEN] = proven
        admitted = self._under_way > 0 or self._is_admitted()
        self.app = self.config.loaded_app if admitted else _BUSY
        self._under_way += 1
        self._reads(Turn.BODY)

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
            raise RequestRefused(413, "body_too_large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        super().on_message_complete()
        self._reads(Turn.IDLE)

    def on_response_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._under_way -= 1
        super().on_response_complete()
        self._settle()

    def _refuse(self, status: int, code: str, ours: bool) -> None:
        self._end(code, status)

    def _exceeded(self, status: int, code: str) -> None:
        self._end(code, status)

    def _reads(self, turn: Turn) -> None:
        self._reading = turn
        self._settle()

    def _settle(self) -> None:
        """Reports whose turn it is.

        Ours while there is a request to answer, unless we wait for that request's body.
        """
        waits_for_body = self._under_way == 1 and self._reading is Turn.BODY
        ours = self._under_way > 0 and not waits_for_body
        turn = Turn.OURS if ours else self._reading
        self.listener.places.turn(self, turn, self.loop.time())

    def cut(self, reason: Cut) -> None:
        """Ends the connection because the other side kept us waiting.

        One that sent nothing is closed silently: browsers open connections in advance.
        """
        sent_nothing = self._reading is Turn.HEAD and not self._header_bytes and not self._under_way
        if sent_nothing and reason is Cut.HEADER_TIMEOUT:
            self._ended = True
            self.transport.close()
        else:
            self._end(reason.value, _SAID[reason])

    def _end(self, reason: str, status: int) -> None:
        """Ends the connection, with an answer if the other side expects one.

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
