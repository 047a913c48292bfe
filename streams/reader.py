"""Reads a topic from any point without joining a group, for commands.

Laws of this file:
1. Nothing is committed; nobody's offsets move.
2. Without ``follow`` it ends at the end that the topic had when reading began, gaps included.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings


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

    async def begin(self, since_s: float | None = None, last: int | None = None) -> None:
        """Goes to the records of ``since_s`` (seconds since 1970), or to the ``last`` ones.

        By time, reading may begin earlier than asked for: the embedded broker does not look up
        times, and callers filter anyway. ``last`` counts offsets, split over the partitions.

        Raises:
            ConfigError: no such topic.
        """
        numbers = self._consumer.partitions_for_topic(self._topic) or set()
        if not numbers:
            raise ConfigError([f"{self._topic}: no such topic; 'mailpulse topics apply' makes it"])
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        self._ends = await self._consumer.end_offsets(partitions)
        starts = await self._consumer.beginning_offsets(partitions)
        if since_s is not None:
            moments = dict.fromkeys(partitions, int(since_s * 1000))
            found = await self._consumer.offsets_for_times(moments)
            for tp in partitions:
                at = found.get(tp)
                self._consumer.seek(
                    tp, self._ends[tp] if at is None else max(at.offset, starts[tp])
                )
            return
        share = None if last is None else -(-last // len(partitions))
        for tp in partitions:
            first = starts[tp] if share is None else max(starts[tp], self._ends[tp] - share)
            self._consumer.seek(tp, first)

    async def records(self, *, follow: bool = False) -> AsyncIterator[Any]:
        """Records in the order of each partition.

        Raises:
            Unavailable: the broker went away.
        """
        open_partitions = {tp for tp, end in self._ends.items() if end > 0}
        while follow or open_partitions:
            try:
                polled = await self._consumer.getmany(timeout_ms=300)
            except KafkaError as error:
                raise Unavailable(f"Kafka: {error}") from error
            for records in polled.values():
                for record in records:
                    yield record
            for tp in list(open_partitions):
                if await self._consumer.position(tp) >= self._ends[tp]:
                    open_partitions.discard(tp)


@asynccontextmanager
async def reader(settings: Settings, topic: str) -> AsyncIterator[Reader]:
    """A reader of ``topic``.

    Raises:
        Unavailable: no broker answers.
    """
    consumer = AIOKafkaConsumer(
        **settings.kafka_client_options(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        # without a subscription the client knows no topic until it is asked for one
        await consumer.topics()
        yield Reader(consumer, topic)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka at {settings.kafka_bootstrap}: {error}") from error
    finally:
        await consumer.stop()
