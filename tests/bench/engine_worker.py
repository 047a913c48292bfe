"""The worker as it is shipped, over a backlog: one line of figures.

``python -m tests.bench.engine_worker STAGES BOOTSTRAP COUNT DIR``, with ``STAGES`` ``enrich`` or
``enrich,campaigns``, reads ``COUNT`` raw events in a group of its own and prints one JSON line.

Invariants:
1. The clock starts with the first chunk, and no chunk comes before the state of every partition is
   open: how long a start takes is not measured here.
2. The clock stops when all is done: every raw event folded and its outputs acknowledged, every
   minute count merged and its rates published, everything checkpointed.
3. Nothing else of the worker is replaced, also not its check that the raw topic is still the same.
"""

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from schemas.settings import Settings
from streams.classify import user_agent
from streams.kafka.admin import log_id as find_log_id
from streams.transport.runner import settle_garbage_collector
from streams.worker.worker import Worker

POLL_S = 0.02


class Run:
    """One worker over ``count`` raw events."""

    def __init__(self, worker: Worker, count: int) -> None:
        self.worker = worker
        self.count = count
        self.begun_s = self.begun_cpu_s = 0.0
        self.main = (0.0, 0.0)

    def watch(self) -> None:
        """Starts the clock at the first chunk (invariant 1)."""
        agent, hooks = self.worker.enrich, self.worker.app.hooks
        process, is_open = agent.process, hooks.is_open

        async def timed(work: Any, chunk: Any) -> None:
            if not self.begun_s:
                self.begun_s, self.begun_cpu_s = time.monotonic(), time.process_time()
                self.main = main_thread_s()
            await process(work, chunk)

        agent.process = timed  # type: ignore[method-assign]  # the bench's clock around it
        hooks.is_open = lambda tp: self.worker.ready and is_open(tp)  # type: ignore[method-assign]

    async def until_done(self) -> dict[str, float]:
        """Waits for the end (invariant 1); returns the figures."""
        enrich, campaigns = self.worker.enrich, self.worker.campaigns
        while sum(shard.applied + 1 for shard in enrich.shards.values()) < self.count:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        for work in enrich.works():
            await enrich.checkpoint(work)
        if campaigns in self.worker.agents:
            while self._unmerged():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            for work in campaigns.works():
                await campaigns.checkpoint(work)
        return self._figures()

    def _unmerged(self) -> float:
        """Minute counts that were written and not read yet."""
        written, merged, stale = (
            _value(self.worker.metrics.partials.labels(result))
            for result in ("written", "merged", "stale")
        )
        return written - merged - stale

    def _figures(self) -> dict[str, float]:
        wall_s = time.monotonic() - self.begun_s
        cpu_s = time.process_time() - self.begun_cpu_s
        ran_s, queued_s = (now - then for now, then in zip(main_thread_s(), self.main, strict=True))
        metrics = self.worker.metrics
        return {
            "events": self.count,
            "events_per_s": self.count / wall_s,
            "cpu_us_per_event": cpu_s / self.count * 1e6,
            "busy": cpu_s / wall_s,
            "idle": max(0.0, 1 - (ran_s + queued_s) / wall_s),
            "minutes_per_event": _value(metrics.partials.labels("written")) / self.count,
            "rates_per_event": _value(metrics.rates) / self.count,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def main_thread_s() -> tuple[float, float]:
    """Seconds that the main thread has run, and that it was ready but had no core."""
    ran, queued, _ = Path(f"/proc/self/task/{os.getpid()}/schedstat").read_text().split()
    return int(ran) / 1e9, int(queued) / 1e9


def _value(metric: Any) -> float:
    return float(metric._value.get())


async def measure(stages: str, bootstrap: str, count: int, directory: Path) -> None:
    """Runs the worker, prints the figures and ends the process."""
    settings = Settings(
        kafka_bootstrap=bootstrap, data_dir=directory, consumer_group=f"bench-{os.getpid()}",
        session_timeout_ms=10_000, rebalance_timeout_ms=10_000,
    )  # fmt: skip
    log_id = await find_log_id(settings)
    worker = Worker(settings, log_id=log_id, stages=stages.split(","))
    run = Run(worker, count)
    run.watch()
    working = asyncio.create_task(worker.run())
    done = asyncio.create_task(run.until_done())
    await asyncio.wait([working, done], return_when=asyncio.FIRST_COMPLETED)
    if not done.done() or done.exception():
        raise RuntimeError(f"the worker ended: {worker.app.failure}") from done.exception()
    print(json.dumps(done.result()), flush=True)
    os._exit(0)


def main() -> None:
    """See the module."""
    stages, bootstrap, count, directory = sys.argv[1:]
    settle_garbage_collector()
    user_agent.load()
    asyncio.run(measure(stages, bootstrap, int(count), Path(directory)))


if __name__ == "__main__":
    main()
