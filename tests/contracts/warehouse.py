"""What migrations, loading and views promise, whatever stands behind the DSN.

``tests/contracts/test_warehouse.py`` runs this through the embedded engine, through HTTP, and on
a server where one is named.
"""

from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import migrate
from analytics.loading import Loader
from schemas import topics
from schemas.codec import Codec, Record
from schemas.glossary import COUNTER_NAMES, DERIVED, RATES
from schemas.settings import Settings
from tests.analytics.scenario import (
    KINDS,
    MINUTE_0,
    History,
    Sent,
    final_counts,
    final_events,
    first_revision,
    histories,
    tally,
)
from tests.builders import record

FIGURES = (*COUNTER_NAMES, *DERIVED, *(rate.name for rate in RATES))
CUTS_MAX = 5


class Warehouse:
    """A migrated database.

    Attributes:
        settings: that reach it.
        client: one client of it.
    """

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._loaders: dict[str, Loader] = {}

    def load(self, records: list[Sent]) -> list[str]:
        """Loads records of any topics, in the order given; returns reasons of rejects."""
        reasons: list[str] = []
        for topic in dict.fromkeys(each.topic for each in records):
            if topic not in self._loaders:
                self._loaders[topic] = Loader(self.client, Codec(), topic)
            batch = [each for each in records if each.topic == topic]
            reasons += [reject.reason for reject in self._loaders[topic].load(batch)]
        return reasons

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return [tuple(row) for row in self.client.query(sql).result_rows]

    def empty(self) -> None:
        """Takes every row away."""
        for table in ("events", "campaign_minutes"):
            self.client.command(f"TRUNCATE TABLE {table}")


class WarehouseContract:
    """Subclasses give the fixture ``warehouse``."""

    def test_applying_migrations_again_changes_nothing(self, warehouse: Warehouse) -> None:
        """A second process that starts finds everything done."""
        assert migrate.plan(warehouse.client) == []
        assert migrate.apply(warehouse.client, warehouse.settings) == []

    def test_summary_answers_the_readme_query_on_an_empty_database(
        self, warehouse: Warehouse
    ) -> None:
        """The first query of the README works before any event came."""
        warehouse.empty()
        query = "SELECT campaign_id, bounce_rate, click_rate FROM campaign_summary"
        assert warehouse.rows(query) == []

    @given(history=histories(), data=st.data())
    @settings(
        max_examples=15,
        # each subclass runs the same property on its own warehouse, which starts empty each time
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )
    def test_views_equal_a_recount_whatever_the_order_cut_and_repetition(
        self, warehouse: Warehouse, history: History, data: st.DataObject
    ) -> None:
        """Records twice, shuffled, cut into any batches: every view gives the recount's figures."""
        warehouse.empty()
        sent = history.sent()
        order = data.draw(st.permutations(sent + sent), label="order")
        cuts = sorted(
            data.draw(st.lists(st.integers(0, len(order)), max_size=CUTS_MAX), label="cuts")
        )
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            if order[start:end]:
                assert warehouse.load(list(order[start:end])) == []
        _check_events(warehouse, history)
        _check_event_views(warehouse, history)
        _check_counts(warehouse, history)

    def test_moved_event_leaves_nothing_under_its_old_campaign(self, warehouse: Warehouse) -> None:
        """The tombstone hides the old row even when it is stored before the old row is."""
        warehouse.empty()
        first, second = _moved_event()
        for records in ([first, second], [second, first]):
            warehouse.empty()
            for each in records:
                warehouse.load([each])
            assert warehouse.rows("SELECT campaign_id FROM email_events") == [("autumn",)]

    def test_bad_records_go_out_and_their_neighbours_go_in(self, warehouse: Warehouse) -> None:
        """Framing, schema, Avro and values: each gets its reason, and the good ones are stored."""
        warehouse.empty()
        first, _ = _moved_event()
        assert first.value is not None
        codec = Codec()
        minute = codec.encode("campaign_minute", _zero_minute())
        broken_id = codec.decode(first.value, "enriched_event")
        broken_id["event"]["event_id"] = "not a hexadecimal number"
        bad = [
            b"",
            b"text",
            b"\x00\x00\x00\x03\xe7" + b"x",
            minute,
            first.value[:60],
            codec.encode("enriched_event", broken_id),
        ]
        values = [first.value, *bad]
        records = [
            Sent(topics.ENRICHED, 0, offset, MINUTE_0 * 1000, None, value)
            for offset, value in enumerate(values)
        ]
        reasons = warehouse.load(records)
        assert sorted(reasons) == [
            "bad_framing",
            "bad_framing",
            "broken_avro",
            "refused_by_clickhouse",
            "unknown_schema_id",
            "wrong_schema",
        ]
        assert warehouse.rows("SELECT count() FROM email_events") == [(1,)]

    def test_columns_hold_what_the_record_holds(self, warehouse: Warehouse) -> None:
        """Every field of an event arrives in its column, unchanged."""
        warehouse.empty()
        base = first_revision(1, 1, KINDS[5], 5, "gmail", "https://example.com/a?b=ä")
        base["event"].update(_RICH_EVENT)
        base["enrichment"].update(_RICH_ENRICHMENT)
        assert warehouse.load(History([base]).sent()) == []
        row = warehouse.client.query("SELECT * FROM events").first_item
        assert row is not None
        stored = Codec().decode(History([base]).sent()[0].value or b"", "enriched_event")
        for name, value in {**stored["event"], **stored["enrichment"]}.items():
            if name in row and name not in _CONVERTED:
                assert row[name] == ("" if value is None else value), name
        assert row["event_id"].hex == stored["event"]["event_id"]
        assert row["message_key"].hex == stored["enrichment"]["message_key"]
        assert row["version"] == stored["enrichment"]["version"]
        assert row["event_time"].timestamp() * 1e6 == stored["enrichment"]["event_time"]


_CONVERTED = {"event_id", "message_key", "version", "event_time", "occurred_at", "received_at"}
_RICH_EVENT = {
    "message_id": "<ä>", "recipient": "ada@example.com", "recipient_domain": "example.com",
    "recipient_certain": False, "smtp_code": 250, "enhanced_status": "2.0.0",
    "diagnostic": "it's\nfine", "machine_kind": "human", "user_agent": "Mozilla/5.0", "ip": "::1",
    "native_type": "click", "dedupe_quality": "composite", "rfc_message_id": "a@b",
    "tags": ["a", "b"], "metadata": {"k": "v", "": ""}, "time_suspect": True,
    "bounce_class": "soft", "bounce_reason": "other", "campaign_id": "own",
    "campaign_source": "tag",
}  # fmt: skip
# where both have a field, the enrichment's is stored, and it comes last in the comparison
_RICH_ENRICHMENT = {
    "campaign_id": "spring", "campaign_source": "learned", "bounce_class": "hard",
    "bounce_reason": "no_mailbox", "actor": "human", "actor_reason": "said so",
    "rules_version": 3, "seconds_since_delivery": 1.5, "device": "phone", "os": "iOS",
    "client": "Mail", "country": "DE", "partition": 3, "offset": 70_000_000_000,
    "version": 70_000_000_001, "revision": 0,
}  # fmt: skip


def _zero_minute() -> Record:
    return record("campaign_minute", minute=MINUTE_0 * 1000, log_id="log-a")


def _moved_event() -> tuple[Sent, Sent]:
    base = first_revision(1, 1, KINDS[0], 5, "gmail", "")
    first = {**base["enrichment"], "campaign_id": "spring", "version": 7}
    second = {
        **base["enrichment"],
        "campaign_id": "autumn",
        "previous_campaign_id": "spring",
        "version": 9,
        "revision": 1,
    }
    history = History([{"event": base["event"], "enrichment": each} for each in (first, second)])
    one, two = history.sent()
    return one, two


def _check_events(warehouse: Warehouse, history: History) -> None:
    expected = sorted(
        (
            identity,
            item["enrichment"]["campaign_id"] or "",
            item["enrichment"]["actor"],
            item["enrichment"]["revision"],
        )
        for identity, item in final_events(history).items()
    )
    found = warehouse.rows(
        "SELECT replaceAll(toString(event_id), '-', ''), campaign_id, actor, revision"
        " FROM email_events"
    )
    assert sorted(found) == expected


def _check_event_views(warehouse: Warehouse, history: History) -> None:
    last = list(final_events(history).values())

    def bounce(item: Record) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] != "bounced":
            return None
        return kind["campaign_id"] or "", kind["mailbox_provider"], kind["bounce_class"]

    def link(item: Record) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] != "clicked":
            return None
        return (
            kind["campaign_id"] or "",
            item["event"]["click_url"],
            kind["unsubscribe_link"],
            kind["actor"] == "human",
        )

    def act(item: Record) -> Any:
        kind = item["enrichment"]
        if item["event"]["event_type"] not in ("opened", "clicked"):
            return None
        return kind["campaign_id"] or "", item["event"]["event_type"], kind["actor"]

    found = warehouse.rows(
        "SELECT campaign_id, mailbox_provider, bounce_class, sum(events) FROM bounce_reasons"
        " GROUP BY ALL"
    )
    assert {row[:3]: row[3] for row in found} == tally(last, bounce)
    clicks = {}
    for campaign, url, unsubscribe, human, machine in warehouse.rows(
        "SELECT campaign_id, click_url, unsubscribe_link, clicks, machine_clicks FROM links"
    ):
        clicks[campaign, url, unsubscribe, True] = human
        clicks[campaign, url, unsubscribe, False] = machine
    assert {key: value for key, value in clicks.items() if value} == tally(last, link)
    found = warehouse.rows(
        "SELECT campaign_id, event_type, actor, sum(events) FROM machine_activity GROUP BY ALL"
    )
    assert {row[:3]: row[3] for row in found} == tally(last, act)


def _check_counts(warehouse: Warehouse, history: History) -> None:
    names = ", ".join(FIGURES)

    def compare(sql: str, keys: int, group: Callable[[Record], Any]) -> None:
        expected = {
            key: figures
            for key, figures in final_counts(history, group).items()
            if figures["events"]
        }
        found = {
            row[0] if keys == 1 else row[:keys]: dict(zip(FIGURES, row[keys:], strict=True))
            for row in warehouse.rows(sql)
        }
        assert set(found) == set(expected)
        for key, figures in expected.items():
            assert found[key] == pytest.approx(figures, nan_ok=False), key

    compare(
        f"SELECT campaign_id, {names} FROM campaign_summary", 1, lambda item: item["campaign_id"]
    )
    compare(
        f"SELECT campaign_id, mailbox_provider, {names} FROM mailbox_providers",
        2,
        lambda item: (item["campaign_id"], item["mailbox_provider"]),
    )
    compare(
        f"SELECT mailbox_provider, {names} FROM deliverability_daily",
        1,
        lambda item: item["mailbox_provider"],
    )
    spring = [item for item in history.minutes if item["campaign_id"] == "spring"]
    found = {
        row[0]: dict(zip(FIGURES, row[1:], strict=True))
        for row in warehouse.rows(
            f"SELECT toUnixTimestamp(bucket), {names} FROM campaign_timeline(campaign = 'spring',"
            " from = '2026-01-01 00:00:00', to = '2027-01-01 00:00:00', step = 60)"
        )
    }
    expected = final_counts(History(minutes=spring), lambda item: item["minute"] // 1000)
    assert set(found) == set(expected)
    for key, figures in expected.items():
        assert found[key] == pytest.approx(figures), key
