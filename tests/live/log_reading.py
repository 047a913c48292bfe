"""Everything on the topics of a pipeline, for tests that look at all of it."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas import topics
from tests.live.roles import Pipeline

Records = dict[str, list[ConsumerRecord]]


async def records_of(bootstrap: str, partitions: int = topics.PARTITIONS_DEFAULT) -> Records:
    """Every record of every topic, in order within its partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    await consumer.start()
    try:
        found: Records = {}
        for topic in topics.BY_NAME:
            parts = [TopicPartition(topic, n) for n in range(partitions)]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            found[topic] = []
            for part in parts:
                while await consumer.position(part) < ends[part]:
                    batch = await consumer.getmany(part, timeout_ms=1000)
                    found[topic] += batch.get(part, [])
        return found
    finally:
        await consumer.stop()


def all_records(pipeline: Pipeline) -> Records:
    """See ``records_of``."""
    return asyncio.run(records_of(pipeline.settings.kafka_bootstrap))
