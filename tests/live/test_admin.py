"""Topics, log id and lag on a real broker."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings
from schemas.topics import MINUTES, RAW, TOPICS
from streams.embedded.child import until
from streams.kafka import admin
from streams.kafka.retention import check_retention
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Broker, Kafka


@pytest.fixture
def broker(own_kafka: Kafka) -> Broker:
    """A broker without topics."""
    return own_kafka


def settings_for(broker: Broker, **overrides: object) -> Settings:
    """Settings for ``broker``."""
    return Settings(kafka_bootstrap=broker.bootstrap, **overrides)  # type: ignore[arg-type]


async def test_topics_are_made_once_and_checked_after(broker: Broker) -> None:
    """A second run creates nothing; another number of partitions is refused and changes nothing.
    A worker that would remember messages for longer than state can be rebuilt is refused."""
    settings = settings_for(broker, partitions=3)
    first = await admin.topics_apply(settings)
    again = await admin.topics_apply(settings)
    assert set(first.created) == {topic.name for topic in TOPICS}
    assert again.created == ()
    assert set(again.kept) == set(first.created)
    with pytest.raises(ConfigError) as refused:
        await admin.topics_apply(settings_for(broker, partitions=5))
    assert len(refused.value.problems) == len(TOPICS)
    await check_retention(settings)
    with pytest.raises(ConfigError, match=r"MESSAGE_TTL_HOURS: 769 hours.* keeps records for 768"):
        await check_retention(settings_for(broker, message_ttl_hours=769))
    shown = await admin.topics_show(settings)
    assert {state.partitions for state in shown.topics.values()} == {3}
    assert shown.topics[MINUTES].config["cleanup.policy"] == "compact"


async def test_log_id_changes_when_the_topic_is_recreated(broker: Broker) -> None:
    """Offsets start at 0 again in a recreated topic, so it must have another id."""
    settings = settings_for(broker)
    with pytest.raises(ConfigError, match="topics apply"):
        await admin.log_id(settings)
    await admin.topics_apply(settings)
    before = await admin.log_id(settings)
    assert before == await admin.log_id(settings)
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    await client.delete_topics([RAW])
    await client.close()

    async def gone() -> bool:
        return RAW not in (await admin.topics_show(settings)).topics

    assert await until(gone, 30)  # a deletion takes a moment
    await admin.topics_apply(settings)
    after = await admin.log_id(settings)
    assert len(before) == len(after) == 32
    assert before != after
    assert await admin.log_id(settings_for(broker, log_id="mine")) == "mine"


async def test_lag_counts_what_is_not_committed(broker: Broker) -> None:
    """Ten records, four committed: six to read; a group that never committed has all to read."""
    settings = settings_for(broker, partitions=2)
    await admin.topics_apply(settings)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    for _ in range(10):
        await producer.send_and_wait(RAW, b"x", partition=1)
    await producer.stop()
    consumer = AIOKafkaConsumer(
        RAW,
        bootstrap_servers=broker.bootstrap,
        group_id="half",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        rebalance_timeout_ms=6000,
    )
    await consumer.start()
    for _ in range(4):
        last = await consumer.getone()
    await consumer.commit({TopicPartition(RAW, 1): last.offset + 1})
    await consumer.stop()
    rows = await admin.lag(settings, {"half": (RAW,), "never": (RAW,)})
    seen = {(row.group, row.partition): (row.committed, row.end, row.lag) for row in rows}
    assert seen["half", 1] == (4, 10, 6)
    assert seen["never", 1] == (None, 10, 10)
    assert seen["never", 0] == (None, 0, 0)


async def test_three_brokers_keep_three_replicas_of_which_two_must_acknowledge(
    kafka_cluster: KafkaCluster,
) -> None:
    """On a cluster an acknowledged event survives the loss of a broker, without any setting."""
    broker = kafka_cluster(3)[0]
    settings = settings_for(broker)
    await admin.topics_apply(settings)
    shown = await admin.topics_show(settings)
    while len(shown.topics) < len(TOPICS):  # the broker that answers hears of them a moment later
        await asyncio.sleep(0.2)
        shown = await admin.topics_show(settings)
    assert shown.brokers == 3
    assert {state.replication for state in shown.topics.values()} == {3}
    assert {state.config["min.insync.replicas"] for state in shown.topics.values()} == {"2"}


async def test_no_broker_is_said_in_words() -> None:
    """Nothing listens there: an error that names the address."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await admin.topics_show(Settings(kafka_bootstrap="127.0.0.1:1"))
