"""One worker, three, and one again, and one killed, under load: what it does to partitions.

Used by the live test, which judges the figures, and by the bench, which reports the times.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from schemas.topics import RAW
from streams.simulation.accounts import open_accounts
from streams.worker.scaled_away import leave_if_scaled_away, stateful_set_of
from tests.kubernetes_api import kubernetes_api
from tests.live.roles import Pipeline
from tests.live.standstill import Standstill
from tests.live.threads import in_threads
from tests.live.verdict import Verdict, verdict_of

SESSION_S = 60
PARTITIONS = 12
RATE_PER_S = 100.0
SETTLES_S = 5.0
"""Between two steps."""
UP, DOWN, KILL = "1 to 3", "3 to 1", "kill -9"


def remove(pipeline: Pipeline, *names: str) -> None:
    """As an operator takes workers out."""
    subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", "workers", "remove", *names],
        env={**os.environ, **pipeline.environ}, check=True, timeout=60,
    )  # fmt: skip


def leaves_by_itself(pipeline: Pipeline, name: str, folder: Path) -> bool:
    """As a worker on Kubernetes, once it has ended and its StatefulSet was made smaller."""
    settings = pipeline.settings.model_copy(update={"group_instance_id": name})
    with kubernetes_api(folder) as api:
        api.scale(stateful_set_of(name)[0], replicas=1, first=1)
        return asyncio.run(leave_if_scaled_away(settings, api.environ, api.account))


def scaled(bootstrap: str, folder: Path) -> tuple[Verdict, Standstill, str]:
    """Starts a pipeline of one worker, makes it three, kills one of them, and makes it one.

    Args:
        bootstrap: of a broker without topics.
        folder: for data and logs.

    Returns:
        What became of the events; how long partitions stood still, in the steps ``UP``, ``KILL``
        and ``DOWN``; the tails of all logs.

    Raises:
        ProcessFailed: a role did not do as it was told.
    """
    accounts = open_accounts()
    pipeline = Pipeline(
        bootstrap, folder, accounts.toml, accounts.environ, static=True,
        partitions=PARTITIONS, settings={"SESSION_TIMEOUT_MS": str(SESSION_S * 1000)},
    )  # fmt: skip
    still = Standstill(bootstrap, pipeline.settings.consumer_group, RAW, PARTITIONS)

    def scale() -> None:
        time.sleep(SETTLES_S)
        still.step(UP)
        added = [pipeline.add_worker() for _ in range(2)]
        for worker in added:
            worker.wait_ready()
        time.sleep(SETTLES_S)
        still.step(KILL)
        added[0].kill()
        added[0].start()
        added[0].wait_ready()
        time.sleep(SETTLES_S)
        still.step(DOWN)
        codes = [worker.stop() for worker in added]
        assert codes == [0, 0], codes
        first, second = (worker.name for worker in added)
        remove(pipeline, first)
        assert leaves_by_itself(pipeline, second, folder)
        pipeline["worker-1"].wait_ready()
        time.sleep(SETTLES_S)

    async def disturb() -> None:
        await asyncio.to_thread(scale)

    with pipeline, in_threads(still.watch):
        verdict = verdict_of(
            pipeline, accounts, seconds=None, rate_per_s=RATE_PER_S, disturb=disturb
        )
        return verdict, still, pipeline.log_tails()
