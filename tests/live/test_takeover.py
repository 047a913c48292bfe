"""A worker that takes over partitions, with and without new minutes while it catches up.

About 40 seconds.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.errors import MailpulseError
from streams.kafka import admin
from tests.builders import event, record
from tests.live.fixtures import KafkaCluster
from tests.live.recount import CODEC, read_topic
from tests.live.roles import Pipeline
from tests.live.threads import in_threads

pytestmark = pytest.mark.timeout(480)

BACKLOG = 5_050
"""Records that the worker before had merged: no multiple of what is read at once."""
PAUSE_S = 0.008
"""Between two live minutes: a few hundred come in while a worker starts and catches up."""
STARTS = 2


class Minutes:
    """Writes minute counts of one campaign to partition 0, numbered by offset."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
        self._minute_ms = int(time.time()) // 60 * 60_000
        self.written = 0

    def write(self, count: int) -> None:
        """Writes ``count`` more; they are sent soon."""
        for _ in range(count):
            value = CODEC.encode(
                "campaign_minute",
                record("campaign_minute", campaign_id="spring", mailbox_provider="gmail",
                       minute=self._minute_ms, log_id="log", offset=self.written),
            )  # fmt: skip
            self._producer.produce(topics.MINUTES, value, b"k%d" % self.written, partition=0)
            self.written += 1
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits until the broker has them."""
        assert self._producer.flush(60) == 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Writes more continuously during the block."""

        def write_on(over: threading.Event) -> None:
            while not over.wait(PAUSE_S):
                self.write(1)

        try:
            with in_threads(write_on):
                yield
        finally:
            self.flush()


def commit(bootstrap: str, group: str, offset: int) -> None:
    """Commits what the previous worker had processed of the minutes."""
    admin_client = AdminClient({"bootstrap.servers": bootstrap})
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topics.MINUTES, 0, offset)])
    end = time.monotonic() + 120
    while True:  # the group's coordinator may be on its way up, or still know the worker before
        (done,) = admin_client.alter_consumer_group_offsets([request]).values()
        errors = [place.error for place in done.result(20).topic_partitions if place.error]
        if not errors:
            return
        assert time.monotonic() < end, errors
        time.sleep(0.2)


def test_a_worker_catches_up_while_minutes_come_in(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """It stays up and commits: it was once reported to have the state of another log, and ended."""
    (broker,) = kafka_cluster()
    pipeline = Pipeline(
        broker.bootstrap, tmp_path, "", {}, workers=1, ingests=0, partitions=1,
        # commits while chunks of the first fetch are still in work: what the broker said with it
        # about the end of the log is old by then
        settings={"CHECKPOINT_INTERVAL_MS": "10", "CHUNK_RECORDS_MAX": "10"},
    )  # fmt: skip
    asyncio.run(admin.topics_apply(pipeline.settings))
    minutes, worker = Minutes(broker.bootstrap), pipeline["worker-1"]
    minutes.write(BACKLOG)
    minutes.flush()
    try:
        for number in range(STARTS):
            commit(broker.bootstrap, pipeline.settings.consumer_group, minutes.written)
            with minutes.going_on():
                worker.start()
                # ready, and the minutes that came in meanwhile are merged: the checkpoint was due
                worker.wait_until(lambda: merged(worker.metrics) > 100, "merging", 60)
                time.sleep(2.0)
            worker.wait_until(lambda: lag(pipeline) == 0, "caught up")
            worker.kill()
            if not number:
                for kept in ("campaigns-0", "snapshots"):
                    for folder in (tmp_path / "state").glob(f"*/*/{kept}"):
                        folder.rename(tmp_path / f"{kept} of the first start")
    finally:
        worker.kill()


def merged(metrics: Callable[[], str]) -> float:
    """Minute counts that the worker has merged, without those of catching up."""
    with suppress(httpx.HTTPError):
        found = re.search(r'^mailpulse_campaign_partials_total\{result="merged"\} (\S+)$',
                          metrics(), re.MULTILINE)  # fmt: skip
        return float(found[1]) if found else 0.0
    return 0.0


def lag(pipeline: Pipeline) -> int:
    """Minute counts that are not committed; more than possible while this is unknown."""
    try:
        rows = asyncio.run(admin.lag(pipeline.settings))
    except MailpulseError:
        return 1 << 62
    group = pipeline.settings.consumer_group
    return sum(row.lag for row in rows if row.group == group and row.topic == topics.MINUTES)


def mail(bootstrap: str, messages: int, hard: int) -> None:
    """A mailing of the minute that ended last, with that many hard bounces."""
    producer, then_us = Producer({"bootstrap.servers": bootstrap}), int((time.time() - 60) * 1e6)
    for number in range(messages):
        kind, bounce = ("bounced", "hard") if number < hard else ("delivered", "none")
        value = CODEC.encode(
            "raw_event",
            event(event_id=f"{number:032x}", event_type=kind, bounce_class=bounce,
                  message_id=f"m{number}", received_at=then_us, occurred_at=then_us),
        )  # fmt: skip
        producer.produce(topics.RAW, value, b"k%d" % number, partition=0)
    assert producer.flush(60) == 0


def hard_bounces(bootstrap: str) -> tuple[int, float | None] | None:
    """Hard bounces of the last five minutes and their rate, as published last."""
    records = asyncio.run(read_topic(bootstrap, topics.RATES))
    if not records:
        return None
    newest: dict[str, Any] = CODEC.decode(records[-1].value, "campaign_rates")
    (window,) = (one for one in newest["windows"] if one["window"] == "5m")
    (rate,) = (one for one in window["rates"] if one["name"] == "hard_bounce_rate")
    return window["counts"]["bounced_hard"], rate["value"]


def test_rates_go_on_by_time_alone_after_a_kill(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """The worker that is restarted eight minutes later finds nothing to read, but publishes that
    the 5-minute window is empty: it once stayed at 30 %, and alerts could not clear."""
    (broker,) = kafka_cluster()
    pipeline = Pipeline(broker.bootstrap, tmp_path, "", {}, workers=1, ingests=0, partitions=1)
    asyncio.run(admin.topics_apply(pipeline.settings))
    worker, bootstrap = pipeline["worker-1"], broker.bootstrap
    mail(bootstrap, 150, 45)
    try:
        worker.start()
        worker.wait_until(lambda: hard_bounces(bootstrap) == (45, 0.3), "telling 30 %")
        worker.wait_until(lambda: lag(pipeline) == 0, "caught up")
        worker.kill()
        worker.set_clock(8 * 60)
        worker.start()
        worker.wait_until(lambda: hard_bounces(bootstrap) == (0, None), "telling that it is over")
    finally:
        worker.kill()
