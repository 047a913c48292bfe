"""A day of traffic through the engine on real Kafka equals the brute-force recount.

Events of 200 campaigns spread over 24 hours, one campaign with 30 % of them, repeats, opens without
a campaign: every event once, every counter of every minute exact. ``MAILPULSE_TEST_DAY_EVENTS=
1000000`` is the long form.
"""

import asyncio
import os
from pathlib import Path

import pytest

from schemas import topics
from tests.bench.traffic import Shape, fill
from tests.live.fixtures import KafkaCluster
from tests.live.recount import assert_exact
from tests.live.test_engine_faults import PARTITIONS, Engine

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1500)]

EVENTS = int(os.environ.get("MAILPULSE_TEST_DAY_EVENTS", "100000"))
DAY_S = 86_400


def test_a_day_of_traffic_equals_the_recount(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """The integers agree: events, and each count of each campaign, mailbox provider and minute."""
    (broker,) = kafka_cluster()
    day = Shape(
        unattributed=0.05, hot=0.3, events_per_s=EVENTS / DAY_S, begins_before_s=DAY_S + 600
    )
    run = Engine(broker, tmp_path)
    asyncio.run(fill(broker.bootstrap, topics.RAW, EVENTS, PARTITIONS, day, seed=2026))
    run.start()
    try:
        run.wait_caught_up(timeout_s=900)
        assert asyncio.run(assert_exact(broker.bootstrap)) > EVENTS * 0.9
    finally:
        run.end()
