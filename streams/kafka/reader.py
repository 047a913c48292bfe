"""Reads a whole topic from any point, without joining a group.

Invariants:
1. Nothing is committed; nobody's offsets move.
2. Without ``follow`` it ends at the end that the topic had when reading began. Offsets without
   records (compaction, retention, transaction markers) are skipped, by position.
3. aiokafka has no metadata of a topic that it was not asked about. Listing all topics gives it
   none; asking for a topic's offsets does, but may create the topic. So the list is read first,
   then the offsets.
4. Offsets are asked for before there is anything to fetch: a broker answers the requests of a
   connection in order, and a fetch that finds nothing is answered late.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition

from schemas.errors import ConfigError
from schemas.settings import Settings
from streams.kafka.clients import FETCH_BYTES_MAX, lone_consumer

POLL_MS = 300


class Reader:
    """All partitions of one topic.

    Args:
        consumer: started, without a group.
        topic: its name.
    """

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._ends: dict[TopicPartition, int] = {}

    async def begin(
        self,
        since_s: float | None = None,
        last: int | None = None,
        offsets: Mapping[int, int] | None = None,
    ) -> None:
        """Seeks to the records from ``since_s`` (seconds since 1970), to the ``last``, or to all.

        Args:
            last: number of newest offsets of each partition.
            offsets: partition -> first offset; other partitions are not read.

        Raises:
            ConfigError: no such topic, or no such partition of it.
        """
        partitions = await self._partitions()
        if offsets is not None:
            if missing := set(offsets) - {tp.partition for tp in partitions}:
                raise ConfigError([f"{self._topic}: no partition {min(missing)}"])
            partitions = [tp for tp in partitions if tp.partition in offsets]
        starts = await self._consumer.beginning_offsets(partitions)
        self._ends = ends = await self._consumer.end_offsets(partitions)
        if offsets is not None:
            firsts = {tp: offsets[tp.partition] for tp in partitions}
        elif since_s is not None:
            # aiokafka takes no time before 1970
            moments = dict.fromkeys(partitions, int(max(0.0, since_s) * 1000))
            found = await self._consumer.offsets_for_times(moments)
            firsts = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in partitions}
        elif last is not None:
            firsts = {tp: ends[tp] - last for tp in partitions}
        else:
            firsts = starts
        self._consumer.assign(partitions)
        for tp in partitions:
            self._consumer.seek(tp, min(max(firsts[tp], starts[tp]), ends[tp]))

    async def _partitions(self) -> list[TopicPartition]:
        """Every partition of the topic (invariant 3)."""
        if self._topic not in await self._consumer.topics():
            raise ConfigError(
                [f"{self._topic}: no such topic; 'mailpulse topics apply' creates it"]
            )
        await self._consumer.beginning_offsets([TopicPartition(self._topic, 0)])
        numbers = self._consumer.partitions_for_topic(self._topic)
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    async def batches(
        self, *, follow: bool = False, records_max: int | None = None
    ) -> AsyncIterator[list[Any]]:
        """Records, in the order of each partition; a batch is of one partition and not empty.

        Args:
            records_max: in one batch; default: what one fetch brings.
        """
        waiting = set(self._ends)
        while True:
            waiting = {tp for tp in waiting if await self._consumer.position(tp) < self._ends[tp]}
            if not (follow or waiting):
                return
            polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=records_max)
            for records in polled.values():
                yield records

    async def records(self, *, follow: bool = False) -> AsyncIterator[Any]:
        """The records of ``batches``, one by one."""
        async for records in self.batches(follow=follow):
            for record in records:
                yield record


@asynccontextmanager
async def reader(settings: Settings, topic: str) -> AsyncIterator[Reader]:
    """A reader of ``topic``.

    Raises:
        Unavailable: no broker answers, now or while the topic is read.
    """
    async with lone_consumer(settings, max_partition_fetch_bytes=FETCH_BYTES_MAX) as consumer:
        yield Reader(consumer, topic)
