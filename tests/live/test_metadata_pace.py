"""How often clients ask for metadata while a partition has no leader: counted on a real broker."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from confluent_kafka.admin import AdminClient

from schemas.metadata_pace import PAUSE_S
from schemas.settings import Settings
from streams.kafka.clients import lone_consumer, producer
from tests.live.kafka import Kafka, create_topics

pytestmark = pytest.mark.timeout(120)

LOOK_S = 2.0


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Metadata requests for each topic; one for all topics counts under ``""``."""
    counted: Counter[str] = Counter()
    update = AIOKafkaClient._metadata_update

    async def counting(self: Any, cluster: Any, topics: Any) -> Any:
        counted.update(topics or ("",))
        return await update(self, cluster, topics)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", counting)
    return counted


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A topic that the test may delete."""
    name = f"pace-{uuid.uuid4().hex}"
    create_topics(kafka.bootstrap, name, partitions=1)
    return name


async def delete(kafka: Kafka, topic: str) -> None:
    """Deletes a topic; returns when it is gone."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 30)
    while topic in (await asyncio.to_thread(admin.list_topics, timeout=10)).topics:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def assert_paced(requests: Counter[str]) -> None:
    """It asked again and again, and not more often than it may."""
    assert 2 <= requests.total() <= LOOK_S / PAUSE_S + 2


async def test_consumer_whose_topic_was_deleted(
    kafka: Kafka, topic: str, requests: Counter[str]
) -> None:
    """aiokafka alone asks some thousand times in this time."""
    place = TopicPartition(topic, 0)
    async with lone_consumer(Settings(kafka_bootstrap=kafka.bootstrap)) as consumer:
        await consumer.beginning_offsets([place])
        consumer.assign([place])
        await consumer.seek_to_end(place)
        await delete(kafka, topic)
        while consumer._client.cluster.leader_for_partition(place) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        requests.clear()
        await asyncio.sleep(LOOK_S)
        assert_paced(requests)


async def test_producer_whose_topic_was_deleted(
    kafka: Kafka, topic: str, requests: Counter[str]
) -> None:
    """With a record that waits for a leader."""
    async with producer(
        Settings(kafka_bootstrap=kafka.bootstrap, kafka_request_timeout_ms=10_000)
    ) as client:
        await client.send_and_wait(topic, b"first")
        await delete(kafka, topic)
        waiting = await client.send(topic, b"second", partition=0)
        while client.client.cluster.leader_for_partition(TopicPartition(topic, 0)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        requests.clear()
        await asyncio.sleep(LOOK_S)
        assert_paced(requests)
        waiting.cancel()


async def test_other_topics_are_not_held_back(kafka: Kafka, requests: Counter[str]) -> None:
    """Each new topic is asked about at once, though the last request was a moment ago."""
    names = [f"pace-{uuid.uuid4().hex}" for _ in range(20)]
    create_topics(kafka.bootstrap, *names, partitions=1)
    async with lone_consumer(Settings(kafka_bootstrap=kafka.bootstrap)) as consumer:
        begun = asyncio.get_running_loop().time()
        for name in names:
            assert await consumer._client._wait_on_metadata(name) == {0}
        took_s = asyncio.get_running_loop().time() - begun
    assert set(names) <= set(requests)
    assert took_s < PAUSE_S * len(names)
