"""Roles killed, frozen and killed again under irregular load; Kafka restarted: the figures agree.

The load is worse than any provider's: 30 % of events are repeated, up to 50 times, reports are
shuffled within a day, 5 % of messages are reported three days late, clocks are wrong by days.
``tests/live/test_engine_faults.py`` does more of this to the workers alone.
"""

import os
import re
import time
from pathlib import Path

import httpx
import pytest

from streams.simulation.accounts import open_accounts
from streams.simulation.load import Shape
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(400)

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "10"))
"""Kills of each kind of role."""
UNRULY = Shape(
    duplicates=0.3, repeats_max=50, shuffled_s=86_400, late=0.05, clock_skew_s=-4 * 86_400
)
ROLES = ("ingest", "worker", "sink", "warehouse", "dashboard")


def test_kills_at_random_and_a_storm_of_them(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Each role killed repeatedly, then ten kills within seconds, then Kafka restarted."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2, dashboard=True
    ) as pipeline:
        trial = Trial(pipeline, accounts, tmp_path, rate_per_s=250, shape=UNRULY)

        def fault(trial: Trial) -> None:
            kinds = list(ROLES * KILLS)
            trial.dice.shuffle(kinds)
            for kind in kinds:
                trial.dice.choice(trial.roles(kind)).kill()
                time.sleep(trial.dice.uniform(0.5, 2.0))
            for _ in range(10):  # the storm: before anything is up again
                trial.dice.choice(trial.roles()).kill()
                time.sleep(trial.dice.uniform(0.1, 1.0))
            broker.kill()
            broker.start()

        outcome = trial.run(1.4 * len(ROLES) * KILLS + 15, fault)
        trial.check(outcome)
        assert {name.rsplit("-", 1)[0] for name in outcome.restarts} == set(ROLES)
        assert outcome.sent.duplicates > outcome.sent.accepted
        assert outcome.sent.trouble, "no request met a dead ingress: nothing was tried"
        pipeline["dashboard-1"].wait_ready()
        told = httpx.get(f"{pipeline.dashboard_url}/csv/overview/campaigns.csv", trust_env=False)
        assert set(outcome.sent.campaigns) & set(re.findall(r"[\w-]+", told.text)), told.text[:500]


def test_zombies_of_worker_sink_and_warehouse(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """SIGSTOP past the session time-out, then SIGCONT, twice each, with one hot campaign."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2
    ) as pipeline:
        trial = Trial(pipeline, accounts, tmp_path, shape=Shape(hot=0.9, burst_every_s=2.0))

        def fault(trial: Trial) -> None:
            for _ in range(2):
                for name in ("worker-1", "sink-1", "warehouse-1"):
                    pipeline[name].pause()
                    time.sleep(8)  # the session time-out is 6 s
                    pipeline[name].resume()
                    time.sleep(2)

        trial.check(trial.run(40, fault))
