"""People are erased from the tables; what the sink stores of them later equals what was left."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from analytics.sink.eraser import Eraser
from analytics.sink.loading import Loader
from analytics.sink.redaction import ERASED_COLUMNS
from schemas import topics
from schemas.codec import Codec
from schemas.erasure import ERASED_HEADER, ERASED_KEY, Erasures, digest
from schemas.event import message_key
from schemas.scopes import scoped_key
from streams.cli import erased_again
from tests.analytics.scenario import Sent
from tests.builders import RECEIVED_AT, enrichment, event, record
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse

CODEC = Codec()
ADA, BOB = "ada@lovelace.example", "bob@gmail.com"
AT = RECEIVED_AT + 3_600_000_000
LINKS = (
    "https://s.example/a?b=1", "https://s.example/a?who=ada%2540lovelace.example&b=1#/x",
    "https://s.example/a?t=YWRhQGxvdmVsYWNlLmV4YW1wbGU&b=1", "https://s.example/a?b=abcdefghijk",
    "https://s.example/u/eyJlIjoiYWRhQGxvdmVsYWNlLmV4YW1wbGUifQ%3D%3D/p?b=1",
    "https://s.example/x@y.example/a", "mailto:ada@lovelace.example", "", "/plain",
)  # fmt: skip
TABLES = ("events", "suppressions", "scoped_suppressions")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    yield from embedded(tmp_path_factory.mktemp("eraser"))


@pytest.fixture(autouse=True)
def _empty(warehouse: Warehouse) -> None:
    for table in TABLES:
        warehouse.client.command(f"TRUNCATE TABLE {table}")


def mail(address: str, begin: int) -> list[Sent]:
    """Events of an address, one for each kind of link, at offsets from ``begin``."""
    out = []
    for number, link in enumerate(LINKS):
        offset = begin + number
        one = event(
            event_id=f"{offset:032x}", recipient=address.upper(), message_id=f"id-{offset}",
            event_type="clicked", click_url=link, ip="198.51.100.1", user_agent="Mozilla",
            metadata={"user": "1"}, diagnostic="said", rfc_message_id="r",
            tags=["a", "to:ada%40lovelace.example", "YWRhQGxvdmVsYWNlLmV4YW1wbGU"],
        )  # fmt: skip
        added = enrichment(
            message_key=f"{offset:032x}", event_time=RECEIVED_AT, offset=offset, version=offset,
            mailbox_provider=address.partition("@")[2].replace("gmail.com", "gmail"),
            click_url_group=link, campaign_id="spring",
        )  # fmt: skip
        value = CODEC.encode("enriched_event", {"event": one, "enrichment": added})
        out.append(Sent(topics.ENRICHED, 0, offset, RECEIVED_AT // 1000, message_key(one), value))
    return out


def suppressed(address: str, offset: int, scope: str = "", since: int = RECEIVED_AT) -> Sent:
    """A suppression as the worker tells it."""
    topic = topics.SCOPED_SUPPRESSIONS if scope else topics.SUPPRESSIONS
    item = record(
        "suppression", recipient=address, reason="complaint", since=since, log_id="log",
        scope=scope or None, source="news",
    )  # fmt: skip
    key = (scoped_key(address, "news", scope) if scope else address).encode()
    value = CODEC.encode("suppression", item)
    return Sent(topic, 0, offset, RECEIVED_AT // 1000, key, value)


def erasure(*names: str) -> Sent:
    """The order to erase these identities."""
    item = record(
        "erasure", erasure_id="e", at=AT, identities=list(names),
        digests=[digest(name).hex() for name in names],
    )  # fmt: skip
    return Sent(topics.ERASURES, 0, 0, AT // 1000, b"e", CODEC.encode("erasure", item))


def rows(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    """All rows of a table, versions that are replaced included."""
    found = warehouse.client.query(f"SELECT * FROM {table} ORDER BY ALL")
    return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


def erase(warehouse: Warehouse, *names: str) -> None:
    """Carries an erasure out."""
    assert Eraser(warehouse.client, CODEC, "").load([erasure(*names)]) == []


def test_a_person_is_gone_and_everything_else_is_as_before(warehouse: Warehouse) -> None:
    """Rows and their keys stay; the person's suppressions go; others lose nothing."""
    lists = [suppressed(one, number) for number, one in enumerate((ADA, BOB))]
    lists += [suppressed(one, number, "group:1") for number, one in enumerate((ADA, BOB))]
    assert warehouse.load([*mail(ADA, 0), *mail(BOB, 100), *mail(ADA, 0), *lists]) == []
    before = {table: rows(warehouse, table) for table in TABLES}
    erase(warehouse, ADA, "nobody's")
    after = {table: rows(warehouse, table) for table in TABLES}
    others = [row for row in after["events"] if row["recipient_identity"] != BOB]
    assert "lovelace" not in str([others, after["suppressions"], after["scoped_suppressions"]])
    assert len(after["events"]) == len(before["events"]) == 3 * len(LINKS)
    assert not [one for row in others for one in row["tags"] if one != "a"]
    bobs = [row for row in before["events"] if row["recipient_identity"] == BOB]
    assert [row for row in after["events"] if row["recipient_identity"] == BOB] == bobs
    kept = [name for name in before["events"][0] if name not in ERASED_COLUMNS]

    def shape(some: list[dict[str, Any]]) -> list[str]:
        return sorted(str([row[name] for name in kept]) for row in some)

    assert shape(after["events"]) == shape(before["events"])
    for table in TABLES[1:]:
        assert after[table] == [row for row in before[table] if row["recipient"] == BOB]
    erase(warehouse, ADA)
    assert {table: rows(warehouse, table) for table in TABLES} == after


KEPT = {
    "campaign_id", "message_key", "event_time", "event_id", "event_type", "occurred_at",
    "received_at", "time_suspect", "provider", "source", "received_by", "recipient_certain",
    "campaign_source", "bounce_class", "bounce_reason", "smtp_code", "enhanced_status",
    "suppression_scope", "actor", "actor_reason", "actor_certainty", "machine_kind",
    "rules_version", "first_of_kind", "first_human", "unsubscribe_link", "seconds_since_delivery",
    "device", "os", "client", "country", "native_type", "dedupe_quality", "log_id",
    "partition", "offset", "revision", "version", "is_deleted",
}  # fmt: skip
"""Columns of events that an erasure leaves: figures are made of them."""


def test_every_column_of_events_was_thought_of(warehouse: Warehouse) -> None:
    """A new column is kept only if it is listed: whoever adds one decides it here."""
    sql = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'events'"
    assert {name for (name,) in warehouse.rows(sql)} == KEPT | ERASED_COLUMNS.keys()


def test_what_is_stored_later_equals_what_an_erasure_leaves(warehouse: Warehouse) -> None:
    """Whether the record says whose it is, or the worker has redacted it already."""
    assert warehouse.load(mail(ADA, 0)) == []
    erase(warehouse, ADA)
    left = rows(warehouse, "events")
    erasures = Erasures()
    erasures.put("e", CODEC.decode(erasure(ADA).value or b"", "erasure"))
    redacted = [replace(one, key=ERASED_KEY) for one in mail(ADA, 0)]
    for records, obeyed, group in ((mail(ADA, 0), erasures, "1"), (redacted, Erasures(), "2")):
        warehouse.client.command("TRUNCATE TABLE events")
        loader = Loader(warehouse.client, CODEC, topics.ENRICHED, group, obeyed)
        assert loader.load(records) == []
        assert rows(warehouse, "events") == left


def test_suppressions_come_back_only_by_what_happened_later(warehouse: Warehouse) -> None:
    """Older evidence, lifts of before and an erasure's own tombstone are left out."""
    erasures = Erasures()
    erasures.put("e", CODEC.decode(erasure(ADA).value or b"", "erasure"))
    tombstone = Sent(
        topics.SUPPRESSIONS, 0, 2, AT // 1000 + 1, ADA.encode(), None, ((ERASED_HEADER, b"1"),)
    )
    lifted = Sent(topics.SUPPRESSIONS, 0, 1, RECEIVED_AT // 1000, ADA.encode(), None)
    sent = [suppressed(ADA, 0), lifted, tombstone, suppressed(BOB, 3)]
    loader = Loader(warehouse.client, CODEC, topics.SUPPRESSIONS, "", erasures)
    assert loader.load(sent) == []
    assert [row["recipient"] for row in rows(warehouse, "suppressions")] == [BOB]
    assert loader.load([suppressed(ADA, 4, since=AT)]) == []
    assert len(rows(warehouse, "suppressions")) == 2
    scoped = Loader(warehouse.client, CODEC, topics.SCOPED_SUPPRESSIONS, "", erasures)
    assert scoped.load([suppressed(ADA, 0, "group:1")]) == []
    assert rows(warehouse, "scoped_suppressions") == []


def test_an_order_that_is_read_again_leaves_what_happened_later(warehouse: Warehouse) -> None:
    """As by a sink of a new group: mail of after the erasure, and what it suppressed or lifted."""
    later = replace(mail(ADA, 0)[0], offset=50)
    whole = CODEC.decode(later.value or b"", "enriched_event")
    times = {"occurred_at": AT, "received_at": AT, "event_id": "ab" * 16}
    value = CODEC.encode("enriched_event", {**whole, "event": {**whole["event"], **times}})
    lifted = Sent(topics.SUPPRESSIONS, 0, 9, AT // 1000, ADA.encode(), None)
    new = [replace(later, value=value), suppressed(ADA, 8, since=AT), lifted]
    assert warehouse.load([*mail(ADA, 0), suppressed(ADA, 0), *new]) == []
    for _ in range(2):
        erase(warehouse, ADA)
        found = warehouse.rows("SELECT occurred_at = received_at FROM events WHERE recipient != ''")
        assert found == [(True,)]
        assert len(rows(warehouse, "suppressions")) == 2
        assert warehouse.rows("SELECT recipient FROM suppressions FINAL") == []


def test_orders_that_a_server_keeps_hold_no_address(warehouse: Warehouse) -> None:
    """Mutations stay in a system table for a long time."""
    assert warehouse.load([*mail(ADA, 0), suppressed(ADA, 0)]) == []
    erase(warehouse, ADA)
    orders = str(warehouse.rows("SELECT command FROM system.mutations"))
    assert sha256(ADA.encode()).hexdigest() in orders
    assert "lovelace" not in orders


def test_an_unreadable_erasure_is_a_reject_and_stops_no_other(warehouse: Warehouse) -> None:
    """It can't be carried out; those beside it are."""
    assert warehouse.load(mail(ADA, 0)) == []
    broken = Sent(topics.ERASURES, 0, 1, 0, b"x", b"\0\0")
    rejects = Eraser(warehouse.client, CODEC, "").load([broken, erasure(ADA)])
    assert [one.record for one in rejects] == [broken]
    assert "lovelace" not in str(rows(warehouse, "events"))


def test_a_restored_person_is_erased_by_what_an_erasure_leaves(warehouse: Warehouse) -> None:
    """Digests alone: the same rows as by the order that had the name."""
    everything = [*mail(ADA, 0), *mail(BOB, 100), suppressed(ADA, 1), suppressed(BOB, 2, "g:1")]
    assert warehouse.load(everything) == []
    erase(warehouse, ADA)
    by_name = {table: rows(warehouse, table) for table in TABLES}
    for table in TABLES:
        warehouse.client.command(f"TRUNCATE TABLE {table}")
    assert warehouse.load(everything) == []
    order = CODEC.decode(erasure(ADA, "nobody's").value or b"", "erasure")
    erasures = Erasures()
    erasures.put("e", {**order, "identities": []})
    assert erased_again._erase(warehouse.settings, erasures) == 1
    assert {table: rows(warehouse, table) for table in TABLES} == by_name
