"""State on disk damaged under killed workers, on real Kafka: figures equal a recount.

About a minute and a half.
"""

import os
import random
import re
from pathlib import Path

import pytest

from tests.live.fixtures import KafkaCluster
from tests.live.test_engine_faults import Engine, engine
from tests.streams.damaging import damage_something

pytestmark = pytest.mark.timeout(400)

EVENTS = 2_000
DAMAGES = 3
CUT_BYTES = 40
"""Of a MANIFEST's end: the last two notes of what happened, of which one names a file."""


def stores(state: Path) -> list[Path]:
    """The stores of the one worker."""
    return sorted(
        path
        for path in state.glob("*/*/*-[0-9]")
        if re.fullmatch(r"(enrich|campaigns)-\d", path.name)
    )


def run_on(run: Engine) -> None:
    """More events, processed to the end."""
    run.feed(EVENTS)
    run.wait_caught_up()


def again(run: Engine, seeds: int) -> None:
    """Feeds everything again: state must know every id."""
    run.seed = 0
    for _ in range(seeds):
        run.feed(EVENTS)


def set_aside(log: Path) -> int:
    """How many stores the worker reported as set aside."""
    return log.read_text(encoding="utf-8").count("set_aside_as")


def test_a_manifest_cut_under_a_killed_worker(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """RocksDB opens such stores silently, with the newest offset and without earlier writes. One
    campaign went from 543 events to 626. No snapshots: one flushes the store, and what is cut off
    then may be a note that nothing hangs on."""
    run = engine(kafka_cluster, tmp_path, workers=1, SNAPSHOT_INTERVAL_S="0")
    (worker,) = run.workers
    try:
        run_on(run)
        worker.kill()
        worker.start()
        run_on(run)
        worker.kill()
        cut = stores(tmp_path / "state")
        for store in cut:
            (manifest,) = store.glob("MANIFEST-*")
            os.truncate(manifest, manifest.stat().st_size - CUT_BYTES)
        worker.start()
        worker.wait_ready()
        again(run, 2)
        run.wait_caught_up()
        run.assert_exact()
        assert set_aside(worker.log) >= len(cut) / 2
        assert len(list((tmp_path / "state").rglob("*.damaged-*"))) == 2
    finally:
        run.end()


def test_files_damaged_at_random_under_a_killed_worker(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Any kind of damage: the worker recovers each time, and counts nothing twice."""
    run = engine(kafka_cluster, tmp_path, workers=1)
    (worker,) = run.workers
    dice, said = random.Random(13), []
    try:
        for _ in range(DAMAGES):
            run_on(run)
            worker.kill()
            said += [
                f"{store.name}: {damage_something(dice, store, tmp_path / 'none')}"
                for store in dice.sample(stores(tmp_path / "state"), 3)
            ]
            worker.start()
            worker.wait_ready()
        again(run, DAMAGES)
        run.wait_caught_up()
        run.assert_exact()
        assert set_aside(worker.log) > 0
    finally:
        print(*said, sep="\n")
        run.end()
