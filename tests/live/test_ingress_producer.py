"""The producer of ingress on Apache Kafka: idempotent, across restarts and frozen brokers."""

import asyncio
import time
from typing import Any

import pytest

from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel
from ingest.producer import Producer
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import RAW
from tests.ingest.test_producer import producer, records
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import create_mailpulse_topics


async def test_a_kafka_without_the_topics_is_not_up(kafka_cluster: KafkaCluster) -> None:
    """It is up once they are created."""
    [broker] = await asyncio.to_thread(kafka_cluster)
    settings = Settings(
        kafka_bootstrap=broker.bootstrap,
        kafka_request_timeout_ms=1_000,
    )
    one = Producer(settings, IngestMetrics(), time.monotonic)
    await one.start()
    try:
        await asyncio.sleep(0.5)
        assert not one.up
        with pytest.raises(Unavailable):
            await one.send(Parcel(1, [(b"k", b"v")]), 1)
        await asyncio.to_thread(create_mailpulse_topics, broker.bootstrap)
        async with asyncio.timeout(20):
            await one.wait_up()
    finally:
        await one.stop()


async def test_every_acknowledged_record_is_there_once_and_in_order_over_a_restart(
    kafka_cluster: KafkaCluster,
) -> None:
    """With idempotence what was acknowledged is there exactly once, although Kafka was restarted.

    The log has no traceback because of it, which would alarm an operator.
    """
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    [broker] = await asyncio.to_thread(kafka_cluster)
    await asyncio.to_thread(create_mailpulse_topics, broker.bootstrap)
    acknowledged: list[int] = []
    stopped = False
    async with producer(broker, ack_timeout_ms=1_000) as one:

        async def keep_sending() -> None:
            number = 0
            while not stopped:
                value = str(number).encode()
                try:
                    await one.send(Parcel(1, [(b"same key", value)]), 1.0)
                    acknowledged.append(number)
                except Unavailable:
                    await asyncio.sleep(0.05)
                number += 1

        sender = asyncio.create_task(keep_sending())
        await asyncio.sleep(1)
        await asyncio.to_thread(broker.restart)
        before = len(acknowledged)
        async with asyncio.timeout(60):
            while len(acknowledged) < before + 100:  # noqa: ASYNC110 - bounded by the line above
                await asyncio.sleep(0.05)
        stopped = True
        await sender
    found = await records(broker, RAW, len(acknowledged))
    values = [int(r.value) for batch in found.values() for r in batch]
    assert [v for v in values if v in set(acknowledged)] == acknowledged
    assert values == sorted(values)
    assert not complaints


async def test_a_frozen_broker_costs_its_time_out_and_no_order(
    kafka_cluster: KafkaCluster,
) -> None:
    """SIGSTOP for a while: refused within the time-out, and on resume nothing is out of order."""
    [broker] = await asyncio.to_thread(kafka_cluster)
    await asyncio.to_thread(create_mailpulse_topics, broker.bootstrap)
    async with producer(broker, ack_timeout_ms=500) as one:
        await one.send(Parcel(1, [(b"k", b"0")]), 10)
        broker.pause()
        results = await asyncio.gather(
            *[one.send(Parcel(1, [(b"k", str(n).encode())]), 0.5) for n in range(1, 20)],
            return_exceptions=True,
        )
        assert all(isinstance(result, Unavailable) for result in results)
        broker.resume()
        async with asyncio.timeout(30):
            await one.wait_up()
        await one.send(Parcel(1, [(b"k", b"99")]), 10)
    found = await records(broker, RAW, 2)
    values = [int(r.value) for batch in found.values() for r in batch]
    assert values == sorted(values)
    assert {values[0], values[-1]} == {0, 99}
