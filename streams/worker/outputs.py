"""What a worker writes to Kafka: whole record batches, several in flight, all awaited.

Invariants:
1. ``Flight.landed`` returns only when Kafka acknowledged (``acks=all``) everything that was sent
   since the last one; a failed delivery raises there, and the worker ends (invariant 8 of the
   design).
2. At most ``IN_FLIGHT_MAX`` batches of a shard are unacknowledged, besides those that it shares
   with others (``streams.worker.gathering``), one of each partition: memory is bounded.
3. Keys are placed as every Kafka client places them (murmur2), unless a partition is given.
4. Every record carries CloudEvents headers (``schemas.cloudevents``).
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Protocol

from schemas.cloudevents import Headers
from schemas.partition import partition_of
from schemas.settings import Settings
from streams.enrich.admission import BESIDE_BYTES_MAX
from streams.kafka.clients import producer

IN_FLIGHT_MAX = 16


class Row(NamedTuple):
    """One record to write. ``timestamp``: milliseconds; ``value`` ``None``: tombstone."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = []  # noqa: RUF012 — shared on purpose, nobody changes it


RowLike = Row | tuple[bytes | None, bytes | None, int, Headers]


class Outputs:
    """The producer of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.producer: Any = None

    async def start(self) -> None:
        """Connects.

        Raises:
            Unavailable: no broker answers.
        """
        # With the largest raw record this is below a broker's default limit for batches, 1 MiB.
        batch_bytes_max = self._settings.record_bytes_max + BESIDE_BYTES_MAX
        batches = {
            "linger_ms": 5, "max_batch_size": batch_bytes_max,
            "max_request_size": 2 * batch_bytes_max,
        }  # fmt: skip
        self.producer = await self._stack.enter_async_context(producer(self._settings, **batches))

    async def stop(self) -> None:
        """Sends what is queued and disconnects."""
        await self._stack.aclose()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        found = await self.producer.partitions_for(topic)
        return len(found)

    def batches(self, topic: str, rows: Iterable[RowLike]) -> Iterator[Any]:
        """Packs rows into as few batches as they fit into, in order.

        Raises:
            ValueError: a row is larger than a batch may be.
        """
        batch = self.producer.create_batch()
        for key, value, timestamp, headers in rows:
            if batch.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
                yield batch
                batch = self.producer.create_batch()
                if batch.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
                    raise ValueError(f"a record of {len(value or b'')} bytes for {topic}")
        if batch.record_count():
            yield batch

    async def send(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        """Hands a batch to the producer; the future ends when Kafka has acknowledged it."""
        future: asyncio.Future[Any]
        future = await self.producer.send_batch(batch, topic, partition=partition)
        return future


class Gathers(Protocol):
    """What a flight needs of what gathers its rows (``streams.worker.gathering``)."""

    async def send(self) -> None:
        """Hands all that is gathered to the producer."""


class Flight:
    """What one shard has sent since its last checkpoint.

    Attributes:
        ends: per topic and partition, the offset behind the last acknowledged batch.
        gathered_by: may hold rows of this shard that are not sent yet.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._futures: deque[tuple[str, int, asyncio.Future[Any]]] = deque()
        self.ends: dict[tuple[str, int], int] = {}
        self.gathered_by: Gathers | None = None

    async def send_to(self, topic: str, partition: int, rows: Iterable[RowLike]) -> None:
        """Sends rows to one partition, in order.

        Raises:
            aiokafka.errors.KafkaError: an earlier batch could not be delivered.
            ValueError: a row is larger than a batch may be.
        """
        for batch in self._outputs.batches(topic, rows):
            while len(self._futures) >= IN_FLIGHT_MAX:
                await self._land_oldest()
            future = await self._outputs.send(batch, topic, partition)
            self.carries(topic, partition, future)

    def carries(self, topic: str, partition: int, future: asyncio.Future[Any]) -> None:
        """A batch with rows of this shard is on its way."""
        self._futures.append((topic, partition, future))

    async def send_keyed(self, topic: str, rows: Iterable[Row]) -> None:
        """Sends rows to the partitions that their keys belong to, in order within each."""
        count = await self._outputs.partitions(topic)
        by_partition: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_partition[partition_of(row.key or b"", count)].append(row)
        for partition, some in by_partition.items():
            await self.send_to(topic, partition, some)

    async def _land_oldest(self) -> None:
        # A batch that failed, or whose wait was cancelled, stays first in the queue, so that no
        # later call reports that everything has landed.
        topic, partition, future = self._futures[0]
        metadata = await asyncio.shield(future)
        self._futures.popleft()
        if metadata is not None and metadata.offset >= 0:
            # the base offset of the batch is good enough as a position to start reading from
            self.ends[topic, partition] = metadata.offset

    async def landed(self) -> None:
        """Waits until everything sent is acknowledged.

        Raises:
            aiokafka.errors.KafkaError: something could not be delivered.
        """
        if self.gathered_by is not None:
            await self.gathered_by.send()
        while self._futures:
            await self._land_oldest()
