"""The raw topic deleted and recreated under the whole pipeline: old figures stay, new ones add up.

And under a worker that is frozen meanwhile, so that it finds the old log's next offset in the new
one. About 50 and 30 seconds.
"""

import asyncio
import time
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from streams.kafka import admin
from streams.simulation.accounts import open_accounts
from tests.bench.traffic import fill
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.recount import CODEC, raw_events, read_topic
from tests.live.roles import Pipeline, Role

pytestmark = pytest.mark.timeout(480)

SECONDS = 6.0
PARTITIONS = 4


def quiet(trial: Trial) -> None:
    """Nothing happens."""


def test_the_raw_topic_is_recreated(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Both workers end and begin the new log; the figures of before and after agree, and stay
    so."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2
    ) as pipeline:
        before = Trial(pipeline, accounts, tmp_path, seed=1)
        before.check(before.run(SECONDS, quiet))
        pipeline.recreate_raw()
        # More events than before: the new log soon reaches beyond what was committed of the old.
        after = Trial(pipeline, accounts, tmp_path, seed=2, rate_per_s=600)
        outcome = after.run(2 * SECONDS, quiet)
        after.check(outcome)
        assert {"worker-1", "worker-2"} <= set(outcome.restarts), "state is of one log only"
        before.check(asyncio.run(before.look_again()))


def ids_by_log(bootstrap: str) -> dict[str, set[str]]:
    """Log -> events that are enriched as its records."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in asyncio.run(read_topic(bootstrap, topics.ENRICHED)):
        value = CODEC.decode(record.value, "enriched_event")
        found[value["enrichment"]["log_id"]].add(value["event"]["event_id"])
    return found


def raw_ids(bootstrap: str) -> set[str]:
    """The events that the raw topic holds."""
    return {event["event_id"] for event in asyncio.run(raw_events(bootstrap))}


def commit_by_hand(bootstrap: str, group: str, offset: int, note: str) -> None:
    """Commits as a worker of the old log whose commit reaches the new topic."""
    places = [
        TopicPartition(topics.RAW, number, offset, metadata=note) for number in range(PARTITIONS)
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    request = ConsumerGroupTopicPartitions(group, places)
    for done in admin.alter_consumer_group_offsets([request]).values():
        done.result(20)


def wait_end(role: Role) -> None:
    """Until the role's process has ended."""
    end = time.monotonic() + 120
    while role.running:
        assert time.monotonic() < end, role.log_tail()
        time.sleep(0.05)


def test_a_new_log_that_reaches_beyond_the_old_offset_is_read_from_its_first_record(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """None of its records is taken for the old log's, and no commit of the old log counts."""
    (broker,) = kafka_cluster()
    given = {"SESSION_TIMEOUT_MS": "45000"}  # the sleeper stays in its group
    with Pipeline(
        broker.bootstrap, tmp_path, "", {}, ingests=0, partitions=PARTITIONS, settings=given
    ) as pipeline:
        worker = pipeline["worker-1"]
        asyncio.run(fill(broker.bootstrap, topics.RAW, 2_000, PARTITIONS, seed=1))
        pipeline.wait_caught_up()
        old_log, old = asyncio.run(admin.log_id(pipeline.settings)), raw_ids(broker.bootstrap)
        worker.pause()
        pipeline.recreate_raw()
        asyncio.run(fill(broker.bootstrap, topics.RAW, 8_000, PARTITIONS, seed=2))
        new_log, new = asyncio.run(admin.log_id(pipeline.settings)), raw_ids(broker.bootstrap)
        worker.resume()
        wait_end(worker)
        assert "was recreated" in worker.log_tail()
        assert ids_by_log(broker.bootstrap) == {old_log: old}
        commit_by_hand(broker.bootstrap, pipeline.settings.consumer_group, 400, old_log)
        worker.start()
        pipeline.wait_caught_up()
        found = ids_by_log(broker.bootstrap)
        assert found.keys() == {old_log, new_log}
        assert found[old_log] == old
        # events of the old log may be corrected by news of the new one
        assert found[new_log] - old == new - old
        assert len(new - old) > 0.8 * len(new)
