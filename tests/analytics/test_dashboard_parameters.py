"""The pages over a real engine: whatever the address says, figures or a refusal; and the figures
in the viewer's zone."""

import csv
import io
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.client import reader
from analytics.dashboard.app import create_app
from analytics.dashboard.asking import ClickHouseQuery
from analytics.dashboard.figures import FIELDS
from schemas.settings import Settings
from tests.warehouses import OpenWarehouse, migrated_warehouse

NOW = datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC).timestamp()
ODD = [
    "0", "-1", "1", "4294967296", "99999999999999999999", "1e9-2e9", "NaN", "inf", "", "ü", "\0",
    "a\nb", "'", "x" * 2_001, "1000000000-1000000000", "1000000000-1000000060", "0-1",
    "999999999-4294967295", "4294967280-4294967295", "all", "24h", "UTC", "Asia/Kolkata",
    "Nowhere/Town", "../UTC", "٣٣٣٣٣٣٣٣٣-٤٤٤٤٤٤٤٤٤",
]  # fmt: skip
TABLES = (
    "campaigns", "trend", "timeline", "funnel", "mailboxes", "courses", "suppressions", "bounces",
    "variants", "hours", "device", "incidents", "lags", "samples", "throughput", "nothing", "%00",
)  # fmt: skip
PAGES = ("overview", "campaign", "deliverability", "compare", "audience", "pipeline")
MINUTES = (
    ("2010-01-01 00:00:00", 1),  # more than ten years back
    ("2026-08-01 12:00:00", 64),
    ("2026-11-23 23:30:00", 2),
    ("2026-11-24 00:30:00", 4),
    ("2026-11-25 02:30:00", 8),
    ("2026-11-25 12:00:00", 16),  # the running minute
    ("2026-11-26 06:00:00", 32),  # dated ahead by a provider's clock
)
"""Deliveries by minute, UTC."""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A warehouse with one campaign."""
    with migrated_warehouse(tmp_path_factory.mktemp("pages")) as (opened, client):
        for minute, delivered in MINUTES:
            client.command(
                "INSERT INTO campaign_minutes (campaign_id, minute, events, delivered)"
                f" SELECT 'c', toDateTime('{minute}', 'UTC'), {delivered}, {delivered}"
            )
        yield opened


@pytest.fixture(scope="module")
def query(warehouse: OpenWarehouse) -> Iterator[ClickHouseQuery]:
    """As the dashboard asks: through the analysts' door."""
    made = ClickHouseQuery(lambda: reader(warehouse.reader_settings))
    yield made
    made.close()


def page_of(query: ClickHouseQuery) -> httpx.AsyncClient:
    """A browser in front of a dashboard whose clock stands still."""
    app = create_app(Settings(), query, wall=lambda: NOW)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081")


@pytest.fixture
async def page(query: ClickHouseQuery) -> AsyncIterator[httpx.AsyncClient]:
    """The same, closed at the end."""
    async with page_of(query) as browser:
        yield browser


values = st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.integers().map(str))


PATHS = [
    *(f"/api/{name}" for name in (*PAGES, "nothing")), "/login",
    *(f"/csv/{name}/{table}.csv" for name in PAGES for table in TABLES),
    *(f"/parquet/{name}/{table}.parquet" for name in PAGES for table in TABLES),
]  # fmt: skip
NAMES = ["period", "zone", "campaign", "next", "step", "c", "age", "key", "q"]


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(NAMES), values))
async def test_no_parameter_is_a_fault_of_the_server(
    query: ClickHouseQuery, path: str, parameters: dict[str, str]
) -> None:
    """Zeros, negatives, huge numbers, nothing, other alphabets: 200, or 400 with a reason."""
    async with page_of(query) as browser:
        answer = await browser.get(path, params=parameters)
    assert answer.status_code in (200, 400), (path, parameters, answer.text)
    assert answer.headers.get("x-trouble", "") == "", (path, parameters, answer.headers)
    if answer.status_code == 400:
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"zone": "Nowhere/Town"}, "IANA time zones"),
        ({"period": "0"}, "one of 1h, 24h"),
        ({"period": "1700000000-1600000000"}, "FROM must be before TO"),
        ({"period": "4294967200-4294967295"}, "2106"),
    ],
)
async def test_a_bad_zone_or_period_is_a_400_with_a_sentence(
    page: httpx.AsyncClient, parameters: dict[str, str], words: str
) -> None:
    """What is wrong, and what would be right; live streams refuse as documents do."""
    for path in ("/api/overview", "/live/overview", "/csv/overview/campaigns.csv"):
        answer = await page.get(path, params=parameters)
        assert (answer.status_code, words in answer.json()["detail"]) == (400, True)


def delivered(counts: list[int]) -> int:
    """Of the figures of a document."""
    return counts[FIELDS.index("delivered")]


async def document(page: httpx.AsyncClient, name: str, **parameters: str) -> dict[str, Any]:
    """A page's document."""
    answer = await page.get(f"/api/{name}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_all_is_what_the_summary_counts(page: httpx.AsyncClient) -> None:
    """«All» once left out what lay more than ten years back, and what was dated ahead."""
    for name in ("overview", "campaign"):
        found = await document(page, name, period="all", campaign="c")
        assert delivered(found["totals"]) == sum(count for _, count in MINUTES)
        assert found["totals_before"] is None


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {"2026-11-23": 2, "2026-11-24": 4, "2026-11-25": 24}),
        ("America/New_York", {"2026-11-23": 6, "2026-11-24": 8, "2026-11-25": 16}),
        ("Asia/Kolkata", {"2026-11-24": 6, "2026-11-25": 24}),
        ("Pacific/Apia", {"2026-11-24": 6, "2026-11-25": 8, "2026-11-26": 16}),
    ],
)
async def test_days_are_cut_where_they_are_labelled(
    page: httpx.AsyncClient, zone: str, days: dict[str, int]
) -> None:
    """A delivery at 19:30 in New York on 23 November is one of the 23rd, on the page as in its
    CSV; days were once UTC's with the label of the viewer's."""
    first = "2026-08-02" if zone == "Pacific/Apia" else "2026-08-01"
    begin, end = (int(datetime(2026, *at, tzinfo=UTC).timestamp()) for at in ((7, 1), (11, 26)))
    asked = {"campaign": "c", "zone": zone, "period": f"{begin}-{end}"}
    text = (await page.get("/csv/campaign/timeline.csv", params=asked)).text
    rows = list(csv.DictReader(io.StringIO(text)))
    found = {row["step_start"][:16]: int(row["delivered"]) for row in rows}
    assert found == {f"{day}T00:00": count for day, count in {first: 64, **days}.items()}
    shown = await document(page, "campaign", **asked)
    assert shown["step_s"] == 86_400
    assert {step["at_s"] for step in shown["timeline"]} <= set(shown["steps_s"])


async def test_the_zone_of_this_machine_changes_nothing(
    page: httpx.AsyncClient, query: ClickHouseQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same documents as in UTC, when the dashboard runs in New York."""
    asked = {"period": "7d", "campaign": "c", "zone": "Asia/Kolkata"}
    before = [await document(page, name, **asked) for name in ("overview", "campaign")]
    try:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        async with page_of(query) as browser:
            after = [await document(browser, name, **asked) for name in ("overview", "campaign")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert after == before
