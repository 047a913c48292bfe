"""Results that callers have not read yet, and the limit on their bytes.

Invariants:
1. A result takes memory until its last piece is handed to the connection, which takes one piece
   at a time and the next when the other side has read. Until then its bytes count.
2. The results of analysts' queries share ``bytes_max``. One that finds no room waits for it with
   its query's place still taken, so that no more queries make results than there are places; then
   its caller is told to try again. A result alone always has room.
3. A slow reader gives way: when a result finds no room, the one that has been held longest, and for
   more than ``READ_S_MAX``, is given up, and its connection ends early.
4. One of a single piece does not count: the connection has it whole at once, and connections are
   bounded. So unread large results never block small ones.
5. The engine's memory is not copied but for the piece that is being sent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from analytics.door.native import Content
from analytics.warehouse.errors import QueryError

log = structlog.get_logger("mailpulse.warehouse")

PIECE_BYTES = 1 << 20
LOOK_S = 0.05
READ_S_MAX = 60.0
"""How long a result may take to be packed and read while others wait for its room."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine gave.

    Attributes:
        content: the result, in its format.
        figures: for ``X-ClickHouse-Summary``.
        owner: of the memory that ``content`` shows: to be kept as long as that.
    """

    content: Content
    figures: dict[str, str]
    owner: object = None


class Unsent:
    """The bytes that wait for analysts to read them.

    Args:
        bytes_max: at once, of all results.
        wait_s_max: longest wait of a result for room.
        read_s_max: see ``READ_S_MAX``.
    """

    def __init__(self, bytes_max: int, wait_s_max: float, read_s_max: float = READ_S_MAX) -> None:
        self.bytes = 0
        self._since_s: dict[Held, float] = {}
        self._read_s_max = read_s_max
        self._bytes_max = bytes_max
        self._wait_s_max = wait_s_max

    async def held(self, answer: Answer, is_gone: Callable[[], bool]) -> "Held":
        """The answer, once there is room for its result; to be released by the caller.

        Args:
            answer: to be sent.
            is_gone: whether nobody waits for it any more; then there is no need for room.

        Raises:
            QueryError: no room came free in time.
        """
        size = _counted(answer.content)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s_max
        while self.bytes and self.bytes + size > self._bytes_max and size:
            if is_gone() or loop.time() > deadline:
                raise QueryError(
                    202,
                    "TOO_MANY_SIMULTANEOUS_QUERIES",
                    f"{self.bytes} bytes of results wait for their callers to read them"
                    f" (maximum: {self._bytes_max}), and this one has {size}: try again,"
                    " or ask for less",
                )
            self._give_up_one(loop.time())
            await asyncio.sleep(LOOK_S)
        held = Held(answer, self)
        self._since_s[held] = loop.time()
        return held

    def _give_up_one(self, now_s: float) -> None:
        """Invariant 3."""
        for held, since_s in self._since_s.items():  # in the order in which they came
            if now_s - since_s > self._read_s_max and held.counts:
                held.given_up.set()
                return

    def count(self, held: "Held", counts: int) -> None:
        """Counts so many bytes for a result from now on."""
        self.bytes += counts - held.counts
        if not counts:
            self._since_s.pop(held, None)


class Held:
    """An answer whose result is in memory until it is released.

    Args:
        answer: the engine's.
        unsent: what its bytes count in, if they do.

    Attributes:
        figures: see ``Answer``.
        counts: bytes that count now.
        given_up: set when it must not be sent any further.
    """

    def __init__(self, answer: Answer, unsent: Unsent | None = None) -> None:
        self.figures = answer.figures
        self._unsent = unsent
        self.counts = 0
        self.given_up = asyncio.Event()
        self._put(answer.content, answer.owner)

    @property
    def content(self) -> Content:
        """The result; empty once it is released."""
        return self._content

    def replace(self, content: Content) -> None:
        """Puts another content in place of the first: the same, packed."""
        if content is not self._content:
            self._put(content, None)

    def release(self) -> None:
        """Lets the memory go."""
        self._put(b"", None)

    def _put(self, content: Content, owner: object) -> None:
        self._content, self._owner = content, owner
        counts = _counted(content)
        if self._unsent is not None:
            self._unsent.count(self, counts)
        self.counts = counts


def _counted(content: Content) -> int:
    return len(content) if len(content) > PIECE_BYTES else 0


class Pieces(Response):
    """A response that is sent in pieces, each once the connection has room, and then released.

    A connection that is gone takes all pieces at once. One whose result is given up ends before the
    length that was announced, which any client takes for an error.

    Args:
        held: what to send.
        media_type: its ``Content-Type``.
        headers: further ones.
    """

    def __init__(self, held: Held, media_type: str, headers: dict[str, str]) -> None:
        length = {"Content-Length": str(len(held.content))}
        super().__init__(media_type=media_type, headers={**headers, **length})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            left = len(self._held.content)
            while True:
                at = len(self._held.content) - left
                piece = bytes(self._held.content[at : at + PIECE_BYTES])
                left -= len(piece)
                if not left:
                    self._held.release()
                message = {"type": "http.response.body", "body": piece, "more_body": left > 0}
                if not await self._sent(send, message):
                    log.warning("result given up: it was read too slowly", bytes_left=left)
                    return
                if not left:
                    return
        finally:
            self._held.release()

    async def _sent(self, send: Send, message: Message) -> bool:
        """Whether a piece was sent before the result was given up."""
        sending = asyncio.ensure_future(send(message))
        given_up = asyncio.ensure_future(self._held.given_up.wait())
        try:
            await asyncio.wait({sending, given_up}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
            return sending.done()
        finally:
            sending.cancel()
            given_up.cancel()
