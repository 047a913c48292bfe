"""Topics with a number of partitions, filled with a backlog, for benches that vary both."""

import asyncio
import time
from dataclasses import dataclass
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from schemas import topics
from schemas.codec import Codec
from schemas.event import message_key
from schemas.partition import partition_of
from tests.bench.traffic import Shape, events
from tests.live.kafka import create_mailpulse_topics, create_topics, empty_topic

WRITTEN = (
    topics.ENRICHED, topics.MINUTES, topics.RATES, topics.ALERTS, topics.SUPPRESSIONS,
    topics.SCOPED_SUPPRESSIONS, topics.ENGAGEMENT, topics.DEAD_LETTERS,
)  # fmt: skip
"""What a worker writes."""
OF_PEERS = ("bench.out", "bench.side", "bench.minutes", "bench.rates")
GONE_S = 60.0
BATCH_BYTES = 500_000


@dataclass(frozen=True, slots=True)
class Layout:
    """How many of what."""

    events: int
    partitions: int = 24
    campaigns: int = 200


@lru_cache(maxsize=2)
def _records(count: int, campaigns: int) -> list[tuple[bytes, bytes, int]]:
    codec = Codec()
    return [
        (message_key(one), codec.encode("raw_event", one), one["received_at"] // 1000)
        for one in events(count, Shape(campaigns=campaigns))
    ]


def lay_out(bootstrap: str, layout: Layout) -> None:
    """Makes all topics anew, mailpulse's and those of its peers, and fills the raw topic.

    Raises:
        TimeoutError: the topics from before were not gone within ``GONE_S``.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    _delete_all(admin)
    create_mailpulse_topics(bootstrap, layout.partitions)
    create_topics(bootstrap, *OF_PEERS, partitions=layout.partitions)
    # Compacted topics can't be emptied between two runs.
    deleting = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resources = [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=[deleting]) for name in WRITTEN
    ]
    for changed in admin.incremental_alter_configs(resources).values():
        changed.result(30)
    asyncio.run(_fill(bootstrap, layout))


def empty(bootstrap: str) -> None:
    """Removes what the run before wrote: nobody shall restore or merge it."""
    for name in (*WRITTEN, *OF_PEERS):
        empty_topic(bootstrap, name)


def _delete_all(admin: AdminClient) -> None:
    def present() -> list[str]:
        known = admin.list_topics(timeout=10).topics
        return [name for name in known if name.startswith(("email.", "bench."))]

    if old := present():
        for deleted in admin.delete_topics(old).values():
            deleted.result(30)
    end = time.monotonic() + GONE_S
    while present():
        if time.monotonic() > end:
            raise TimeoutError("topics are still there")
        time.sleep(0.1)


async def _fill(bootstrap: str, layout: Layout) -> None:
    """Writes the events, keyed and placed as ingress does, in whole batches."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(layout.partitions)]
        waiting = []
        for key, value, at in _records(layout.events, layout.campaigns):
            number = partition_of(key, layout.partitions)
            row = {"key": key, "value": value, "timestamp": at}
            if batches[number].append(**row) is None:
                waiting.append(
                    await producer.send_batch(batches[number], topics.RAW, partition=number)
                )
                batches[number] = producer.create_batch()
                batches[number].append(**row)
        for number, batch in enumerate(batches):
            if batch.record_count():
                waiting.append(await producer.send_batch(batch, topics.RAW, partition=number))
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
