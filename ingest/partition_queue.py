"""Queues to Kafka, one per partition, each with at most one batch in flight.

Invariants:
1. Per partition, records go in the order in which their parcels were handed over.
2. A parcel is acknowledged when every share of it is. A share is its records for one partition.
3. A parcel that timed out before it was handed to Kafka's client is not sent.
4. Records are encoded once, all of a parcel together, when it is handed over; a queue only numbers
   them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka.record.util import calc_crc32c

from ingest.parcel import Pair
from schemas.cloudevents import INGEST, WireHeaders
from schemas.partition import partition_of, partitions_of
from schemas.record_batch import RecordBatch, bodies
from schemas.topics import BY_NAME
from schemas.trace import TRACEPARENT


class ParcelInFlight:
    """A parcel that is being sent: how many shares are not acknowledged yet, and its future."""

    __slots__ = ("deadline", "done", "left", "trace")

    def __init__(self, done: asyncio.Future[None], deadline: float, trace: bytes = b"") -> None:
        self.left = 0
        self.done = done
        self.deadline = deadline
        self.trace = trace

    def acknowledged(self) -> None:
        """One more share is acknowledged."""
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class Share:
    """A parcel's records for one partition; the first ``sent`` of them are in batches already."""

    __slots__ = ("pending", "records", "sent", "timestamp_ms")

    def __init__(self, pending: ParcelInFlight, timestamp_ms: int, records: list[bytes]) -> None:
        pending.left += 1
        self.pending = pending
        self.timestamp_ms = timestamp_ms
        self.records = records
        self.sent = 0


class PartitionQueue:
    """The shares that wait for one partition, and the task that sends them batch by batch.

    Args:
        client: an ``AIOKafkaProducer``, started.
        batch_bytes_max: most bytes of one batch.
    """

    def __init__(self, client: Any, topic: str, partition: int, batch_bytes_max: int) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._batch_bytes_max = batch_bytes_max
        self.queue: deque[Share] = deque()
        self.wake = asyncio.Event()

    def put(self, share: Share) -> None:
        """Queues a share."""
        self.queue.append(share)
        self.wake.set()

    def _fill(self, batch: RecordBatch) -> list[ParcelInFlight]:
        """Moves shares into ``batch`` until it is full, without those that timed out.

        Returns:
            The parcels of shares whose last record is in it.
        """
        queue = self.queue
        taken: list[ParcelInFlight] = []
        while queue:
            share = queue[0]
            if not share.pending.done.done():
                records = share.records[share.sent :] if share.sent else share.records
                share.sent += batch.extend(records, share.timestamp_ms)
                if share.sent < len(share.records):
                    break
                taken.append(share.pending)
            queue.popleft()
        return taken

    async def run(self, on_ack: Callable[[], None]) -> None:
        """Sends until it is cancelled.

        Raises:
            Exception: whatever aiokafka raises when a batch can't be delivered.
        """
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                batch = RecordBatch(self._batch_bytes_max, calc_crc32c)
                taken = self._fill(batch)
                if not batch.record_count():
                    continue
                future = await self._client.send_batch(
                    batch, self._topic, partition=self._partition
                )
                await future
                on_ack()
                for pending in taken:
                    pending.acknowledged()


class Connection:
    """A started client with a queue per partition of both topics.

    Args:
        partitions: topic -> how many.
        batch_bytes_max: most bytes of one batch.
    """

    def __init__(self, client: Any, partitions: dict[str, int], batch_bytes_max: int) -> None:
        self.client = client
        self.partitions = partitions
        self.queues = {
            topic: [
                PartitionQueue(client, topic, number, batch_bytes_max) for number in range(count)
            ]
            for topic, count in partitions.items()
        }
        self._headers = {topic: WireHeaders(BY_NAME[topic].schema, INGEST) for topic in partitions}

    def all_queues(self) -> Iterable[PartitionQueue]:
        """Every queue."""
        return (queue for queues in self.queues.values() for queue in queues)

    def submit(
        self, topic: str, pairs: Sequence[Pair], timestamp_ms: int, who: ParcelInFlight
    ) -> None:
        """Puts records into their queues."""
        if not pairs:
            return
        queues = self.queues[topic]
        keys, values = zip(*pairs, strict=True)
        last = (TRACEPARENT, who.trace) if who.trace else None
        records = bodies(keys, values, self._headers[topic].columns(values, timestamp_ms, last))
        if len(records) == 1:
            queues[partition_of(keys[0], len(queues))].put(Share(who, timestamp_ms, records))
            return
        shares: dict[int, list[bytes]] = {}
        for record, number in zip(records, partitions_of(keys, len(queues)), strict=True):
            shares.setdefault(number, []).append(record)
        for number, some in shares.items():
            queues[number].put(Share(who, timestamp_ms, some))
