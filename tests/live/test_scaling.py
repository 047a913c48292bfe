"""One worker, three, and one again, under load: about a minute and a half.

Workers are static members, as in compose and on Kubernetes, with a session time-out of a minute.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.errors import MailpulseError
from schemas.topics import RAW
from streams.kafka import admin
from streams.simulation.accounts import open_accounts
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline
from tests.live.threads import in_threads
from tests.live.verdict import verdict_of

pytestmark = pytest.mark.timeout(480)

SESSION_S = 60
PARTITIONS = 6


class Standstill:
    """How long partitions of the raw topic stood still, at most, with records waiting; seconds."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._moved: dict[int, tuple[int | None, float]] = {}
        self.longest: dict[int, float] = defaultdict(float)

    def watch(self, over: threading.Event) -> None:
        """Looks at the committed offsets until ``over``."""
        while not over.wait(0.3):
            with suppress(MailpulseError):
                self._look(asyncio.run(admin.lag(self._pipeline.settings)))

    def _look(self, rows: list[admin.Lag]) -> None:
        now = time.monotonic()
        for row in rows:
            if row.topic != RAW or row.group != self._pipeline.settings.consumer_group:
                continue
            committed, since = self._moved.get(row.partition, (None, now))
            if row.lag == 0 or row.committed != committed:
                self._moved[row.partition] = (row.committed, now)
            else:
                self.longest[row.partition] = max(self.longest[row.partition], now - since)


def remove(pipeline: Pipeline, *names: str) -> None:
    """As an operator takes them out."""
    subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", "workers", "remove", *names],
        env={**os.environ, **pipeline.environ}, check=True, timeout=60,
    )  # fmt: skip


def test_workers_come_and_go_for_good(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """No partition waits for the session time-out of a worker that was taken out, and nothing is
    lost or counted twice."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    pipeline = Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, static=True,
        partitions=PARTITIONS, settings={"SESSION_TIMEOUT_MS": str(SESSION_S * 1000)},
    )  # fmt: skip
    still = Standstill(pipeline)

    def scale() -> None:
        added = [pipeline.add_worker() for _ in range(2)]
        for worker in added:
            worker.wait_ready()
        time.sleep(3)
        assert [worker.stop() for worker in added] == [0, 0]
        remove(pipeline, *(worker.name for worker in added))
        pipeline["worker-1"].wait_ready()
        time.sleep(3)

    async def disturb() -> None:
        await asyncio.to_thread(scale)

    with pipeline, in_threads(still.watch):
        verdict = verdict_of(pipeline, accounts, seconds=None, rate_per_s=100, disturb=disturb)
    assert verdict.exact, f"{verdict}\n{pipeline.log_tails()}"
    longest = {number: round(seconds, 1) for number, seconds in sorted(still.longest.items())}
    print("longest standstill, seconds:", longest)
    # a partition of a worker that was not taken out stands still for the whole of it
    assert max(longest.values(), default=0) < SESSION_S / 2, longest


def test_taking_out_who_is_no_member_says_so(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """A name that was mistyped, or has timed out."""
    (broker,) = kafka_cluster()
    pipeline = Pipeline(broker.bootstrap, tmp_path, "", {}, ingests=0, static=True)
    with pipeline, pytest.raises(subprocess.CalledProcessError) as failed:
        remove(pipeline, "worker-7")
    assert failed.value.returncode == 1
