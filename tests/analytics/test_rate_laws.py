"""The law of figures in every view of ClickHouse and on the pages: for any events in any order."""

import asyncio
import csv
import io
import random
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analytics.dashboard import csv_tables
from analytics.dashboard.asking import Asker
from analytics.dashboard.documents import Documents
from analytics.dashboard.hub import View
from schemas import topics
from schemas.glossary import RATES
from streams.campaigns.rates import encode_rates
from streams.campaigns.windows import Partial
from streams.enrich import minute_counts
from tests.analytics.scenario import Sent
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse
from tests.laws import impossible, is_rate
from tests.streams.courses import CAMPAIGNS, Publication, course
from tests.streams.folding import CODEC
from tests.streams.test_windows import Merger

BEGIN, END = 1_780_000_000, 1_850_000_000
"""Around everything that a course holds, seconds since 1970."""
SETS = 30
"""Courses stored side by side, each with campaigns and mailbox providers of its own, so that no
view adds up two of them: most of the time goes into the queries."""
ARGUMENTS: dict[str, list[str]] = {
    "campaign": ["'a0'", "'a1'", "'a2'"],
    "from": [f"toDateTime({BEGIN}, 'UTC')"],
    "to": [f"toDateTime({END}, 'UTC')"],
    "step": ["3600", "86400"],
    "zone": ["'America/New_York'"],
    "ids": ["[]"],
    "a": ["'a0'"],
    "b": ["'a1'"],
}
"""Values for the parameters of views, by name."""
TABLES = ("campaign_minutes", "campaign_rates", "campaign_rates_history")
PAGES = {
    "overview": ("campaigns",),
    "campaign": ("funnel", "timeline", "mailboxes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    yield from embedded(tmp_path_factory.mktemp("laws"))


@pytest.fixture(scope="module")
def calls(warehouse: Warehouse) -> list[str]:
    """Every view with a rate, once for each combination of its parameters."""
    return [call for call in every_view(warehouse) if any(map(is_rate, columns(warehouse, call)))]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    phases=set(Phase) - {Phase.shrink},
)  # fmt: skip
@given(st.integers(0, 2**64 - 1))
def test_no_view_and_no_page_shows_an_impossible_figure(
    warehouse: Warehouse, calls: list[str], seed: int
) -> None:
    """With everything stored that was published, or not yet the newest of it."""
    for table in TABLES:
        warehouse.client.command(f"TRUNCATE TABLE {table}")
    dice = random.Random(seed)
    sent: list[Sent] = []
    for number in range(SETS):
        published = course(dice)
        publish(published[: len(published) - dice.randint(0, 2)], number, sent)
    assert warehouse.load(sent) == []
    [[campaigns]] = warehouse.rows("SELECT uniqExact(campaign_id) FROM campaign_summary")
    assert campaigns >= SETS  # each is judged by itself
    for call in calls:
        for row in warehouse.client.query(f"SELECT * FROM {call}").named_results():
            assert impossible(row) == {}, call
    for name, value in stored_rates(warehouse):
        assert impossible({name: value}) == {}
    for figures in asyncio.run(shown(warehouse)):
        assert impossible(figures) == {}


def test_the_law_reaches_every_view_with_counts(warehouse: Warehouse, calls: list[str]) -> None:
    """Each rate of the glossary is a column of each view that gives rates, and is judged."""
    assert {call.partition("(")[0] for call in calls} >= {
        "campaign_summary", "campaign_timeline", "mailbox_providers", "deliverability_daily",
        "campaign_rates_now",
    }  # fmt: skip
    for call in calls:
        # incidents are of one rate each, which a column names; the others are of engagement only
        if not call.startswith(("incident", "compare(", "recipient_frequency")):
            assert set(columns(warehouse, call)) >= {rate.name for rate in RATES}, call


def columns(warehouse: Warehouse, call: str) -> list[str]:
    """Names of a view's columns."""
    return [str(name) for name in warehouse.client.query(f"SELECT * FROM {call}").column_names]


def publish(publications: list[Publication], number: int, sent: list[Sent]) -> None:
    """Adds the partials of a course, and the rates that follow from them, as workers send them."""
    merger = Merger(publications[0].minute if publications else BEGIN // 60)
    for publication in publications:
        merger.windows.advance(min(publication.minute, merger.windows.minute + 1))
        partials = [_named(partial, number) for partial in publication.partials]
        for (campaign, mailbox, minute, log_id, partition), offset, counts in partials:
            value = minute_counts.record(
                (campaign, mailbox, minute), list(counts), log_id, partition, offset
            )
            sent.append(_sent(topics.MINUTES, "campaign_minute", value, len(sent)))
        merger.windows.apply(partials)
        for campaign in CAMPAIGNS:
            value = encode_rates(
                merger.windows, _name(campaign, number),
                as_of_us=merger.windows.minute * 60_000_000 + len(sent),
                complete_through_us=0, revision=1,
            )  # fmt: skip
            sent.append(_sent(topics.RATES, "campaign_rates", value, len(sent)))


def _named(partial: Partial, number: int) -> Partial:
    """The same of a course's own campaign and mailbox provider."""
    key = partial.key
    mailbox = f"{key.mailbox}{number}" if key.mailbox else ""
    return partial._replace(key=key._replace(campaign=_name(key.campaign, number), mailbox=mailbox))


def _name(campaign: str, number: int) -> str:
    """The first course alone keeps what no campaign is known for."""
    return f"{campaign or 'none'}{number}" if campaign or number else ""


def _sent(topic: str, schema: str, value: bytes, offset: int) -> Sent:
    return Sent(topic, 0, offset, BEGIN * 1000, b"k", CODEC.prefix(schema) + value)


def every_view(warehouse: Warehouse) -> list[str]:
    """Every view, once for each combination of its parameters.

    Raises:
        KeyError: a view has a parameter without values in ``ARGUMENTS``.
    """
    out = []
    for view, names in warehouse.rows(
        "SELECT name, arrayDistinct(extractAll(create_table_query, '\\\\{(\\\\w+):'))"
        " FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
    ):
        for values in product(*(ARGUMENTS[name] for name in names)):
            given_ = ", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True))
            out.append(f"{view}({given_})" if names else str(view))
    return out


def stored_rates(warehouse: Warehouse) -> Iterator[tuple[str, float | None]]:
    """Rates and their bounds in the tables of published rates."""
    for table in TABLES[1:]:
        for bound in ("value", "low", "high"):
            yield from warehouse.rows(
                f"SELECT pair.1, pair.2 FROM {table} FINAL"
                f" ARRAY JOIN arrayZip(rates.name, rates.{bound}) AS pair"
            )


async def shown(warehouse: Warehouse) -> list[Mapping[str, Any]]:
    """The figures of the pages, from their tables: counts and rates by name."""

    async def query(sql: str, parameters: Mapping[str, Any], /) -> list[dict[str, Any]]:
        return list(warehouse.client.query(sql, parameters=dict(parameters)).named_results())

    async def nothing() -> dict[str, Any]:
        return {}

    documents = Documents(Asker(query), lambda: float(END), False, {}, nothing, lambda _: {})
    found: list[Mapping[str, Any]] = []
    for page, tables in PAGES.items():
        document = await documents.build(View(page, f"{BEGIN}-{END}", "a0"))
        for table in tables:
            rows = csv.DictReader(io.StringIO(csv_tables.csv_of(document, table)))
            found += [{name: _number(value) for name, value in row.items()} for row in rows]
    return found


def _number(cell: str) -> float | int | str | None:
    """What a cell of a CSV table holds; ``None`` if it is empty."""
    if not cell:
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
