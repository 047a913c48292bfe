"""The raw topic deleted and made anew under the whole line: old figures stay, new ones add up."""

import asyncio
from pathlib import Path

import pytest

from streams.simulation.accounts import open_accounts
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(300)

SECONDS = 6.0


def quiet(trial: Trial) -> None:
    """Nothing happens."""


def test_the_raw_topic_is_made_anew(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Both workers end and begin the new log; the books of before and after agree, and stay so."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, workers=2
    ) as pipeline:
        before = Trial(pipeline, accounts, tmp_path, seed=1)
        before.check(before.run(SECONDS, quiet))
        pipeline.make_raw_anew()
        # More events than before: the new log soon reaches beyond what was committed of the old.
        after = Trial(pipeline, accounts, tmp_path, seed=2, rate_per_s=600)
        outcome = after.run(2 * SECONDS, quiet)
        after.check(outcome)
        assert {"worker-1", "worker-2"} <= set(outcome.restarts), "state is of one log only"
        before.check(asyncio.run(before.look_again()))
