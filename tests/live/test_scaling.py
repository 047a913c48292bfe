"""One worker, three, and one again, and one killed, under load: about a minute and a half.

Workers are static members, as in compose and on Kubernetes, with a session time-out of a minute.
Figures are judged here; how long partitions stand still is printed, and measured by
``make bench ARGS="--only scaling"``, which runs the same.
"""

import subprocess
from pathlib import Path

import pytest

from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline
from tests.live.scaling import SESSION_S, remove, scaled

pytestmark = pytest.mark.timeout(480)


def test_workers_come_and_go_for_good(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """No partition waits for the session time-out of a worker that was taken out, or that is back,
    and nothing is lost or counted twice."""
    (broker,) = kafka_cluster()
    verdict, still, logs = scaled(broker.bootstrap, tmp_path)
    assert verdict.exact, f"{verdict}\n{logs}"
    assert still.looks
    for step, longest in still.longest.items():
        print(f"{step}: longest standstill, seconds:", longest)
        assert still.worst(step) < SESSION_S / 2, (step, longest)


def test_taking_out_who_is_no_member_says_so(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """A name that was mistyped, or has timed out."""
    (broker,) = kafka_cluster()
    pipeline = Pipeline(broker.bootstrap, tmp_path, "", {}, ingests=0, static=True)
    with pipeline, pytest.raises(subprocess.CalledProcessError) as failed:
        remove(pipeline, "worker-7")
    assert failed.value.returncode == 1
