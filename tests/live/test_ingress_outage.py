"""Kafka down under load, and ingress killed meanwhile: every 200 is on the topic in the end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec
from schemas.topics import RAW
from tests.live.fixtures import KafkaCluster
from tests.live.ingress_role import Answers, Ingress, post
from tests.live.kafka import Kafka, create_mailpulse_topics

OUTAGE_S = float(os.environ.get("MAILPULSE_TEST_OUTAGE_S", "4"))
"""How long Kafka is away."""
ANSWER_S = 8
"""A client that gives up: an answer is due within 3 s, a busy machine gets some more."""
WORKERS = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


async def landed(broker: Kafka) -> list[str]:
    """The event ids on the raw topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(RAW, number) for number in range(4)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        ids: list[str] = []
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                ids += [str(Codec().decode(r.value, "raw_event")["event_id"]) for r in batch]
        return ids
    finally:
        await consumer.stop()


@asynccontextmanager
async def load(ingress: Ingress) -> AsyncIterator[Answers]:
    """Clients that post without a pause until the block ends."""
    answers, samples = Answers(), ingress.samples()
    going = True

    async def client() -> None:
        async with httpx.AsyncClient(timeout=ANSWER_S) as one:
            while going:
                status = await post(one, ingress.url, next(samples), answers)
                await asyncio.sleep(0.01 if status == 200 else 0.1)

    clients = [asyncio.create_task(client()) for _ in range(WORKERS)]
    try:
        yield answers
    finally:
        going = False
        await asyncio.gather(*clients)


async def until(answers: Answers, more: int) -> None:
    """Waits for ``more`` further acknowledgements."""
    wanted = len(answers.acknowledged) + more
    async with asyncio.timeout(90):
        while len(answers.acknowledged) < wanted:  # noqa: ASYNC110 - bounded by the line above
            await asyncio.sleep(0.05)


async def forwarded(ingress: Ingress) -> None:
    """Waits until the spool is empty and Kafka is there."""
    async with asyncio.timeout(90):
        while True:
            state = await asyncio.to_thread(ingress.state)
            if state["kafka"] and not state["spooled_bytes"]:
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def pipeline(
    cluster: KafkaCluster, folder: Path, **settings: object
) -> AsyncIterator[tuple[Kafka, Ingress]]:
    """Kafka with the topics, and an ingress in front of it."""
    [broker] = await asyncio.to_thread(cluster)
    await asyncio.to_thread(create_mailpulse_topics, broker.bootstrap)
    ingress = Ingress(folder, broker.bootstrap, **settings)
    try:
        await asyncio.to_thread(ingress.start)
        yield broker, ingress
    finally:
        await asyncio.to_thread(ingress.process.kill)


async def test_without_a_spool_an_outage_is_refused_and_nothing_acknowledged_is_missing(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """While Kafka is down every answer is a 503 with Retry-After."""
    async with (
        pipeline(kafka_cluster, tmp_path) as (broker, ingress),
        load(ingress) as answers,
    ):
        await until(answers, 50)
        await asyncio.to_thread(broker.stop)
        at = len(answers.statuses)
        await asyncio.sleep(OUTAGE_S)
        during = answers.statuses[at + WORKERS :]
        assert during
        assert set(during) == {503}
        await asyncio.to_thread(broker.start)
        await until(answers, 50)
    assert answers.without_retry == 0
    assert set(answers.statuses) <= {200, 503}
    assert set(answers.acknowledged) <= set(await landed(broker))


async def test_with_a_spool_an_outage_is_not_noticed_though_ingress_is_killed(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """SIGKILL while the spool fills, and again while it is forwarded: every 200 is there."""
    spool = tmp_path / "spool"
    async with (
        pipeline(kafka_cluster, tmp_path, spool_dir=spool) as (broker, ingress),
        load(ingress) as answers,
    ):
        await until(answers, 50)
        await asyncio.to_thread(broker.stop)
        await until(answers, 50)
        await asyncio.sleep(OUTAGE_S / 2)
        ingress.process.signal(signal.SIGKILL)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(ingress.start, kafka=False)
        await until(answers, 100)
        await asyncio.sleep(OUTAGE_S / 2)
        assert set(answers.statuses) <= {200, 0}
        await asyncio.to_thread(broker.start)
        ingress.process.signal(signal.SIGKILL)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(ingress.start)
        await until(answers, 50)
        await forwarded(ingress)
    assert set(answers.statuses) <= {200, 0}
    assert answers.statuses.count(200) > 250
    assert set(answers.acknowledged) <= set(await landed(broker))
    assert not list_of(spool, "*.damaged")


def list_of(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder."""
    return list(folder.glob(pattern))


async def test_sigterm_finishes_what_is_under_way(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """No admitted request goes unanswered, nothing acknowledged is missing, exit code 0."""
    async with pipeline(kafka_cluster, tmp_path) as (broker, ingress):
        async with load(ingress) as answers:
            await until(answers, 50)
            status = await asyncio.to_thread(ingress.process.stop)
        assert status == 0
        assert set(answers.statuses) <= {200, 0}
        assert set(answers.acknowledged) <= set(await landed(broker))
