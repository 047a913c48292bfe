"""Rows of the quiet topics, Avro files of the busy ones, and what lifts a suppression."""

import io
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from analytics.sink.avro_file import container, long_bytes
from analytics.sink.rows import clickhouse_type
from schemas import topics
from schemas.codec import AvroRecord, Codec
from schemas.glossary import RATES
from tests.analytics.scenario import History, Sent, histories
from tests.builders import raw_value, record
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse

NOW = 1_790_000_000_000_000
CODEC = Codec()


@given(histories())
def test_avro_file_holds_the_records_in_order(history: History) -> None:
    """fastavro reads the file back to what was put in, one block a record."""
    enriched = history.enriched
    values = [CODEC.encode("enriched_event", item) for item in enriched]
    file = io.BytesIO(container("enriched_event.v1", values))
    blocks: list[Any] = list(fastavro.block_reader(file))
    assert [block.num_records for block in blocks] == [1] * len(values)
    found = [item["event"]["event_id"] for block in blocks for item in block]
    assert found == [item["event"]["event_id"] for item in enriched]


@given(st.integers(0, 2**62))
def test_lengths_are_avros(number: int) -> None:
    """The same bytes as fastavro's, for every length."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert long_bytes(number) == out.getvalue()


def test_unknown_avro_type_is_an_error() -> None:
    """A schema with a type that was not foreseen fails at import, not in a table."""
    with pytest.raises(ValueError, match="no ClickHouse type"):
        clickhouse_type({"type": "fixed", "size": 4})


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    folder = tmp_path_factory.mktemp("rows")
    yield from embedded(folder)


def _sent(
    topic: str, schema: str, item: AvroRecord | None, offset: int = 0, key: bytes = b"k"
) -> Sent:
    value = None if item is None else CODEC.encode(schema, item)
    return Sent(topic, 0, offset, NOW // 1000 + offset, key, value)


def test_tombstone_lifts_a_suppression_and_a_new_one_holds_again(warehouse: Warehouse) -> None:
    """The last record of a key on the topic counts, in whatever order they are stored."""
    item = record("suppression", recipient="a@b.c", reason="hard_bounce", since=NOW, log_id="l")
    raised = _sent(topics.SUPPRESSIONS, "suppression", item, 0, b"a@b.c")
    lifted = _sent(topics.SUPPRESSIONS, "suppression", None, 1, b"a@b.c")
    again = _sent(topics.SUPPRESSIONS, "suppression", {**item, "reason": "complaint"}, 2, b"a@b.c")
    sql = "SELECT recipient, reason FROM suppressions FINAL"
    for records, expected in (
        ([lifted, raised], []),
        ([again, raised, lifted], [("a@b.c", "complaint")]),
    ):
        warehouse.client.command("TRUNCATE TABLE suppressions")
        for each in records:
            assert warehouse.load([each]) == []
        assert warehouse.rows(sql) == expected


def test_rates_are_kept_newest_and_by_minute(warehouse: Warehouse) -> None:
    """The newest record per window is found at once; its rates are columns, null included."""
    rates = [
        record_rate(rate.name, str(rate.basis), 1, 4) if index else
        record_rate(rate.name, str(rate.basis), 0, 0)
        for index, rate in enumerate(RATES)
    ]  # fmt: skip
    counts = {name: 7 for name in ("delivered", "opened")}
    window = {
        "window": "1h", "starts_at": NOW - 3_600_000_000, "ends_at": NOW, "settled": False,
        "counts": counts, "rates": rates,
    }  # fmt: skip
    items = [
        record(
            "campaign_rates",
            campaign_id="spring",
            as_of=NOW + second * 1_000_000,
            complete_through=NOW,
            revision=second,
            windows=[window],
        )
        for second in (0, 90, 91)
    ]
    sent = [_sent(topics.RATES, "campaign_rates", item, at) for at, item in enumerate(items)]
    for each in [*reversed(sent), sent[0]]:
        assert warehouse.load([each]) == []
    first, second = RATES[0].name, RATES[1].name
    sql = f"SELECT window, delivered, {first}, {second} FROM campaign_rates_now"
    assert warehouse.rows(sql) == [("1h", 7, None, 0.25)]
    assert warehouse.rows("SELECT revision FROM campaign_rates_history FINAL ORDER BY 1") == [
        (0,),
        (91,),
    ]


def record_rate(name: str, basis: str, numerator: int, denominator: int) -> AvroRecord:
    """A rate without bounds."""
    return {
        "name": name,
        "basis": basis,
        "numerator": numerator,
        "denominator": denominator,
        "value": numerator / denominator if denominator else None,
        "low": None,
        "high": None,
    }


def test_incidents_campaigns_and_dead_letters_are_stored_once(warehouse: Warehouse) -> None:
    """Written twice, each is one row; a dead letter's bytes are counted and not kept."""
    alert = record(
        "alert", incident_id="ab" * 16, campaign_id="spring", rate="bounce_rate", as_of=NOW
    )
    campaign = {**record("campaign", campaign_id="spring", updated_at=NOW), "name": "Frühling"}
    letter = record(
        "dead_letter", dead_letter_id="cd" * 16, stage="ingest", reason="not_json",
        occurred_at=NOW, content=b"12345",
    )  # fmt: skip
    sent = [
        _sent(topics.ALERTS, "alert", alert),
        _sent(topics.CAMPAIGNS, "campaign", campaign),
        _sent(topics.DEAD_LETTERS, "dead_letter", letter),
    ]
    assert warehouse.load(sent) == []
    assert warehouse.load(sent) == []
    assert warehouse.rows("SELECT rate FROM incidents") == [("bounce_rate",)]
    assert warehouse.rows("SELECT name FROM campaigns FINAL") == [("Frühling",)]
    assert warehouse.rows("SELECT reason, content_bytes, offset FROM dead_letters FINAL") == [
        ("not_json", 5, -1)
    ]


def test_last_writer_of_campaign_facts_wins_and_that_is_told(warehouse: Warehouse) -> None:
    """Two accounts in one batch, an older one later, the same again: reported, reported, not
    reported."""

    def facts(name: str, at: int) -> Sent:
        wrote = {**record("campaign", campaign_id="told", updated_at=NOW + at), "name": name}
        return _sent(topics.CAMPAIGNS, "campaign", wrote)

    with capture_logs() as logs:
        assert warehouse.load([facts("one", 0), facts("two", 2_000)]) == []
        assert warehouse.load([facts("two", 2_000)]) == []
        assert warehouse.load([facts("three", 1_000)]) == []
    held = warehouse.rows("SELECT name FROM campaigns FINAL WHERE campaign_id = 'told'")
    assert held == [("two",)]
    assert [(line["event"], line["campaign"], line["facts"]) for line in logs] == [
        ("campaign facts replaced", "told", ("name",)),
        ("older campaign facts ignored", "told", ("name",)),
    ]


@pytest.mark.parametrize(
    ("topic", "content", "event"),
    [
        (topics.RAW, raw_value(event_id="ab" * 16), "ab" * 16),
        (topics.RAW, raw_value(event_id="ab" * 16)[:40], "ab" * 16),
        (topics.RAW, raw_value(event_id="no hexadecimal number"), "0" * 32),
        (topics.RAW, b"\0\0\0\0", "0" * 32),
        (topics.RAW, b"", "0" * 32),
        (topics.RAW, b"\0\0\0\0\1" + b"\xff" * 1_000_000, "0" * 32),
        (topics.MINUTES, raw_value(event_id="ab" * 16), "0" * 32),
        (None, b"12345", "0" * 32),
    ],
)
def test_a_dead_letter_names_its_event(
    warehouse: Warehouse, topic: str | None, content: bytes, event: str
) -> None:
    """Where the record is one of an event and begins with an id, however broken the rest is."""
    letter = record(
        "dead_letter", dead_letter_id="ef" * 16, stage="enrich", reason="odd", occurred_at=NOW,
        topic=topic, content=content,
    )  # fmt: skip
    warehouse.client.command("TRUNCATE TABLE dead_letters")
    assert warehouse.load([_sent(topics.DEAD_LETTERS, "dead_letter", letter)]) == []
    [[found]] = warehouse.rows("SELECT event_id FROM dead_letters FINAL")
    assert found.hex == event
