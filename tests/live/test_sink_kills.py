"""The sink killed between any two of its steps: nothing lost, nothing counted twice."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from schemas import topics
from schemas.glossary import COUNTER_INDEX
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import Load
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import create_mailpulse_topics
from tests.live.sinking import STEPS, SinkProcess, produce

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "2"))
"""Kills per step; the full proof takes 20."""
EVENTS_PER_KILL = 500
BEGIN = 1_790_000_000 // 86_400 * 86_400


def records_of(events: int) -> tuple[list[Sent], Load]:
    """Simulated events with their minutes, as records, and the generator's ledger."""
    load = Load(events, 3, BEGIN)
    sent = [Sent(topics.ENRICHED, partition, 0, 0, b"k", value) for partition, value in load]
    sent += [Sent(topics.MINUTES, 0, 0, 0, b"k", value) for value in load.minute_values()]
    return sent, load


def expected_counts(load: Load) -> list[list[object]]:
    """Campaign, events, delivered: sums of the generator's own ledger."""
    totals: dict[str, list[int]] = {}
    for (campaign, _, _), vector in load.minutes.items():
        total = totals.setdefault(campaign, [0, 0])
        total[0] += vector[COUNTER_INDEX["events"]]
        total[1] += vector[COUNTER_INDEX["delivered"]]
    return [[name, events, delivered] for name, (events, delivered) in sorted(totals.items())]


SUMMARY = "SELECT campaign_id, events, delivered FROM campaign_summary ORDER BY campaign_id"
RECOUNT = (
    "SELECT campaign_id, count(), countIf(event_type = 'delivered')"
    " FROM email_events GROUP BY campaign_id ORDER BY campaign_id"
)


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_kill_at_a_step_loses_and_repeats_nothing(
    step: str, kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """SIGKILL at the step, repeatedly, then a run to the end: figures equal the ledger's."""
    bootstrap = kafka_cluster(1)[0].bootstrap
    create_mailpulse_topics(bootstrap)
    records, load = records_of(EVENTS_PER_KILL * KILLS)
    dice = random.Random(step)
    for number in range(KILLS):
        # new events and minutes before each kill: two topics, so at least two batches to die at
        asyncio.run(produce(bootstrap, records[number::KILLS]))
        place = (step, dice.randint(1, 2))
        with SinkProcess(bootstrap, tmp_path, die_at=place, sink_rows_max="150") as sink:
            assert sink.wait_dead() == -9
    expected = expected_counts(load)
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(SUMMARY, expected)
        sink.wait_for(RECOUNT, expected)
        assert sink.ask("SELECT count() FROM dead_letter_counts") == [[0]]
        assert sink.stop() == 0
