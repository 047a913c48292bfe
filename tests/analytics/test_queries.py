"""The queries on the analysts' page run as written, as an analyst, on real rows."""

from collections.abc import Iterator
from importlib.resources import files

import pytest

from schemas import topics
from streams.cli.clickhouse import ask
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import Load
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse

QUERIES = sorted(
    (
        file
        for file in files("analytics").joinpath("queries").iterdir()
        if file.name.endswith(".sql")
    ),
    key=lambda file: file.name,
)
BEGIN = 1_790_000_000 // 86_400 * 86_400


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A small month of mail."""
    with migrated_warehouse(tmp_path_factory.mktemp("queries")) as (opened, client):
        each = Warehouse(opened.reader_settings, client)
        load = Load(3_000, 3, BEGIN)
        values = [value for _, value in load]
        each.load([Sent(topics.ENRICHED, 0, at, 0, b"", v) for at, v in enumerate(values)])
        minutes = list(load.minute_values())
        each.load([Sent(topics.MINUTES, 0, at, 0, b"", v) for at, v in enumerate(minutes)])
        yield each


def test_there_are_ten_questions_each_saying_what_it_asks() -> None:
    """Each file starts with its question in one comment line."""
    assert len(QUERIES) == 10
    for file in QUERIES:
        first, *rest = file.read_text(encoding="utf-8").splitlines()
        assert first.startswith("-- ")
        assert "?" in first
        assert rest


@pytest.mark.parametrize("name", [file.name for file in QUERIES])
def test_question_is_answered(warehouse: Warehouse, name: str) -> None:
    """It passes the judge and runs read-only within the door's limits; most find rows."""
    sql = files("analytics").joinpath("queries", name).read_text(encoding="utf-8")
    answer = b"".join(ask(warehouse.settings, sql, "TSV").pieces)
    # the made-up month holds no deliveries timed by seconds, and its figures agree
    if not name.startswith(("03", "08", "10")):
        assert answer, name


def test_minutes_and_events_agree_on_the_made_up_month(warehouse: Warehouse) -> None:
    """The recount of single events finds no difference, on data where there is something."""
    sql = files("analytics").joinpath("queries", QUERIES[9].name).read_text(encoding="utf-8")
    assert warehouse.rows("SELECT sum(delivered) > 1000 FROM campaign_summary") == [(True,)]
    assert warehouse.rows(sql) == []
    warehouse.client.command(
        "INSERT INTO campaign_minutes (campaign_id, minute, log_id, offset, events, delivered)"
        " VALUES ('campaign-0000', now(), 'other', 1, 1, 1)"
    )
    assert [row[0] for row in warehouse.rows(sql)] == ["campaign-0000"]
