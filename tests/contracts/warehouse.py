"""What migrations, loading and views promise, for any ClickHouse.

``tests/contracts/test_warehouse.py`` runs this on the embedded engine and on a server if one is
named.
"""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import migrate
from analytics.sink.loading import Loader
from schemas import topics
from schemas.codec import AvroRecord, Codec
from schemas.settings import Settings
from tests.analytics.scenario import KINDS, MINUTE_0, History, Sent, first_revision, histories
from tests.builders import record
from tests.contracts.links import check_links, clicked, personal_links
from tests.contracts.views import check_views

CUTS_MAX = 5


class Warehouse:
    """A migrated database.

    Attributes:
        settings: to reach it.
        client: a client of it.
    """

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._loaders: dict[str, Loader] = {}

    def load(self, records: list[Sent]) -> list[str]:
        """Loads records of any topics, in the given order; returns the reasons of rejects."""
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
        """Deletes all rows."""
        for table in ("events", "campaign_minutes", "source_newest"):
            self.client.command(f"TRUNCATE TABLE {table}")


class WarehouseContract:
    """Subclasses provide the fixture ``warehouse``."""

    def test_applying_migrations_again_changes_nothing(self, warehouse: Warehouse) -> None:
        """A second process that starts finds nothing to do."""
        assert migrate.plan(warehouse.client) == []
        assert migrate.apply(warehouse.client, warehouse.settings) == []

    def test_summary_answers_the_readme_query_on_an_empty_database(
        self, warehouse: Warehouse
    ) -> None:
        """The first query on a page works before any event was stored."""
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
        """Records twice, shuffled, in any batches: every view gives the recount's figures."""
        warehouse.empty()
        sent = history.sent()
        order = data.draw(st.permutations(sent + sent), label="order")
        cuts = sorted(
            data.draw(st.lists(st.integers(0, len(order)), max_size=CUTS_MAX), label="cuts")
        )
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            if order[start:end]:
                assert warehouse.load(list(order[start:end])) == []
        check_views(warehouse.rows, history)

    def test_links_with_a_value_per_reader_are_one_row(self, warehouse: Warehouse) -> None:
        """One row per link of a mail, not one per reader; other parameters stay apart."""
        warehouse.empty()
        records = clicked(personal_links())
        assert warehouse.load(History(records).sent()) == []
        check_links(
            lambda sql, given: warehouse.client.query(sql, parameters=given).result_rows, records
        )
        rows = dict(warehouse.rows("SELECT click_url_group, messages FROM links"))
        assert rows["https://shop.example"] == rows["https://shop.example/nearly"] == 40
        assert rows["https://app.example#/cart"] == 40
        assert sum(link.startswith("https://shop.example/few?") for link in rows) == 19
        assert sum(link.startswith("https://shop.example/ids?") for link in rows) == 20
        assert sum(link.startswith("https://shop.example/product?sku=") for link in rows) == 5

    @given(
        links=st.lists(
            st.tuples(
                st.integers(0, 39),
                st.builds(
                    "https://shop.example/{}?{}={}&b={}".format,
                    st.sampled_from("xy"), st.sampled_from("ac"), st.integers(0, 60),
                    st.integers(0, 2),
                ),
                st.booleans(),
            ),
            min_size=40, max_size=160,
        )
    )  # fmt: skip
    @settings(
        max_examples=15,
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )
    def test_links_equal_a_recount(
        self, warehouse: Warehouse, links: list[tuple[int, str, bool]]
    ) -> None:
        """For any clicks, also where a parameter is close to the line."""
        warehouse.empty()
        records = clicked(links)
        assert warehouse.load(History(records).sent()) == []
        check_links(
            lambda sql, given: warehouse.client.query(sql, parameters=given).result_rows, records
        )

    def test_moved_event_leaves_nothing_under_its_old_campaign(self, warehouse: Warehouse) -> None:
        """The tombstone hides the old row even when it is stored before the old row is."""
        warehouse.empty()
        first, second = _moved_event()
        for records in ([first, second], [second, first]):
            warehouse.empty()
            for each in records:
                warehouse.load([each])
            assert warehouse.rows("SELECT campaign_id FROM email_events") == [("autumn",)]

    def test_event_of_another_message_leaves_nothing_under_its_old_key(
        self, warehouse: Warehouse
    ) -> None:
        """Nor if its campaign changes with it, and then the message alone once more."""
        first, _ = _moved_event()
        codec, keys = Codec(), [uuid4().hex for _ in range(3)]
        courses = (("spring", None), ("spring", None), ("spring", None)), (
            ("spring", None), ("autumn", "spring"), ("autumn", None)
        )  # fmt: skip
        for course in courses:
            records = []
            for number, (campaign, former) in enumerate(course):
                one = codec.decode(first.value or b"", "enriched_event")
                one["enrichment"] |= {
                    "campaign_id": campaign, "previous_campaign_id": former,
                    "message_key": keys[number], "version": 7 + number, "revision": number,
                    "previous_message_key": keys[number - 1] if number else None,
                }  # fmt: skip
                records.append(replace(first, value=codec.encode("enriched_event", one)))
            for some in (records, records[::-1]):
                warehouse.empty()
                for each in some:
                    warehouse.load([each])
                found = warehouse.rows("SELECT campaign_id, message_key FROM email_events")
                assert [(one, key.hex) for one, key in found] == [(course[-1][0], keys[2])]

    def test_bad_records_go_out_and_their_neighbours_go_in(self, warehouse: Warehouse) -> None:
        """Framing, schema, Avro and values: each gets its reason, and the valid ones are stored."""
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


def _zero_minute() -> AvroRecord:
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
