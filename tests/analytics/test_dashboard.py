"""The dashboard's parts without a browser: figures, periods, masks, CSV, one reader for many."""

import asyncio
import csv
import io
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from analytics.dashboard import csv_tables, period
from analytics.dashboard.asking import REST_FACTOR, Asker, Parameters, Rows
from analytics.dashboard.figures import FIELDS, METRICS, Metric, added, fields, rate, wording
from analytics.dashboard.hub import Hub, View
from analytics.dashboard.kafka import Reading, flow
from analytics.dashboard.scraping import captures, refusals
from ingest.metrics import IngestMetrics
from schemas.errors import BadInput, Unavailable
from schemas.glossary import COUNTER_NAMES, RATES, derived

COUNTS = st.lists(st.integers(-5, 10**9), min_size=len(COUNTER_NAMES), max_size=len(COUNTER_NAMES))


# --- figures --------------------------------------------------------------------------------------


def metric(name: str, basis: str, who: str) -> Metric:
    """The rate that a page shows for one setting of its switches."""
    [found] = [
        item for item in METRICS
        if item.name == name and item.basis in ("", basis) and item.who in ("", who)
    ]  # fmt: skip
    return found


@given(COUNTS)
def test_rates_are_those_of_the_glossary(counts: list[int]) -> None:
    """Every rate of the glossary that the page shows has the glossary's value."""
    values = fields(counts)
    for item in RATES:
        name, _, more = item.name.removeprefix("flow_").partition("_rate")
        found = metric(f"{name}_rate", item.basis, WHO.get(more, "human"))
        shown = rate(values, replace(found, numerator=found.most) if more == "_at_most" else found)
        below = derived(counts, item.denominator)
        assert shown == (derived(counts, item.numerator) / below if below else None)


WHO = {"_with_machine": "any", "_with_unknown": "unknown"}


def test_the_interval_of_a_rate_is_the_same_by_whomever_it_is_shown() -> None:
    """From humans alone to what is not surely a machine's; none where machines are included."""
    for basis, prefix in (("cohort", "cohort_"), ("flow", "")):
        for name, stem in (("open_rate", "opened"), ("click_rate", "clicked")):
            ends = {
                who: (metric(name, basis, who).least, metric(name, basis, who).most)
                for who in ("human", "unknown", "any")
            }
            wanted = (f"{prefix}{stem}", f"{prefix}{stem}_at_most")
            assert ends == {"human": wanted, "unknown": wanted, "any": ("", "")}


def test_a_definition_is_the_glossarys() -> None:
    """Where the glossary defines the rate, its words are the tool-tip."""
    known = {f"{item.doc}." for item in RATES}
    assert metric("open_rate", "cohort", "human").tip in known
    assert metric("open_rate", "flow", "human").tip in known
    assert metric("hard_bounce_rate", "flow", "any").tip in known
    assert all(item["tip"].endswith(".") for item in wording()["metrics"])


def test_every_switch_has_every_metric() -> None:
    """For every setting of the switches, each name occurs exactly once."""
    for name in {item.name for item in METRICS}:
        for basis in ("cohort", "flow"):
            for who in ("human", "unknown", "any"):
                assert metric(name, basis, who).name == name


@given(st.lists(COUNTS, max_size=5))
def test_totals_are_sums(vectors: list[list[int]]) -> None:
    """Counters add up, whatever the order."""
    assert added(vectors) == added(vectors[::-1])
    assert added(vectors) == [sum(one) for one in zip(*vectors, strict=True)] or not vectors


# --- periods --------------------------------------------------------------------------------------


@given(st.sampled_from(list(period.LENGTHS_S)), st.floats(1.6e9, 2e9))
def test_a_rolling_period_ends_with_the_minute_under_way(name: str, now_s: float) -> None:
    """So that present events are included, and no minute is cut."""
    found = period.parse(name, now_s)
    assert found.end_s - 60 <= now_s < found.end_s
    assert found.end_s % 60 == found.start_s % 60 == 0
    assert found.end_s - 60 - found.start_s == period.LENGTHS_S[name]  # that many minutes ended
    assert found.until_s == found.end_s
    assert found.previous().end_s == found.start_s
    assert found.start_s - found.previous_s == found.end_s - found.start_s


@given(st.floats(0, 4e9))
def test_all_is_everything(now_s: float) -> None:
    """Whatever the tables can hold, as ``campaign_summary`` counts it; there is no period before.
    «all» once left out what lay more than ten years back, and what was dated ahead."""
    found = period.parse("all", now_s)
    assert (found.start_s, found.previous_s) == (0, 0)
    assert found.end_s - 60 <= now_s < found.end_s
    assert found.until_s > 4e9


@given(st.integers(1, 10**8), st.integers(10, 200), st.integers(0, 10**8))
def test_steps_are_few_enough(length: int, steps: int, before: int) -> None:
    """A chart has at most as many steps as asked for, up to the longest step of four weeks."""
    one = period.Period("x", 10**9, 10**9 + length)
    step = one.step_s(10**9 - before, steps)
    assert length <= step * steps or step == 28 * period.DAY_S


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2h",
        "5-4",
        "1700000000-1600000000",
        "a-b",
        "-1-5",
        "1e9-2e9",
        "999999999-99999999999",
        "1000000000-4294967296",
        "9999999990-9999999999",
        "٣٣٣٣٣٣٣٣٣-٤٤٤٤٤٤٤٤٤",
    ],
)
def test_a_strange_period_is_refused(name: str) -> None:
    """With a message."""
    with pytest.raises(BadInput):
        period.parse(name, 1.7e9)


# --- CSV ------------------------------------------------------------------------------------------


def overview(**campaign: Any) -> dict[str, Any]:
    counts = fields(list(range(1, len(COUNTER_NAMES) + 1)))
    one = {"id": "c", "name": "", "owner": "", "counts": counts, "last_ms": 0, **campaign}
    return {"page": "overview", "campaigns": [one], "incidents": []}


@given(st.text(max_size=30))
def test_csv_gives_every_text_back(text: str) -> None:
    """Commas, quotes and line ends survive; only formulas get an apostrophe."""
    rows = list(csv.reader(io.StringIO(csv_tables.csv_of(overview(name=text), "campaigns"))))
    name = rows[1][1]
    assert name in (text, f"'{text}") or "\r" in text or "\n" in text or "\0" in text
    assert not name.startswith(("=", "+", "-", "@", "\t"))


def test_csv_has_every_count_and_rate() -> None:
    """The same figures as on the page."""
    head, line = csv.reader(io.StringIO(csv_tables.csv_of(overview(), "campaigns")))
    cells = dict(zip(head, line, strict=True))
    values = overview()["campaigns"][0]["counts"]
    assert [cells[name] for name in FIELDS] == [str(value) for value in values]
    shown = rate(values, metric("open_rate", "cohort", "any"))
    assert float(cells["open_rate_with_machine"]) == pytest.approx(shown)


def test_a_table_that_is_not_there_is_refused() -> None:
    """And the answer names those that are."""
    with pytest.raises(BadInput, match="campaigns, incidents"):
        csv_tables.csv_of(overview(), "nothing")


# --- one reader for many --------------------------------------------------------------------------


class Builder:
    """Counts builds; fails while told to."""

    def __init__(self) -> None:
        self.builds = 0
        self.trouble: Exception | None = None
        self.slow = asyncio.Event()
        self.slow.set()

    async def __call__(self, view: View) -> dict[str, Any]:
        self.builds += 1
        await self.slow.wait()
        if self.trouble is not None:
            raise self.trouble
        return {"page": view.page, "build": self.builds}


VIEW = View("overview", "7d")


async def test_requests_that_come_together_share_one_build() -> None:
    """Fifty browsers polling at once cost one build."""
    build = Builder()
    build.slow.clear()
    hub = Hub(build, 10, wall=lambda: 0.0)
    waiting = [asyncio.create_task(hub.snapshot(VIEW)) for _ in range(50)]
    await asyncio.sleep(0)
    build.slow.set()
    assert len({(await one).version for one in waiting}) == 1
    assert build.builds == 1


async def test_a_failure_keeps_the_last_document() -> None:
    """With a message beside it, until the failure ends."""
    build, now = Builder(), [0.0]
    hub = Hub(build, 1, wall=lambda: 0.0, clock=lambda: now[0])
    first = await hub.snapshot(VIEW)
    build.trouble, now[0] = Unavailable("away"), 2.0
    second = await hub.snapshot(VIEW)
    assert second.body == first.body
    assert second.trouble.startswith("the database does not answer")
    assert "away" not in second.trouble, "details are for the log"
    build.trouble, now[0] = None, 4.0
    third = await hub.snapshot(VIEW)
    assert third.trouble == ""
    assert orjson.loads(third.body)["build"] == 3


async def test_watchers_get_each_build_and_the_last_one_ends_it() -> None:
    """Without viewers nothing is built."""
    build = Builder()
    hub = Hub(build, 0.01, wall=lambda: 0.0)
    async with hub.watching(VIEW) as snapshots:
        seen = []
        async for snapshot in snapshots:
            if snapshot is not None:
                seen.append(orjson.loads(snapshot.body)["build"])
            if len(seen) == 3:
                break
    assert seen == sorted(set(seen))
    await asyncio.sleep(0.05)
    builds = build.builds
    await asyncio.sleep(0.1)
    assert build.builds == builds
    await hub.close()


async def test_watchers_hear_something_while_a_build_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first document and after it: so silence means that the process stands still, and
    the time of the document says that it gets old."""
    monkeypatch.setattr("analytics.dashboard.hub.BEAT_S", 0.01)
    build, now = Builder(), [10.0]
    hub = Hub(build, 0.001, wall=lambda: now[0])
    build.slow.clear()
    async with hub.watching(VIEW) as snapshots:
        for _ in range(3):
            beat = orjson.loads(hub.tick(await anext(snapshots)))
            assert (beat["version"], beat["built_ms"], beat["now_ms"]) == ("", 0, 10_000)
        build.slow.set()
        while (built := await anext(snapshots)) is None:
            pass
        assert (built.built_ms, orjson.loads(built.body)["build"]) == (10_000, 1)
        build.slow.clear()
        now[0] = 25.0
        while orjson.loads(hub.tick(await anext(snapshots)))["now_ms"] != 25_000:
            pass
        beat = orjson.loads(hub.tick(await anext(snapshots)))
        assert beat["built_ms"] == 10_000
        build.slow.set()
    await hub.close()


async def test_a_failed_build_makes_no_document_newer() -> None:
    """Its time stays that of the last good one."""
    build, now = Builder(), [1.0]
    hub = Hub(build, 1, wall=lambda: now[0], clock=lambda: now[0])
    await hub.snapshot(VIEW)
    build.trouble, now[0] = Unavailable("away"), 5.0
    assert (await hub.snapshot(VIEW)).built_ms == 1_000


async def test_closing_ends_every_watcher() -> None:
    """A stop does not wait for browsers to disconnect."""
    hub = Hub(Builder(), 10, wall=lambda: 0.0)

    async def watch() -> None:
        async with hub.watching(VIEW) as snapshots:
            async for _ in snapshots:
                pass

    task = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    await hub.close()
    await asyncio.wait_for(task, 5)


async def test_a_slow_query_is_not_repeated_at_once() -> None:
    """Its last result is reused while the database rests."""
    now, asked = [0.0], 0

    async def query(_sql: str, _parameters: Parameters) -> Rows:
        nonlocal asked
        asked += 1
        now[0] += 1.0
        return [{"asked": asked}]

    ask = Asker(query, clock=lambda: now[0])
    assert await ask("q", {}, ("a",)) == [{"asked": 1}]
    now[0] = REST_FACTOR - 0.1
    assert await ask("q", {"edge": 2}, ("a",)) == [{"asked": 1}]
    assert await ask("q", {}, ("b",)) == [{"asked": 2}]
    now[0] = 2 * REST_FACTOR + 2
    assert await ask("q", {}, ("a",)) == [{"asked": 3}]


# --- the pipeline's figures -----------------------------------------------------------------------


def test_flow_needs_two_readings_and_survives_a_new_log() -> None:
    """The first reading has no rate; offsets that go back give no negative rate."""
    first = Reading(10.0, {("t", 0): 100}, {("t", 0): 0}, {("g", "t", 0): 90})
    alone = flow(None, first)
    assert alone["topics"] == [{"topic": "t", "records": 100, "per_s": None}]
    assert alone["lags"][0] | {"per_s": None} == alone["lags"][0]
    later = flow(first, Reading(12.0, {("t", 0): 140}, {("t", 0): 0}, {("g", "t", 0): 130}))
    assert later["topics"][0]["per_s"] == 20.0
    assert (later["lags"][0]["lag"], later["lags"][0]["per_s"]) == (10, 20.0)
    later = flow(first, Reading(12.0, {("t", 0): 5}, {("t", 0): 0}, {("g", "t", 0): -1}))
    assert later["topics"][0]["per_s"] == 0.0
    assert (later["lags"][0]["lag"], later["lags"][0]["committed"]) == (5, None)


def test_a_capture_of_several_processes_is_shown_once() -> None:
    """Until the latest of their ends; none is shown once it is over."""
    texts = []
    for until in (1_795_521_600.0, 1_795_521_660.5):
        metrics = IngestMetrics()
        metrics.capture_until.labels("news").set(until)
        texts.append(generate_latest(metrics.registry).decode())
    assert captures(texts) == [{"source": "news", "until_ms": 1_795_521_660_500}]
    metrics.capture_until.remove("news")
    assert captures([generate_latest(metrics.registry).decode()]) == []


def test_refusals_of_several_processes_add_up() -> None:
    """From their metrics; accepted requests are not marked as refused."""
    metrics = IngestMetrics()
    for source, result, times in (("news", "accepted", 5), ("news", "unauthorized", 2)):
        metrics.requests.labels(source, result).inc(times)
    metrics.requests.labels("shop", "accepted")
    text = generate_latest(metrics.registry).decode()
    assert refusals([text, text]) == [
        {"source": "news", "result": "accepted", "requests": 10, "refused": False},
        {"source": "news", "result": "unauthorized", "requests": 4, "refused": True},
    ]
