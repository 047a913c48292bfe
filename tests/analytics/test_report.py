"""The report as a file, downloads as Parquet, words about bounces, and samples of the pipeline."""

import asyncio
import io
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.dashboard.advice import BOUNCES
from analytics.dashboard.figures import fields
from analytics.dashboard.parquet import parquet
from analytics.dashboard.report import last, report
from analytics.dashboard.sampling import SAMPLES_MAX, Sampler
from schemas.errors import Unavailable
from schemas.event import BounceReason
from schemas.glossary import COUNTER_NAMES

VIENNA = ZoneInfo("Europe/Vienna")
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC).timestamp()  # a Saturday
HOSTILE = "<script>alert(1)</script>\"'&"


def counts(**given: int) -> list[int]:
    """The figures of a document."""
    return fields([given.get(name, 0) for name in COUNTER_NAMES])


def documents(text: str = "spring") -> tuple[dict[str, Any], dict[str, Any]]:
    """Two documents, with a text wherever the outside supplies one."""
    start, end = int(NOW) - 7 * 86_400, int(NOW)
    row = counts(delivered=1_000, cohort_opened=200, cohort_opened_at_most=300, bounced_hard=30)
    head = {"zone": "Europe/Vienna", "period": {"start_s": start, "end_s": end}}
    overview = {
        **head,
        "totals": row, "totals_before": counts(delivered=500),
        "trend": {"steps_s": [start, start + 86_400], "counts": [row, row], "before": [row, row]},
        "campaigns": [{"id": text, "name": text, "owner": text, "counts": row}],
        "campaigns_left_out": 3,
        "incidents": [
            {
                "campaign_id": text, "rate": text, "worst_level": text, "places": [text],
                "advice": text, "opened_ms": start * 1000, "closed_ms": None,
                "numerator": 3, "denominator": 100,
            }
        ],
    }  # fmt: skip
    deliverability = {
        **head,
        "mailboxes": [{"mailbox": text, "counts": row, "before": None}],
        "bounces": [{"bounce_class": text, "bounce_reason": "no_mailbox", "messages": 30}],
    }
    return overview, deliverability


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.given: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.tags.append(tag)
        self.given += attrs

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        self.text += data


def test_a_report_has_the_figures_of_the_pages() -> None:
    """Rates with numerator, denominator and the range that doubt leaves; the period before."""
    found = Tags(report(*documents(), NOW))
    for text in ("20.0 %", "200 of 1,000, 20.0 % to 30.0 %", "2.9 %", "before: 500", "3 more",
                 BOUNCES["no_mailbox"][1]):  # fmt: skip
        assert text in found.text, text


def test_a_report_is_one_harmless_file() -> None:
    """No script, nothing from elsewhere, and every text as text."""
    page = report(*documents(HOSTILE), NOW)
    found = Tags(page)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not [name for name, _ in found.given if name in ("src", "href") or name[:2] == "on"]
    assert "url(" not in page
    assert found.text.count(HOSTILE) >= 6


@pytest.mark.parametrize(
    ("name", "zone", "begin", "end"),
    [
        ("day", VIENNA, "2026-11-27T00:00+01:00", "2026-11-28T00:00+01:00"),
        ("week", VIENNA, "2026-11-16T00:00+01:00", "2026-11-23T00:00+01:00"),
        ("week", ZoneInfo("UTC"), "2026-11-16T00:00+00:00", "2026-11-23T00:00+00:00"),
        ("month", VIENNA, "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"),
    ],
)
def test_a_report_is_of_whole_days_of_the_zone(
    name: str, zone: ZoneInfo, begin: str, end: str
) -> None:
    """The last ones that are over, weeks from Monday, also where clocks were changed."""
    found = last(name, NOW, zone)
    assert found.start_s == datetime.fromisoformat(begin).timestamp()
    assert found.end_s == datetime.fromisoformat(end).timestamp()
    assert found.name == f"{found.start_s}-{found.end_s}"


cells = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
floats = st.one_of(st.none(), st.floats(allow_nan=False))
texts = st.one_of(st.none(), st.text(max_size=20))


@given(st.lists(st.tuples(cells, floats, texts), max_size=40))
def test_parquet_gives_every_cell_back(rows: list[tuple[Any, ...]]) -> None:
    """Integers, floats, texts and what is missing, read by Apache Arrow."""
    whole = [*rows, (1, 0.5, "last")]
    file = parquet(["whole", "broken", "text"], whole)
    table = pyarrow.parquet.read_table(io.BytesIO(file))
    assert table.column_names == ["whole", "broken", "text"]
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == whole


def test_parquet_of_nothing_and_of_many_columns_can_be_read() -> None:
    """A table without rows has its columns; twenty columns need another length in the footer."""
    names = [f"column_{number}" for number in range(20)]
    assert pyarrow.parquet.read_table(io.BytesIO(parquet(names, []))).column_names == names
    row = list(range(20))
    found = pyarrow.parquet.read_table(io.BytesIO(parquet(names, [row, [""] * 20])))
    assert [column.to_pylist() for column in found.columns] == [[value, None] for value in row]


def test_every_reason_of_a_bounce_has_words() -> None:
    """What it means, and what to do, as sentences."""
    assert set(BOUNCES) == {str(reason) for reason in BounceReason}
    for means, advice in BOUNCES.values():
        assert means.endswith(".")
        assert advice.endswith(".")


async def test_samples_are_kept_for_hours_and_gaps_stay_gaps() -> None:
    """The oldest go; what does not answer leaves a gap and ends nothing."""
    lags = [
        {"group": "worker", "lag": 3},
        {"group": "worker", "lag": 4},
        {"group": "sink", "lag": 0},
    ]
    down = False

    async def pipeline() -> dict[str, Any]:
        return {"lags": [] if down else lags}

    async def behind() -> float | None:
        if down:
            raise Unavailable("away")
        return 1.5

    sampler = Sampler(pipeline, behind, lambda: NOW)
    await sampler.sample()
    down = True
    await sampler.sample()
    first, second = sampler.samples()
    assert first == {"at_ms": int(NOW * 1000), "lag": {"worker": 7, "sink": 0}, "behind_s": 1.5}
    assert (second["lag"], second["behind_s"]) == (None, None)
    running = asyncio.create_task(sampler.run(0))
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert len(sampler.samples()) > 2
    for _ in range(SAMPLES_MAX):
        await sampler.sample()
    assert len(sampler.samples()) == SAMPLES_MAX
