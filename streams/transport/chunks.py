"""Chunks, which the transport delivers, and sessions, which keep track of them.

Invariants:
1. Chunks tile their partition: every record with an offset in ``first..last`` is in ``records``,
   and the next chunk starts at ``last + 1``. Offsets without a record (transaction markers,
   aborted and compacted records) belong to the chunk around them. A range without any record is a
   chunk without records, so that a reader's position always reaches the end of the log.
2. A session is one uninterrupted reading of one partition, from a seek to the next. What was
   fetched or queued in an earlier session is never delivered.
3. No I/O, no clock, no tasks: those are in ``streams.transport.consumer``.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from faust.types.tuples import TP, ConsumerMessage

__all__ = ["TP", "Chunk", "ChunkMessage", "Record", "Session", "Taken"]

NO_GENERATION = -1
"""No group generation has this number, so Faust's streams skip a message that carries it."""

_RECORD_OVERHEAD_BYTES = 200
"""A record's share of memory besides key and value: the objects around them."""


class Record(Protocol):
    """A record as aiokafka read it from the log, without the copy into a ``ConsumerRecord``.

    Copying costs about as much as reading. Topic and partition are in ``Chunk.tp``.
    """

    @property
    def offset(self) -> int:
        """Offset in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, set by the producer or the broker (a setting of the topic)."""

    @property
    def timestamp_type(self) -> int:
        """0: set by the producer (create time), 1: set by the broker (append time)."""

    @property
    def key(self) -> bytes | None:
        """Key as sent."""

    @property
    def value(self) -> bytes | None:
        """Value as sent; ``None`` is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Headers as sent, in order."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one partition; the value of one Faust event.

    Attributes:
        tp: topic and partition.
        records: in offset order; may be empty (invariant 1).
        first: first offset that the chunk covers.
        last: last offset that it covers; ``last + 1`` is committed once it is finished.
        highwater: end of the log when it was fetched: the last stable offset.
    """

    tp: TP
    records: Sequence[Record]
    first: int
    last: int
    highwater: int


class Taken(NamedTuple):
    """What the consumer's thread took out of aiokafka's buffer for one partition.

    Attributes:
        session: number of the session it was taken for.
        records: in offset order.
        first: position before them.
        next: position after them.
        highwater: as ``Chunk.highwater``.
    """

    session: int
    records: list[Record]
    first: int
    next: int
    highwater: int


class ChunkMessage(ConsumerMessage):
    """Faust's envelope of a chunk; ``session`` is the reading it belongs to."""

    __slots__ = ("session",)
    session: "Session"

    @classmethod
    def of(cls, chunk: Chunk, session: "Session", generation_id: int) -> "ChunkMessage":
        """The message that carries ``chunk`` through Faust."""
        untimed: Any = None
        value: Any = chunk  # Faust declares bytes
        message = cls(
            chunk.tp.topic, chunk.tp.partition, chunk.last, untimed, 0, None, None, value, None,
            0, 0, chunk.tp, generation_id=generation_id,
        )  # fmt: skip
        message.session = session
        return message

    @property
    def chunk(self) -> Chunk:
        """What the message carries."""
        chunk: Any = self.value
        return cast(Chunk, chunk)

    def lost(self) -> None:
        """Notes that Faust dropped the message before an agent had it."""
        if not self.acked and self.generation_id != NO_GENERATION:
            self.session.rewind(self.chunk.first)


class Session:
    """One reading of one partition.

    Attributes:
        number: of this session, unique in the process.
        position: first offset that no chunk covers yet; ``None``: the start of the log.
        highwater: as of the newest chunk; ``None`` before the first.
        lost_from: an undelivered chunk was dropped, so reading goes back to this offset.
        open: whether chunks may be delivered. A closed session may still be committed.
    """

    __slots__ = ("_messages", "highwater", "lost_from", "number", "open", "position", "tp")

    def __init__(self, tp: TP, number: int, position: int | None) -> None:
        self.tp = tp
        self.number = number
        self.position = position
        self.highwater: int | None = None
        self.lost_from: int | None = None
        self.open = True
        self._messages: deque[ChunkMessage] = deque()

    def accept(self, taken: Taken, generation_id: int) -> ChunkMessage | None:
        """The message to deliver; ``None`` if the session was closed or set back meanwhile."""
        if not self.open or self.lost_from is not None or taken.session != self.number:
            return None
        chunk = Chunk(self.tp, taken.records, taken.first, taken.next - 1, taken.highwater)
        message = ChunkMessage.of(chunk, self, generation_id)
        self.position = taken.next
        self.highwater = taken.highwater
        while self._messages and self._messages[0].acked:
            self._messages.popleft()
        self._messages.append(message)
        return message

    def rewind(self, offset: int) -> None:
        """Notes that reading has to go back to ``offset``."""
        if self.open:
            self.lost_from = offset if self.lost_from is None else min(offset, self.lost_from)
            self._withdraw(offset)

    def close(self) -> None:
        """Ends delivery; queued chunks will be skipped."""
        self.open = False
        self._withdraw(0)

    def unfinished(self) -> Chunk | None:
        """The oldest chunk that was delivered and is not finished by an agent."""
        for message in self._messages:
            if not message.acked:
                return message.chunk
        return None

    def _withdraw(self, offset: int) -> None:
        # The stream compares the generation when it takes a message from its queue. For a chunk
        # that an agent already holds this comes too late and changes nothing.
        for message in self._messages:
            if message.offset >= offset:
                message.generation_id = NO_GENERATION


def take(source: Any, records_max: int, bytes_max: int) -> tuple[list[Record], bool]:
    """Takes records from an aiokafka record iterator until one of the limits is reached.

    Returns:
        The records, and whether the iterator has ended. The record that reaches ``bytes_max`` is
        taken too, so there is always progress.
    """
    records: list[Record] = []
    append = records.append
    left = bytes_max
    for record in source:
        append(record)
        value, key = record.value, record.key
        left -= _RECORD_OVERHEAD_BYTES + (len(value) if value else 0) + (len(key) if key else 0)
        if left <= 0 or len(records) >= records_max:
            return records, False
    return records, True


def describe(chunk: Chunk | None) -> str:
    """A chunk for a log line."""
    if chunk is None:
        return "no chunk is in work"
    return f"chunk {chunk.first}..{chunk.last} is not finished"
