"""Workers that lose their disk, on real Kafka: state comes back from snapshots, figures equal a
recount.

About 40 s; ``MAILPULSE_TEST_LOSSES`` sets how often the disk is lost.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.live.fixtures import KafkaCluster
from tests.live.test_engine_faults import PARTITIONS, Engine, engine

pytestmark = [pytest.mark.timeout(900), pytest.mark.live]

EVENTS = 3_000
LOSSES = int(os.environ.get("MAILPULSE_TEST_LOSSES", "3"))
UPLOADED_S = 60.0
USED = "state comes from a snapshot"


def manifests(store: Path) -> set[Path]:
    """The snapshots in the store."""
    return set(store.glob("*/*/*.json"))


def wait_for_news(store: Path, before: set[Path]) -> None:
    """Until a newer snapshot of each partition's state has been uploaded.

    The idle stage ``campaigns`` may have nothing new.
    """
    end = time.monotonic() + UPLOADED_S
    while len({path.parent for path in manifests(store) - before if "enrich" in str(path)}) < (
        PARTITIONS
    ):
        assert time.monotonic() < end, "no snapshots"
        time.sleep(0.2)


def lose_disk(run: Engine, state: Path, dice: random.Random) -> None:
    """kill -9 at some moment, under load; all that is on the worker's disk is gone. Its successor
    is killed once more while it restores; the one after that goes on from what is there."""
    (worker,) = run.workers
    run.feed(EVENTS)
    time.sleep(dice.uniform(0, 1.5))
    worker.kill()
    shutil.rmtree(state)
    worker.start()
    time.sleep(dice.uniform(1.0, 6.0))
    worker.kill()
    worker.start()
    worker.wait_ready()


def test_a_lost_disk_comes_back_from_the_store(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Also when worker and restore are killed at any moment."""
    store, dice = tmp_path / "store", random.Random(11)
    run = engine(
        kafka_cluster, tmp_path, workers=1, SNAPSHOT_STORE=str(store), SNAPSHOT_INTERVAL_S="1",
        SNAPSHOT_UPLOAD_INTERVAL_S="1",
    )  # fmt: skip
    (worker,) = run.workers
    try:
        for _ in range(LOSSES):
            before = manifests(store)
            run.feed(EVENTS)
            run.wait_caught_up()
            wait_for_news(store, before)
            lose_disk(run, tmp_path / "state", dice)
        run.seed = 0
        for _ in range(2 * LOSSES):  # everything once more: state must know every id
            run.feed(EVENTS)
        run.wait_caught_up()
        run.assert_exact()
        assert worker.log.read_text(encoding="utf-8").count(USED) >= LOSSES
    finally:
        run.end()
