"""The reader of whole topics, what the client was never told of, gaps, ends.

About 8 seconds, most of it the start of a Kafka that creates topics automatically.
"""

import uuid
from collections import defaultdict
from operator import itemgetter
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.errors import ConfigError
from schemas.settings import Settings
from streams.embedded.child import until
from streams.kafka.reader import reader
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Broker, Kafka, create_topics

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

PARTITIONS = 3
Found = dict[int, list[tuple[int, bytes]]]


@pytest.fixture
def broker(kafka: Kafka) -> Broker:
    """The broker that every test shares."""
    return kafka


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic of this test, created by another client than the reader's."""
    name = f"read-{uuid.uuid4().hex}"
    create_topics(broker.bootstrap, name, partitions=PARTITIONS)
    return name


async def write(broker: Broker, topic: str, counts: dict[int, int], **options: Any) -> None:
    """Writes the numbers from 0 to each partition; in one transaction if there is an id for it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=bool(options), **options
    )
    await producer.start()
    try:
        if options:
            await producer.begin_transaction()
        for partition, count in counts.items():
            for number in range(count):
                await producer.send(topic, b"%d" % number, partition=partition)
        await producer.flush()
        if options:
            await producer.commit_transaction()
    finally:
        await producer.stop()


async def read(broker: Broker, topic: str, *, records_max: int | None = None) -> Found:
    """Everything that the topic holds, by partition."""
    found: Found = defaultdict(list)
    async with reader(Settings(kafka_bootstrap=broker.bootstrap), topic) as whole:
        await whole.begin()
        async for records in whole.batches(records_max=records_max):
            assert records
            assert records_max is None or len(records) <= records_max
            assert len({record.partition for record in records}) == 1
            found[records[0].partition] += [(record.offset, record.value) for record in records]
    return found


def numbers(count: int, first: int = 0) -> list[tuple[int, bytes]]:
    """What ``write`` wrote, with its offsets."""
    return [(number, b"%d" % number) for number in range(first, count)]


async def test_a_topic_the_client_never_heard_of_is_read_to_its_end(
    broker: Broker, topic: str
) -> None:
    """Kafka tells a new client of no topic: a reprocessing worker once took the topic for
    missing."""
    await write(broker, topic, {0: 5_000, 2: 3})
    assert await read(broker, topic) == {0: numbers(5_000), 2: numbers(3)}
    assert await read(broker, topic, records_max=100) == {0: numbers(5_000), 2: numbers(3)}


async def test_an_empty_topic_ends_at_once(broker: Broker, topic: str) -> None:
    """An empty topic needs no waiting."""
    assert await read(broker, topic) == {}


async def test_the_last_records_and_those_since_are_found(broker: Broker, topic: str) -> None:
    """``last`` is of each partition, since which of them holds the newest is not known before."""
    await write(broker, topic, {0: 10, 1: 1})
    everything = [(0, b"%d" % number) for number in range(10)] + [(1, b"0")]
    newest = await values(broker, topic, last=6)
    assert newest == everything[4:]
    assert await values(broker, topic, since_s=0.0) == everything
    assert await values(broker, topic) == everything


async def values(broker: Broker, topic: str, **where: Any) -> list[tuple[int, bytes]]:
    """Partitions and values from a point on, in order of partitions."""
    async with reader(Settings(kafka_bootstrap=broker.bootstrap), topic) as whole:
        await whole.begin(**where)
        found = [(record.partition, record.value) async for record in whole.records()]
    return sorted(found, key=itemgetter(0))


async def test_a_topic_that_is_not_there_is_said_to_be_so_and_not_made(
    kafka_cluster: KafkaCluster,
) -> None:
    """Asking must not create it, even if the broker would."""
    (broker,) = kafka_cluster(1, {"auto.create.topics.enable": "true"})
    for _ in range(2):
        with pytest.raises(ConfigError, match="no such topic"):
            await read(broker, "nowhere")


async def test_marks_of_transactions_and_removed_records_do_not_hold_it_up(kafka: Kafka) -> None:
    """A log may start late, end with a marker instead of a record, and be deleted up to its end."""
    topic = f"read-{uuid.uuid4().hex}"
    create_topics(kafka.bootstrap, topic, partitions=PARTITIONS)
    await write(kafka, topic, {0: 10, 1: 4, 2: 7}, transactional_id=topic)
    await until_marked(kafka, topic, {0: 11, 1: 5, 2: 8})
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(topic, 1): RecordsToDelete(3),
                TopicPartition(topic, 2): RecordsToDelete(8),  # the mark too
            }
        )
    finally:
        await admin.close()
    assert await read(kafka, topic) == {0: numbers(10), 1: numbers(4, first=3)}


async def until_marked(kafka: Kafka, topic: str, ends: dict[int, int]) -> None:
    """A transaction is committed a moment before its marks are in the log."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        places = {TopicPartition(topic, number): end for number, end in ends.items()}

        async def marked() -> bool:
            return bool(await consumer.end_offsets(list(places)) == places)

        assert await until(marked, 30)
    finally:
        await consumer.stop()
