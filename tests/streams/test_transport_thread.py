"""Takes chunks from aiokafka's real buffers: real record batches, results and assignments."""

import asyncio
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchError, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.transport.chunks import TP, Taken
from streams.transport.thread import ChunkThread


def batch(offsets: list[int], size: int = 10) -> bytes:
    """A record batch with a record at each offset; gaps are as compaction leaves them."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for offset in offsets:
        builder.append(offset, 1_700_000_000_000, b"k%d" % offset, b"v" * size, [("h", b"1")])
    return bytes(builder.build())


class Buffer:
    """aiokafka's fetcher, as far as taking uses it, around its real results."""

    def __init__(self, *partitions: TopicPartition) -> None:
        self._records: OrderedDict[TopicPartition, Any] = OrderedDict()
        self._wait_consume_future = None
        self._subscriptions = SimpleNamespace(is_assigned=lambda tp: tp in partitions)
        self.assignment = Assignment(list(partitions))
        self.notified = 0

    def _notify(self, future: Any) -> None:
        self.notified += 1

    def fetched(self, tp: TopicPartition, data: bytes, position: int) -> None:
        state = self.assignment.state_value(tp)
        assert state is not None
        state.seek(position)
        state.highwater = state.lso = 1_000
        records = PartitionRecords(
            tp, MemoryRecords(data), [], position, None, None, True, READ_COMMITTED
        )
        self._records[tp] = FetchResult(
            tp, assignment=self.assignment, partition_records=records, backoff=0
        )


A, B = TopicPartition("in", 0), TopicPartition("in", 1)
TPA, TPB = TP("in", 0), TP("in", 1)


def thread(records_max: int = 4, bytes_max: int = 1 << 20) -> ChunkThread:
    """A consumer's thread that was not started, as taking does not need it to run."""
    made = ChunkThread.__new__(ChunkThread)
    app = SimpleNamespace(
        chunk_topics=frozenset({"in"}), chunk_records_max=records_max, chunk_bytes_max=bytes_max,
    )  # fmt: skip
    made.consumer = SimpleNamespace(app=app)
    made._sessions = {TPA: 1, TPB: 1}
    return made


def drain(buffer: Buffer, of: ChunkThread, places: int = 1) -> dict[TP, Any]:
    return of._drain(buffer, {TPA, TPB}, {"in": places}, None)


async def test_chunks_tile_a_fetch_with_gaps() -> None:
    """Compacted records belong to the chunk before them; the position follows each chunk."""
    buffer, taker = Buffer(A), thread()
    buffer.fetched(A, batch([3, 4, 9, 10, 11, 30]) + batch([40]), position=2)
    got: list[Taken] = []
    while buffer._records:
        chunk = drain(buffer, taker).get(TPA)
        if chunk is not None:
            got.append(chunk)
        state = buffer.assignment.state_value(A)
        assert state is not None
        assert state.position == got[-1].next
    assert [(t.first, t.next) for t in got] == [(2, 11), (11, 41)]
    assert [r.offset for t in got for r in t.records] == [3, 4, 9, 10, 11, 30, 40]
    record = got[0].records[0]
    assert (record.key, record.value, record.timestamp) == (b"k3", b"v" * 10, 1_700_000_000_000)
    assert list(record.headers) == [("h", b"1")]
    assert got[0].highwater == 1_000
    assert buffer.notified == 1  # aiokafka fetches on only when all is taken


async def test_bytes_bound_a_chunk() -> None:
    """Including overhead; there is always progress."""
    buffer, taker = Buffer(A), thread(records_max=100, bytes_max=1_000)
    buffer.fetched(A, batch(list(range(10)), size=400), position=0)
    assert len(drain(buffer, taker)[TPA].records) == 2


async def test_partitions_take_turns_when_places_are_few() -> None:
    """With one place the other partition is next, however much the first one has."""
    buffer, taker = Buffer(A, B), thread()
    buffer.fetched(A, batch(list(range(20))), position=0)
    buffer.fetched(B, batch(list(range(20))), position=0)
    order = [tuple(drain(buffer, taker)) for _ in range(4)]
    assert order == [(TPA,), (TPB,), (TPA,), (TPB,)]
    assert drain(buffer, taker, places=0) == {}


async def test_what_is_taken_at_once_is_bounded() -> None:
    """Many small chunks come together, large ones one by one: the event loop waits meanwhile."""
    buffer, taker = Buffer(A, B), thread(records_max=4)
    buffer.fetched(A, batch([0, 1]), position=0)
    buffer.fetched(B, batch([0, 1, 2, 3, 4, 5, 6]), position=0)
    takes = [{tp: len(t.records) for tp, t in drain(buffer, taker, 5).items()} for _ in range(2)]
    assert takes == [{TPA: 2, TPB: 4}, {TPB: 3}]


async def test_a_partition_without_a_session_is_not_touched() -> None:
    """Records taken before the session opened would be lost."""
    buffer, taker = Buffer(A), thread()
    buffer.fetched(A, batch([0, 1]), position=0)
    taker._sessions.clear()
    assert drain(buffer, taker) == {}
    taker._sessions[TPA] = 2
    assert drain(buffer, taker)[TPA].session == 2


async def test_a_fetch_from_before_a_seek_is_thrown_away() -> None:
    """aiokafka's own check: the position is no longer the one that was fetched from."""
    buffer, taker = Buffer(A), thread()
    buffer.fetched(A, batch([0, 1]), position=0)
    state = buffer.assignment.state_value(A)
    assert state is not None
    state.seek(7)
    assert drain(buffer, taker) == {}
    assert state.position == 7
    assert not buffer._records


async def test_an_error_is_raised_when_nothing_else_is_in_hand() -> None:
    """Fetched records are delivered first."""
    buffer, taker = Buffer(A, B), thread()
    buffer.fetched(A, batch([0]), position=0)
    buffer._records[B] = FetchError(error=TopicAuthorizationFailedError("in"), backoff=0)
    assert set(drain(buffer, taker)) == {TPA}
    with pytest.raises(TopicAuthorizationFailedError):
        drain(buffer, taker)
    await asyncio.sleep(0)
