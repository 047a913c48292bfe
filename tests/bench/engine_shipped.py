"""The worker as it is shipped, both agents in it, beside peers that count and publish too.

``run`` makes the topics anew for each layout and fills the raw one. Over each layout the contenders
take turns, round after round, as in ``tests.bench.engine``.

Figures:
- ``worker_events_per_s``, ``worker_cpu_us``, ``worker_vs_*``: 24 partitions, 200 campaigns.
  ``…_by_cpu`` compares CPU time per event, which other load on the machine moves less.
- ``worker_alone_cpu_us``: the same process with ``enrich`` alone; ``worker_vs_alone_cpu`` is what
  counting and publishing of all campaigns adds.
- ``worker_cpu_us_N_partitions``, ``worker_cpu_us_N_campaigns``: the other layouts.
- ``worker_idle``: share of the time in which the worker's main thread neither ran nor waited for a
  core, although a backlog was there.
"""

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.topics import RAW
from tests.bench.layouts import Layout, empty, lay_out
from tests.bench.processes import result_of, start

PARTITIONS = (4, 24, 96)
CAMPAIGNS = (10, 1_000, 10_000)
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    events: int
    quix_events: int
    faust_events: int
    rounds: int


FULL = Plan(events=300_000, quix_events=60_000, faust_events=10_000, rounds=3)
QUICK = Plan(events=20_000, quix_events=5_000, faust_events=2_000, rounds=1)


def worker(bootstrap: str, stages: str, count: int) -> Figures:
    """The worker with these agents over the whole backlog."""
    empty(bootstrap)
    with tempfile.TemporaryDirectory() as directory:
        process = start("engine_worker", stages, bootstrap, str(count), directory)
        return result_of(process, f"worker with {stages}")


def peer(bootstrap: str, name: str, count: int, partitions: int) -> Figures:
    """A peer that counts and publishes, over a front part of the backlog."""
    empty(bootstrap)
    with tempfile.TemporaryDirectory() as directory:
        process = start(
            "contender", name, bootstrap, RAW, str(count), directory, str(partitions)
        )  # fmt: skip
        return result_of(process, name)


def contest(bootstrap: str, plan: Plan) -> Figures:
    """The worker, its part and its peers on 24 partitions."""
    layout = Layout(plan.events)
    lay_out(bootstrap, layout)
    found: dict[str, list[Figures]] = {}
    for _ in range(plan.rounds):
        for name, stages in (("worker", "enrich,campaigns"), ("alone", "enrich")):
            found.setdefault(name, []).append(worker(bootstrap, stages, plan.events))
        for name, count in (("quix", plan.quix_events), ("stock_faust", plan.faust_events)):
            found.setdefault(name, []).append(peer(bootstrap, name, count, layout.partitions))
    speed = {name: _median(results, "events_per_s") for name, results in found.items()}
    cost = {name: _median(results, "cpu_us_per_event") for name, results in found.items()}
    figures = {
        "worker_events_per_s": speed["worker"],
        "worker_cpu_us": cost["worker"],
        "worker_alone_cpu_us": cost["alone"],
        "worker_vs_alone_cpu": cost["worker"] / cost["alone"],
        "worker_idle": _median(found["worker"], "idle"),
        "worker_rss_mb": _median(found["worker"], "rss_mb"),
        "worker_minutes_per_event": _median(found["worker"], "minutes_per_event"),
    }
    for name in ("quix", "stock_faust"):
        figures[f"worker_vs_{name}"] = speed["worker"] / speed[name]
        figures[f"worker_vs_{name}_by_cpu"] = cost[name] / cost["worker"]
        figures[f"cpu_us_{name}_counting"] = cost[name]
    return figures


def cost_of(bootstrap: str, layout: Layout, rounds: int) -> float:
    """CPU time per event of the worker that is shipped, in microseconds."""
    lay_out(bootstrap, layout)
    some = [worker(bootstrap, "enrich,campaigns", layout.events) for _ in range(rounds)]
    return _median(some, "cpu_us_per_event")


def run(bootstrap: str, quick: bool) -> Iterator[Figures]:
    """Measures everything; see the module. The topics before are deleted."""
    plan = QUICK if quick else FULL
    yield contest(bootstrap, plan)
    for partitions in PARTITIONS:
        cost = cost_of(bootstrap, Layout(plan.events, partitions=partitions), plan.rounds)
        yield {f"worker_cpu_us_{partitions}_partitions": cost}
    for campaigns in CAMPAIGNS:
        cost = cost_of(bootstrap, Layout(plan.events, campaigns=campaigns), plan.rounds)
        yield {f"worker_cpu_us_{campaigns}_campaigns": cost}


def _median(results: list[Figures], key: str) -> float:
    return statistics.median(result[key] for result in results)
