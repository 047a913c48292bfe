"""The engine beside its peers: one topic, one machine, one run, the same ``step``.

``run`` fills the raw topic once, then lets the contenders read it in turn, round after round, so
that whatever else the machine does hits all of them. Slow peers read a front part of the topic.
What is compared are medians over the rounds.

Invariants:
1. Contenders differ in who delivers the records, who keeps the state and how outputs are sent;
   what is done per event is the same code (``tests/bench/engine_peers.py``).
2. Every process has a time limit: one that hangs fails the bench, and never holds it up.
3. Nobody finds the outputs of a round before: a worker without state would first restore what it
   finds, and the clock would count that, too.
4. ``enrich_*`` is the agent ``enrich`` alone, a part of the worker that ships; that is measured in
   ``tests/bench/engine_shipped.py``. ``enrich_vs_*`` are ratios of events per second of wall clock.
   ``cpu_us_*`` is the CPU time per event of all threads of the process, which other load on the
   machine moves less.
5. ``step_vs_fastavro_decode`` is what the step costs, in units of fastavro's decoding of the same
   raw record: it carries over to other machines.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.topics import ENRICHED, PARTITIONS_DEFAULT, RAW
from tests.bench import engine_shipped
from tests.bench.processes import result_of, start
from tests.bench.traffic import fill
from tests.live.kafka import create_topics, empty_topic


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    events: int
    quix_events: int
    faust_events: int
    rounds: int
    tracked: int
    stepped: int


FULL = Plan(
    events=300_000, quix_events=100_000, faust_events=20_000, rounds=3, tracked=5_000_000,
    stepped=60_000,
)  # fmt: skip
QUICK = Plan(
    events=40_000, quix_events=10_000, faust_events=3_000, rounds=1, tracked=200_000,
    stepped=10_000,
)  # fmt: skip


def contend(name: str, bootstrap: str, count: int) -> dict[str, float]:
    """One contender over ``count`` events of the raw topic, in a directory of its own."""
    empty_topic(bootstrap, ENRICHED)
    with tempfile.TemporaryDirectory() as directory:
        return result_of(start("contender", name, bootstrap, RAW, str(count), directory), name)


def alone(name: str, bootstrap: str, count: int) -> dict[str, float]:
    """One of the measurements of ``engine_own``."""
    with tempfile.TemporaryDirectory() as directory:
        return result_of(start("engine_own", name, bootstrap, str(count), directory), name)


def two_workers(bootstrap: str, number: int) -> float:
    """Events per second of two workers that share the topic.

    Args:
        number: makes the consumer group's name.
    """
    empty_topic(bootstrap, ENRICHED)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        both = [start("engine_own", "half", bootstrap, str(number), d) for d in (one, two)]
        try:
            halves = [result_of(process, "half") for process in both]
        finally:
            for process in both:
                process.kill()
    events = sum(half["events"] for half in halves)
    span = max(half["ended"] for half in halves) - min(half["begun"] for half in halves)
    return events / span


def run(bootstrap: str, quick: bool) -> Iterator[dict[str, float]]:
    """Measures everything; see the module."""
    yield _enrich_alone(bootstrap, QUICK if quick else FULL)
    yield from engine_shipped.run(bootstrap, quick)


def _enrich_alone(bootstrap: str, plan: Plan) -> dict[str, float]:
    create_topics(bootstrap, "bench.out", "bench.side", "bench.minutes")
    asyncio.run(fill(bootstrap, RAW, plan.events, PARTITIONS_DEFAULT))
    rounds: dict[str, list[dict[str, float]]] = {}
    rebuilt: dict[str, float] = {}
    pairs: list[float] = []
    for number in range(plan.rounds):
        for name, count in (
            ("mailpulse", plan.events), ("quix", plan.quix_events), ("hand_loop", plan.events),
            ("stock_faust", plan.faust_events),
        ):  # fmt: skip
            rounds.setdefault(name, []).append(contend(name, bootstrap, count))
            if not rebuilt:  # while the enriched topic holds every event once
                rebuilt = alone("rebuild", bootstrap, plan.events)
        pairs.append(two_workers(bootstrap, number))
    kept = alone("state", bootstrap, plan.tracked)
    folded = alone("step", bootstrap, plan.stepped)
    speed = {name: _median(results, "events_per_s") for name, results in rounds.items()}
    figures = {
        "enrich_events_per_s": speed["mailpulse"],
        "enrich_vs_stock_faust": speed["mailpulse"] / speed["stock_faust"],
        "enrich_vs_quix": speed["mailpulse"] / speed["quix"],
        "enrich_vs_hand_loop": speed["mailpulse"] / speed["hand_loop"],
        "rebuild_records_per_s": rebuilt["records_per_s"],
        "cpu_us_rebuild": rebuilt["cpu_us"],
        "cpu_us_step": folded["cpu_us"],
        "step_vs_fastavro_decode": folded["vs_decode"],
        "state_bytes_per_message": kept["bytes_per_message"],
        "state_bytes_per_open_message": kept["bytes_per_open_message"],
        "rss_mb": max(kept["rss_mb"], _median(rounds["mailpulse"], "rss_mb")),
        "two_workers_ratio": statistics.median(pairs) / speed["mailpulse"],
    }
    for name, results in rounds.items():
        figures[f"events_per_s_{name}"] = speed[name]
        figures[f"cpu_us_{name}"] = _median(results, "cpu_us_per_event")
    return figures


def _median(results: list[dict[str, float]], key: str) -> float:
    return statistics.median(result[key] for result in results)
