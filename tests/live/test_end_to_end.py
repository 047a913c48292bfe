"""The whole pipeline, role by role, on real Kafka, into chDB.

Signed traffic with repeats, disorder, forgeries and malformed bodies is sent over HTTP;
ClickHouse's answers must equal the senders' own ledger: no event lost, none twice, no campaign's
figure different.
"""

import asyncio
from pathlib import Path

import pytest

from streams.simulation.accounts import open_accounts
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline
from tests.live.verdict import Verdict, verdict_of

pytestmark = pytest.mark.timeout(420)

SECONDS = 15.0
RATE_PER_S = 800.0


def holds(verdict: Verdict, pipeline: Pipeline) -> None:
    """What must hold of every run."""
    assert verdict.exact, f"{verdict}\n{pipeline.log_tails()}"
    assert verdict.stored == verdict.unique
    assert verdict.unique > SECONDS * 20, "too little traffic to tell anything"
    assert verdict.campaigns >= 5
    # the traffic was what it should be
    assert verdict.ledger.duplicates_sent > verdict.unique / 50
    assert verdict.ledger.forged_refused > 0
    assert verdict.ledger.forged_accepted == 0
    assert verdict.visible_s


def test_real_kafka_stores_every_accepted_event_exactly_once(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Apache Kafka 4, two workers: the senders' ledger and ClickHouse agree to the last event."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2
    ) as pipeline:
        verdict = verdict_of(pipeline, accounts, seconds=SECONDS, rate_per_s=RATE_PER_S)
        holds(verdict, pipeline)
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()


def test_killing_every_process_in_turn_loses_and_doubles_nothing(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """SIGKILL for each role and the broker while traffic flows: the figures still agree."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2
    ) as pipeline:

        def kill_in_turn() -> None:
            for name in ("sink-1", "warehouse-1", "worker-1", "ingest-1"):
                pipeline[name].kill()
                pipeline[name].start()
                pipeline[name].wait_ready()
            broker.kill()
            broker.start()

        async def disturb() -> None:
            await asyncio.sleep(SECONDS / 5)
            await asyncio.to_thread(kill_in_turn)

        verdict = verdict_of(
            pipeline, accounts, seconds=2 * SECONDS, rate_per_s=RATE_PER_S / 2, disturb=disturb
        )
        assert verdict.exact, f"{verdict}\n{pipeline.log_tails()}"
        assert verdict.stored >= verdict.unique > 0
        assert verdict.trouble, "no request met a dead ingress: nothing was tried"
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()
