"""A record of a newer release, read by an older worker: reported, and counted in the end."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas import topics
from schemas.codec import PREFIX_BYTES, framing_prefix
from schemas.errors import Unavailable
from streams.kafka import admin
from tests.builders import event
from tests.live import operator_commands
from tests.live.fixtures import KafkaCluster
from tests.live.next_release import COMMAND, NEXT_ID
from tests.live.recount import CODEC, identities, merged_minutes, read_topic
from tests.live.roles import Pipeline, Role
from tests.streams.reference import count

pytestmark = [pytest.mark.timeout(480), pytest.mark.live]

PLACE = 2
OURS, NEWER = "1" * 32, "2" * 32
RESEND = ("dlq", "resend", "--reason", "unknown_schema_id", "--yes")


@contextmanager
def worker_alone(bootstrap: str, folder: Path) -> Iterator[tuple[Pipeline, Role]]:
    """Topics and one worker that is not started."""
    pipeline = Pipeline(bootstrap, folder, "", {}, ingests=0)
    asyncio.run(admin.topics_apply(pipeline.settings))
    role = pipeline["worker-1"]
    try:
        yield pipeline, role
    finally:
        role.kill()


def until_read(pipeline: Pipeline, worker: Role) -> None:
    """Waits until the worker has committed all that is on the raw topic."""
    groups: dict[str, tuple[str, ...]] = {pipeline.settings.consumer_group: (topics.RAW,)}

    def read() -> bool:
        try:
            rows = [row for row in asyncio.run(admin.lag(pipeline.settings, groups)) if row.end]
        except Unavailable:  # the first worker of a new broker: the group's place is being made
            return False
        return bool(rows) and all(row.committed == row.end for row in rows)

    worker.wait_until(read, "done with the raw topic")


def test_a_record_of_a_newer_release_waits_for_the_upgrade(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Its dead letter and the log say what to do; after the upgrade resending counts it, once.
    About 30 s."""
    (broker,) = kafka_cluster()
    now = time.time_ns() // 1000
    times = {"occurred_at": now - 1_000_000, "received_at": now}
    known = event(event_id=OURS, message_id="known", **times)
    later = event(event_id=NEWER, message_id="later", **times)
    newer = framing_prefix(NEXT_ID) + CODEC.encode("raw_event", later)[PREFIX_BYTES:]
    values = [newer, CODEC.encode("raw_event", known)]
    with worker_alone(broker.bootstrap, tmp_path) as (pipeline, worker):
        producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
        for value in values:
            producer.produce(topics.RAW, value, key=b"ada", partition=PLACE)
        assert producer.flush(30) == 0
        worker.start()
        until_read(pipeline, worker)
        advice = f"schema id {NEXT_ID} unknown: upgrade this mailpulse"
        [record] = asyncio.run(read_topic(broker.bootstrap, topics.DEAD_LETTERS))
        letter = CODEC.decode(record.value, "dead_letter")
        assert (letter["reason"], letter["detail"]) == ("unknown_schema_id", advice)
        assert (letter["partition"], letter["offset"], letter["content"]) == (PLACE, 0, newer)
        assert advice in worker.log_tail()
        assert set(asyncio.run(identities(broker.bootstrap))) == {OURS}
        assert worker.stop() == 0

        worker.become(COMMAND)
        worker.start()
        for _ in range(2):  # the second is a duplicate of the first
            operator_commands.run({"KAFKA_BOOTSTRAP": broker.bootstrap}, *RESEND)
            until_read(pipeline, worker)
        assert asyncio.run(identities(broker.bootstrap)) == {
            OURS: {(PLACE, 1)},
            NEWER: {(PLACE, 2)},
        }
        assert asyncio.run(merged_minutes(broker.bootstrap)) == count([known, later])
        assert worker.stop() == 0
