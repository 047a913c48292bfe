"""One campaign with 90 % of the traffic: what it does to how soon the others' events come out.

``run`` sends the same number of true events a second through the whole line, spread over all
campaigns and with ``HOT`` of them for one, in turn. What is measured is how old a record of the
enriched topic is when a consumer gets it: its timestamp is when ingress took it in.
Figures are of the campaigns that are not the hot one, in both.
"""

import asyncio
import math
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from schemas.codec import Codec
from schemas.topics import ENRICHED
from streams.simulation.accounts import Accounts, open_accounts
from streams.simulation.load import Load, Shape, send
from streams.simulation.simulator import PLANS
from tests.live.roles import Pipeline

HOT = 0.9
RATE_PER_S, SECONDS, QUICK_SECONDS = 300.0, 30.0, 8.0
_HOT_NAME = PLANS[0].name


class Watcher:
    """Reads the enriched topic as it grows, and notes ages by campaign."""

    def __init__(self, bootstrap: str, run: str) -> None:
        self.ages_s: dict[str, list[float]] = {}
        self._run = run
        self._bootstrap = bootstrap
        self._codec = Codec()

    async def watch(self) -> None:
        """Until it is cancelled."""
        consumer = AIOKafkaConsumer(
            ENRICHED, bootstrap_servers=self._bootstrap, group_id=None, auto_offset_reset="latest",
            fetch_max_wait_ms=20,
        )  # fmt: skip
        await consumer.start()
        try:
            while True:
                polled = await consumer.getmany(timeout_ms=50)
                now = time.time()
                for records in polled.values():
                    for record in records:
                        self._note(record.value, now - record.timestamp / 1000)
        finally:
            await consumer.stop()

    def _note(self, value: bytes, age_s: float) -> None:
        enriched = self._codec.decode(value, "enriched_event")
        campaign = enriched["enrichment"]["campaign_id"] or ""
        if campaign.endswith(self._run):
            self.ages_s.setdefault(campaign, []).append(age_s)

    def others(self) -> list[float]:
        """Ages of the events of all campaigns but the hot one, in order of size."""
        hot = f"{_HOT_NAME}-{self._run}"
        return sorted(age for name, ages in self.ages_s.items() if name != hot for age in ages)


def quantile(ordered: list[float], share: float) -> float:
    """A quantile of figures in order; not a number without any."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


async def ages(
    pipeline: Pipeline, accounts: Accounts, shape: Shape, seconds: float, folder: Path
) -> list[float]:
    """Ages of the other campaigns' events under one load."""
    run = secrets.token_hex(3)
    watcher = Watcher(pipeline.settings.kafka_bootstrap, run)
    watching = asyncio.ensure_future(watcher.watch())
    load = Load(pipeline.ingest_url, RATE_PER_S, seconds, folder / f"{run}.jsonl", 1, run, shape)
    await send(load, accounts, time.time(), asyncio.Event())
    await asyncio.to_thread(pipeline.wait_caught_up)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return watcher.others()


def run(bootstrap: str, quick: bool) -> dict[str, float]:
    """p50 and p99 in milliseconds, evenly spread and beside a hot campaign, and their ratio."""
    accounts, seconds = open_accounts(), QUICK_SECONDS if quick else SECONDS
    found: dict[str, list[float]] = {"even": [], "hot": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Pipeline(bootstrap, folder, accounts.toml, accounts.environ) as pipeline:
            asyncio.run(ages(pipeline, accounts, Shape(), 5.0, folder))  # warm
            for _ in range(1 if quick else 2):  # in turn: the machine is the same for both
                for kind, shape in (("even", Shape()), ("hot", Shape(hot=HOT))):
                    found[kind] += asyncio.run(ages(pipeline, accounts, shape, seconds, folder))
    figures: dict[str, float] = {}
    for kind, values in found.items():
        figures[f"hot_others_{kind}_events"] = len(values)
        figures[f"hot_others_{kind}_ms_p50"] = statistics.median(values) * 1000
        figures[f"hot_others_{kind}_ms_p99"] = quantile(sorted(values), 0.99) * 1000
    figures["hot_others_p99_ratio"] = (
        figures["hot_others_hot_ms_p99"] / figures["hot_others_even_ms_p99"]
    )
    return figures
