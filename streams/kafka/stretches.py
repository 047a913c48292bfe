"""Reads a range of one partition without a group, to bring state up to date.

Invariants:
1. No record from ``until`` on is returned, and no position beyond it, however much the last fetch
   brought. State beyond the committed offset would be ahead of what the worker itself has read.
2. Reading ends with the fetch that reaches ``until``, or the end that the partition had when it was
   opened. Records that this fetch brings from beyond that end are returned.
3. Nothing is committed; nobody's offsets move.
4. Offsets are asked for before there is anything to fetch: a broker answers the requests of a
   connection in order, and a fetch that finds nothing is answered late.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from aiokafka import TopicPartition

from schemas.settings import Settings
from streams.kafka.clients import FETCH_BYTES_MAX, lone_consumer

POLL_MS = 1000


class Stretches(Protocol):
    """One partition of a topic.

    Attributes:
        begin: its first offset when it was opened.
        end: the offset after its last record when it was opened.
    """

    begin: int
    end: int

    def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """Records from ``position`` up to but without ``until``, in order, some at a time.

        Returns:
            Records, perhaps none, and the offset that reading has reached with them; the last one
            is at least ``end`` or ``until``. Offsets without records are skipped.
        """


OpenStretches = Callable[[Settings, str, int], AbstractAsyncContextManager[Stretches]]
"""Opens a partition of a topic for reading (``stretches_of``)."""


class PartitionStretches:
    """``Stretches`` of a real broker."""

    def __init__(self, consumer: Any, tp: TopicPartition, begin: int, end: int) -> None:
        self._consumer, self._tp = consumer, tp
        self.begin, self.end = begin, end

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """See ``Stretches``."""
        self._consumer.seek(self._tp, position)
        while position < min(self.end, until):
            polled = await self._consumer.getmany(
                self._tp, timeout_ms=POLL_MS, max_records=records_max
            )
            position = min(until, await self._consumer.position(self._tp))
            yield cut(polled.get(self._tp, []), until), position


def cut(records: list[Any], until: int) -> list[Any]:
    """Those of ``records``, which are in order, whose offsets are below ``until``."""
    if not records or records[-1].offset < until:
        return records
    return [record for record in records if record.offset < until]


@asynccontextmanager
async def stretches_of(settings: Settings, topic: str, partition: int) -> AsyncIterator[Stretches]:
    """Opens a partition for reading.

    Raises:
        Unavailable: no broker answers.
    """
    sizes = {
        "max_partition_fetch_bytes": FETCH_BYTES_MAX, "fetch_max_bytes": 4 * FETCH_BYTES_MAX,
    }  # fmt: skip
    async with lone_consumer(settings, **sizes) as consumer:
        tp = TopicPartition(topic, partition)
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.assign([tp])
        yield PartitionStretches(consumer, tp, begin, end)
