"""Batches the records of one topic and inserts them into ClickHouse.

Invariants:
1. At most two batches of a topic are in memory: one filling, one being inserted. While the filling
   batch is full, the sink pauses the topic.
2. Offsets of a batch are committed only when every record is stored, or is a dead letter that Kafka
   acknowledged (invariant 5 of the design). One batch is inserted at a time, so a topic's offsets
   are committed in order.
3. While ClickHouse is unavailable or too slow, the same batch is retried with exponential back-off
   and full jitter for as long as this sink owns the partitions. Nothing is dropped.
4. A batch belongs to one generation of the group. After a rebalance it is neither retried nor
   committed; the next owner stores its records, those already stored as the same rows.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition

from analytics.metrics import SinkMetrics
from analytics.sink.loading import Reject
from analytics.sink.rows import Polled
from schemas import trace
from schemas.errors import Unavailable
from schemas.trace import Tracer

log = structlog.get_logger("mailpulse.sink")

BACKOFF_FIRST_S = 0.2
Offsets = dict[TopicPartition, int]


class Loads(Protocol):
    """What stores the records of a topic: ``analytics.sink.loading.Loader``, or the eraser."""

    def load(self, records: Sequence[Polled]) -> list[Reject]: ...  # noqa: D102


@dataclass
class Batch:
    """Records of one topic, in order of arrival.

    Attributes:
        records: from Kafka.
        size_bytes: of their values, plus 64 each.
        opened_at: event-loop time at which the first one arrived, seconds.
        offsets: to commit once all are stored.
        times_ms: timestamp of the last record of each partition.
    """

    records: list[Polled] = field(default_factory=list)
    size_bytes: int = 0
    opened_at: float = 0.0
    offsets: Offsets = field(default_factory=dict)
    times_ms: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is inserted.

    Attributes:
        records_max: at this many records.
        bytes_max: at this many bytes.
        interval_s: this long after its first record arrived.
        backoff_s_max: longest pause before a retry.
    """

    records_max: int
    bytes_max: int
    interval_s: float
    backoff_s_max: float = 10.0


class Batcher:
    """Batches of one topic.

    Args:
        topic: name of the topic.
        loader: creates the loader; called in a worker thread at first use.
        executor: runs loads, one at a time for this batcher.
        limits: when to insert.
        metrics: of the sink.
        commit: commits offsets; raises nothing.
        dead_letter: sends rejects to the dead-letter topic; raises ``Unavailable``.
        tracer: records a span for each batch that has traced records.
    """

    def __init__(
        self,
        topic: str,
        loader: Callable[[], Loads],
        executor: Executor,
        limits: BatchLimits,
        metrics: SinkMetrics,
        commit: Callable[[Offsets], Awaitable[None]],
        dead_letter: Callable[[Sequence[Reject]], Awaitable[None]],
        tracer: Tracer | None = None,
    ) -> None:
        self.topic = topic
        self._make_loader = loader
        self._loader: Loads | None = None
        self._executor = executor
        self._limits = limits
        self._metrics = metrics
        self._commit = commit
        self._dead_letter = dead_letter
        self._tracer = tracer
        self._filling = Batch()
        self._flying: Batch | None = None
        self._flight: asyncio.Task[None] | None = None
        self._generation = 0
        self.healthy = True
        self.through_ms: dict[TopicPartition, int] = {}
        """Timestamp of the last record stored of each partition."""
        self.failure: BaseException | None = None
        """The unexpected error that ended an insert (invariant 8 of the design)."""

    @property
    def full(self) -> bool:
        """Whether the topic should be paused."""
        batch = self._filling
        return (
            len(batch.records) >= self._limits.records_max
            or batch.size_bytes >= self._limits.bytes_max
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of records in memory."""
        return self._filling.size_bytes + (self._flying.size_bytes if self._flying else 0)

    @property
    def idle(self) -> bool:
        """Whether no record is held."""
        return not self._filling.records and self._flight is None

    def add(self, partition: TopicPartition, records: Sequence[Any], now: float) -> None:
        """Adds polled records of one partition; each record once and in order."""
        batch = self._filling
        if not batch.records:
            batch.opened_at = now
        batch.records += records
        batch.size_bytes += sum(len(record.value or b"") + 64 for record in records)
        batch.offsets[partition] = records[-1].offset + 1
        batch.times_ms[partition] = records[-1].timestamp

    def due_in(self, now: float) -> float | None:
        """Seconds until the next insert is due; ``None`` if nothing is held or one is running."""
        if not self._filling.records or self._flight is not None:
            return None
        return 0.0 if self.full else self._filling.opened_at + self._limits.interval_s - now

    def launch(self, now: float, *, force: bool = False) -> None:
        """Begins to insert the filling batch if it is due and no insert is running."""
        due = self.due_in(now)
        if due is None or (due > 0 and not force):
            return
        self._flying, self._filling = self._filling, Batch()
        self._flight = asyncio.create_task(self._traced(self._flying, self._generation))
        self._flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        self._flying = None
        if not flight.cancelled():
            self.failure = self.failure or flight.exception()

    async def settle(self, timeout_s: float) -> bool:
        """Waits for a running insert; raises its error. Returns whether it ended in time."""
        flight = self._flight
        if flight is None:
            return True
        done, _ = await asyncio.wait({flight}, timeout=timeout_s)
        for each in done:
            each.result()
        return bool(done)

    def disown(self) -> None:
        """Drops the filling batch, and keeps a running insert from committing (invariant 4)."""
        self._generation += 1
        self._filling = Batch()

    async def _traced(self, batch: Batch, generation: int) -> None:
        """Stores the batch; with a span and a log line if it has traced records."""
        links = trace.of_records(batch.records)
        if not links:
            await self._until_stored(batch, generation)
            return
        figures = {"mailpulse.records": len(batch.records)}
        name = f"insert {self.topic}"
        with trace.span(self._tracer, name, "consumer", links=links, attributes=figures):
            await self._until_stored(batch, generation)
        if generation == self._generation:
            ids = [trace.trace_id(context) for context in links]
            log.info("traced records stored", topic=self.topic, traces=ids)

    async def _until_stored(self, batch: Batch, generation: int) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while generation == self._generation:
            started = loop.time()
            try:
                rejects = await loop.run_in_executor(self._executor, self._load, batch.records)
                if rejects:
                    await self._dead_letter(rejects)
            except Unavailable as error:
                attempt += 1
                self.healthy = False
                self._metrics.retries.labels(self.topic).inc()
                pause = self._pause_s(attempt)
                log.warning(
                    "not stored, will retry", topic=self.topic, attempt=attempt,
                    pause_s=round(pause, 2), records=len(batch.records), error=str(error),
                )  # fmt: skip
                await asyncio.sleep(pause)
                continue
            self.healthy = True
            self._metrics.insert_seconds.labels(self.topic).observe(loop.time() - started)
            if generation == self._generation:
                await self._commit(batch.offsets)
                self._count(batch)
            return

    def _load(self, records: Sequence[Polled]) -> list[Reject]:
        # in the worker thread, as connecting blocks
        if self._loader is None:
            self._loader = self._make_loader()
        return self._loader.load(records)

    def _pause_s(self, attempt: int) -> float:
        """Exponential back-off with full jitter, so that sinks do not retry at the same time."""
        ceiling = min(self._limits.backoff_s_max, BACKOFF_FIRST_S * 2 ** min(attempt, 16))
        return random.uniform(BACKOFF_FIRST_S / 2, ceiling)

    def _count(self, batch: Batch) -> None:
        self.through_ms |= batch.times_ms
        self._metrics.records.labels(self.topic).inc(len(batch.records))
        self._metrics.batch_records.labels(self.topic).observe(len(batch.records))
        self._metrics.newest.labels(self.topic).set(batch.records[-1].timestamp / 1000)
