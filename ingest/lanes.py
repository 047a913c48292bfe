"""Lanes to Kafka: one per partition, in each of which one batch at a time is under way.

Laws of this file:
1. Per partition, records go in the order in which their parcels were handed over.
2. A parcel is acknowledged when every share of it is: what of it goes to one partition.
3. What was given up before it was handed to Kafka is not sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ingest.parcel import Pair
from schemas.cloudevents import INGEST, by_leading_text
from schemas.partition import partitions_of
from schemas.topics import BY_NAME
from schemas.trace import with_trace


class Pending:
    """A parcel under way: how many of its shares are not acknowledged yet, and who waits."""

    __slots__ = ("deadline", "done", "left", "trace")

    def __init__(self, done: asyncio.Future[None], deadline: float, trace: bytes = b"") -> None:
        self.left = 0
        self.done = done
        self.deadline = deadline
        self.trace = trace

    def acknowledged(self) -> None:
        """One share less to wait for."""
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class Share:
    """What of a parcel goes to one partition; ``sent`` of its records are in batches already."""

    __slots__ = ("pairs", "pending", "sent", "timestamp_ms")

    def __init__(self, pending: Pending, timestamp_ms: int, pairs: list[Pair]) -> None:
        pending.left += 1
        self.pending = pending
        self.timestamp_ms = timestamp_ms
        self.pairs = pairs
        self.sent = 0


class Lane:
    """One partition: what waits for it, and the task that sends it batch by batch."""

    def __init__(self, client: Any, topic: str, partition: int) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._headers_of = by_leading_text(BY_NAME[topic].schema, INGEST)
        self.queue: deque[Share] = deque()
        self.wake = asyncio.Event()

    def put(self, share: Share) -> None:
        """Queues a share."""
        self.queue.append(share)
        self.wake.set()

    def _fill(self, batch: Any) -> list[Pending]:
        """Moves shares into ``batch`` until it is full; what was given up is left out.

        Returns:
            Who waits for the shares whose last record is in it.
        """
        queue = self.queue
        taken: list[Pending] = []
        while queue:
            share = queue[0]
            if not share.pending.done.done():
                if not self._fill_with(share, batch):
                    break
                taken.append(share.pending)
            queue.popleft()
        return taken

    def _fill_with(self, share: Share, batch: Any) -> bool:
        """Whether all that was left of ``share`` fitted."""
        append, headers_of, timestamp_ms = batch.append, self._headers_of, share.timestamp_ms
        trace = share.pending.trace
        for key, value in share.pairs[share.sent :] if share.sent else share.pairs:
            headers = headers_of(value, timestamp_ms)
            if trace:
                headers = with_trace(headers, trace)
            if append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                return False
            share.sent += 1
        return True

    async def run(self, on_ack: Callable[[], None]) -> None:
        """Sends for ever.

        Raises:
            Exception: whatever aiokafka raises when a batch can't be delivered.
        """
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                batch = self._client.create_batch()
                taken = self._fill(batch)
                if not batch.record_count():
                    continue
                batch.close()
                future = await self._client.send_batch(
                    batch, self._topic, partition=self._partition
                )
                await future
                on_ack()
                for pending in taken:
                    pending.acknowledged()


class Connection:
    """A started client with a lane per partition of both topics."""

    def __init__(self, client: Any, partitions: dict[str, int]) -> None:
        self.client = client
        self.partitions = partitions
        self.lanes = {
            topic: [Lane(client, topic, number) for number in range(count)]
            for topic, count in partitions.items()
        }

    def all_lanes(self) -> Iterable[Lane]:
        """Every lane."""
        return (lane for lanes in self.lanes.values() for lane in lanes)

    def submit(self, topic: str, pairs: Sequence[Pair], timestamp_ms: int, who: Pending) -> None:
        """Puts records into their lanes."""
        lanes = self.lanes[topic]
        shares: dict[int, Share] = {}
        for pair, number in zip(
            pairs, partitions_of([key for key, _ in pairs], len(lanes)), strict=True
        ):
            share = shares.get(number)
            if share is None:
                share = shares[number] = Share(who, timestamp_ms, [pair])
                lanes[number].put(share)
            else:
                share.pairs.append(pair)
