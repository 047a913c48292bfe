"""Parcels to Kafka: acknowledged, in order, in everyone's partition; and a Kafka that goes away.

``tests/live`` does the same under load.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel
from ingest.producer import Overloaded, Producer
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS, RAW
from tests.live.kafka import Broker, Kafka, create_mailpulse_topics

pytestmark = pytest.mark.live


@asynccontextmanager
async def producer(broker: Broker, **settings: Any) -> AsyncIterator[Producer]:
    """A started producer that is up."""
    values: dict[str, Any] = {"kafka_bootstrap": broker.bootstrap}
    made = Producer(Settings(**values | settings), IngestMetrics(), time.monotonic)
    await made.start()
    try:
        async with asyncio.timeout(20):
            await made.wait_up()
        yield made
    finally:
        await made.stop()


async def records(broker: Broker, topic: str, count: int) -> dict[int, list[Any]]:
    """The first ``count`` records of a topic, per partition, in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(4)])
        await consumer.seek_to_beginning()
        found: dict[int, list[Any]] = {number: [] for number in range(4)}
        async with asyncio.timeout(20):
            while sum(map(len, found.values())) < count:
                for partition, batch in (await consumer.getmany(timeout_ms=200)).items():
                    found[partition.partition] += batch
        return found
    finally:
        await consumer.stop()


@pytest.fixture
def broker(own_kafka: Kafka) -> Broker:
    """A broker with mailpulse's topics."""
    create_mailpulse_topics(own_kafka.bootstrap)
    return own_kafka


async def test_records_are_there_in_order_in_everyones_partition(
    broker: Broker,
) -> None:
    """Key, value and time as given; the partition is the default partitioner's."""
    parcels = [
        Parcel(
            1_000 + n,
            [(b"key%d" % (i % 17), b"%d/%d" % (n, i)) for i in range(40)],
            [(b"id%d" % n, b"letter")],
        )
        for n in range(50)
    ]
    async with producer(broker) as one:
        await asyncio.gather(*[one.send(parcel, 10) for parcel in parcels])
        assert one.waiting() == (0, 0)
    found = await records(broker, RAW, 50 * 40)
    for partition, got in found.items():
        expected = [
            (key, value, parcel.timestamp_ms)
            for parcel in parcels
            for key, value in parcel.events
            if DefaultPartitioner()(key, [0, 1, 2, 3], []) == partition
        ]
        assert [(r.key, r.value, r.timestamp) for r in got] == expected
    letters = await records(broker, DEAD_LETTERS, 50)
    assert sum(map(len, letters.values())) == 50


async def test_a_share_larger_than_a_batch_goes_in_several(broker: Broker) -> None:
    """In order, acknowledged when all of it is; what comes behind it is not held up."""
    large = Parcel(1, [(b"k", b"%d" % n + bytes(10_000)) for n in range(250)])
    small = Parcel(2, [(b"k", b"small")])
    async with producer(broker) as one:
        await asyncio.gather(one.send(large, 20), one.send(small, 20))
    found = [r.value for got in (await records(broker, RAW, 251)).values() for r in got]
    assert found == [value for _, value in [*large.events, *small.events]]


async def test_each_waits_as_long_as_it_may(broker: Broker) -> None:
    """One timer serves all requests: it is reset for requests with less time."""
    parcel = Parcel(1, [(b"k", b"v")])
    async with producer(broker, ack_timeout_ms=5_000) as one:
        await one.send(parcel, 10)
        await asyncio.to_thread(broker.pause)
        patient = asyncio.create_task(one.send(parcel, 20))
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await one.send(parcel, 0.2)
        assert time.monotonic() - began >= 0.19
        with pytest.raises(Unavailable):
            await patient  # nothing was acknowledged for a whole time-out: all are refused
        broker.resume()


async def test_a_frozen_kafka_is_unavailable_in_time_and_comes_back(
    broker: Broker,
) -> None:
    """Nothing is acknowledged, so everything outstanding is refused; then a new client connects."""
    parcel = Parcel(1, [(b"k", b"v")])
    async with producer(broker, ack_timeout_ms=300) as one:
        await one.send(parcel, 10)
        await asyncio.to_thread(broker.pause)
        results = await asyncio.gather(
            *[one.send(parcel, 0.3) for _ in range(5)], return_exceptions=True
        )
        assert [type(result) for result in results] == [Unavailable] * 5
        with pytest.raises(Unavailable):
            await one.send(parcel, 0.3)
        assert one.waiting() == (0, 0)
        broker.resume()
        async with asyncio.timeout(20):
            await one.wait_up()
        await one.send(parcel, 10)


async def test_a_silent_loss_is_seen_without_traffic(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness does not wait for the first webhook to fail."""
    monkeypatch.setattr("ingest.producer.PROBE_INTERVAL_S", 0.1)
    async with producer(broker) as one:
        broker.kill()
        async with asyncio.timeout(20):
            while one.up:  # noqa: ASYNC110 - bounded by the line above
                await asyncio.sleep(0.02)


async def test_what_waits_is_bounded(broker: Broker) -> None:
    """In events and in bytes; a request of its own always gets through."""
    async with producer(broker, inflight_events_max=10, inflight_bytes_max=10_000) as one:
        many = Parcel(1, [(b"k%d" % n, b"v") for n in range(30)])
        large = Parcel(1, [(b"k", b"v" * 20_000)])
        for parcel in (many, large):
            results = await asyncio.gather(
                *[one.send(parcel, 10) for _ in range(3)], return_exceptions=True
            )
            assert results[0] is None
            assert all(isinstance(result, Overloaded) for result in results[1:])


async def test_what_was_given_up_before_it_left_is_not_sent(
    broker: Broker,
) -> None:
    """A caller that went away leaves nothing in the queue."""
    async with producer(broker) as one:
        given_up = asyncio.ensure_future(one.send(Parcel(1, [(b"k", b"never")]), 10))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await one.send(Parcel(1, [(b"k", b"sent")]), 10)
    found = await records(broker, RAW, 1)
    assert [r.value for batch in found.values() for r in batch] == [b"sent"]


async def test_stopping_waits_for_what_is_under_way(broker: Broker) -> None:
    """Requests that were let in are acknowledged before the client closes."""
    async with producer(broker) as one:
        sends = [
            asyncio.ensure_future(one.send(Parcel(1, [(b"k%d" % n, b"v")]), 10)) for n in range(50)
        ]
        await asyncio.sleep(0)
    assert await asyncio.gather(*sends) == [None] * 50
