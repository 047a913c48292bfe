"""A topic's batcher: back-pressure, retries, and rebalances."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import structlog
from aiokafka import TopicPartition

from analytics.metrics import SinkMetrics
from analytics.sink.batcher import Batcher, BatchLimits, Offsets
from analytics.sink.loading import Loader, Reject
from analytics.sink.rows import Polled
from schemas import topics
from schemas.errors import Unavailable
from tests.analytics.scenario import Sent
from tests.schemas.test_trace import GOOD, TRACE

PARTITION = TopicPartition(topics.ENRICHED, 0)


class RecordingLoader:
    """Stores in a list; fails as often as told first."""

    def __init__(self, failures: Sequence[Exception] = (), rejects: int = 0) -> None:
        self.failures = list(failures)
        self.stored: list[int] = []
        self.rejects = rejects

    def load(self, records: Sequence[Polled]) -> list[Reject]:
        """As ``Loader.load``."""
        if self.failures:
            raise self.failures.pop(0)
        self.stored += [record.offset for record in records]
        return [Reject(record, "bad", "") for record in records[: self.rejects]]


class Bench:
    """A batcher with its surroundings recorded."""

    def __init__(self, loader: RecordingLoader) -> None:
        self.committed: list[Offsets] = []
        self.letters: list[int] = []
        self.letters_fail = 0
        make = cast("Callable[[], Loader]", lambda: loader)
        self.batcher = Batcher(
            topics.ENRICHED, make, ThreadPoolExecutor(1), BatchLimits(10, 100_000, 60.0, 0.1),
            SinkMetrics(), self._commit, self._dead_letter,
        )  # fmt: skip

    async def _commit(self, offsets: Offsets) -> None:
        self.committed.append(dict(offsets))

    async def _dead_letter(self, rejects: Sequence[Reject]) -> None:
        if self.letters_fail:
            self.letters_fail -= 1
            raise Unavailable("Kafka is away")
        self.letters += [reject.record.offset for reject in rejects]

    def add(self, first: int, count: int, *headers: tuple[str, bytes]) -> None:
        """Polled records from ``first`` on."""
        records: list[Any] = [
            Sent(topics.ENRICHED, 0, offset, 0, None, b"value", headers)
            for offset in range(first, first + count)
        ]
        self.batcher.add(PARTITION, records, 0.0)


async def test_full_batch_flies_and_its_offsets_are_committed_once_stored() -> None:
    """At the limit the batch is sent without waiting for its time."""
    bench = Bench(loader := RecordingLoader())
    bench.add(0, 9)
    bench.batcher.launch(0.0)
    assert loader.stored == []
    bench.add(9, 1)
    assert bench.batcher.full
    bench.batcher.launch(0.0)
    assert await bench.batcher.settle(5)
    assert loader.stored == list(range(10))
    assert bench.committed == [{PARTITION: 10}]


async def test_due_time_sends_a_small_batch() -> None:
    """The first record waits no longer than the interval."""
    bench = Bench(RecordingLoader())
    bench.add(0, 1)
    assert bench.batcher.due_in(10.0) == 50.0
    bench.batcher.launch(60.0)
    assert await bench.batcher.settle(5)
    assert bench.committed == [{PARTITION: 1}]


async def test_unavailable_clickhouse_is_tried_until_it_takes_the_same_batch() -> None:
    """Nothing is committed before, the batcher reports that it is unhealthy, and one more batch
    fills."""
    bench = Bench(loader := RecordingLoader([Unavailable("away")] * 3))
    bench.add(0, 10)
    bench.batcher.launch(0.0)
    bench.add(10, 10)
    assert bench.batcher.full
    assert bench.batcher.due_in(0.0) is None
    assert await bench.batcher.settle(10)
    assert bench.batcher.healthy
    assert loader.stored == list(range(10))
    assert bench.committed == [{PARTITION: 10}]


async def test_rejects_are_dead_lettered_before_the_commit() -> None:
    """If the dead-letter topic is unavailable, the batch is stored again rather than committed."""
    bench = Bench(loader := RecordingLoader(rejects=2))
    bench.letters_fail = 1
    bench.add(0, 10)
    bench.batcher.launch(0.0)
    assert await bench.batcher.settle(10)
    assert bench.letters == [0, 1]
    assert loader.stored == list(range(10)) * 2
    assert bench.committed == [{PARTITION: 10}]


async def test_disowned_batch_is_neither_tried_again_nor_committed() -> None:
    """After a rebalance its records belong to another member."""
    bench = Bench(loader := RecordingLoader([Unavailable("away")] * 1_000_000))
    bench.add(0, 10)
    bench.batcher.launch(0.0)
    bench.add(10, 3)
    bench.batcher.disown()
    assert await bench.batcher.settle(10)
    assert bench.batcher.idle
    assert (loader.stored, bench.committed) == ([], [])


async def test_a_bug_ends_the_flight_and_is_kept_for_the_pump() -> None:
    """An unexpected error is not retried and not swallowed (invariant 8 of the design)."""
    bench = Bench(RecordingLoader([ZeroDivisionError()]))
    bench.add(0, 10)
    bench.batcher.launch(0.0)
    with pytest.raises(ZeroDivisionError):
        await bench.batcher.settle(5)
    await asyncio.sleep(0)
    assert isinstance(bench.batcher.failure, ZeroDivisionError)
    assert bench.committed == []


async def test_traced_records_are_named_once_they_are_stored() -> None:
    """One line and one span per batch, retries included; none for records without a trace."""
    bench = Bench(RecordingLoader([Unavailable("away")]))
    with structlog.testing.capture_logs() as lines:
        bench.add(0, 3, ("ce_id", b"1"))
        bench.batcher.launch(100.0)
        assert await bench.batcher.settle(10)
        bench.add(3, 7, ("ce_id", b"1"), ("traceparent", GOOD.encode()))
        bench.batcher.launch(100.0)
        assert await bench.batcher.settle(10)
    stored = [line for line in lines if line["event"] == "traced records stored"]
    assert [line["traces"] for line in stored] == [[TRACE]]
