"""The looks at sources: over a real warehouse, and what is sent to Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from analytics.sink.asking import Asked
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import SOURCE_ALERTS, SOURCE_REQUESTS
from streams.books import watch
from streams.books.silence import Key, Record
from tests.analytics.scenario import Sent
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse

SLOT_S = 300
NOW_S = int(time.time()) // SLOT_S * SLOT_S
CODEC = Codec()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("books")) as (warehouse, client):
        yield Warehouse(warehouse.settings, client)


@pytest.fixture
def warehouse(opened: Warehouse) -> Warehouse:
    """Four weeks of two sources; of «news» nothing came in the last two hours, but for opens of
    «shop», which has no clicks since then."""
    client = opened.client
    for table in ("events", "source_slots", "source_incident_changes", "sink_progress",
                  "source_requests"):  # fmt: skip
        client.command(f"TRUNCATE TABLE {table}")
    weeks = 4 * 7 * 24 * 3600
    for source, kind, until_s in (
        ("news", "delivered", NOW_S - 7_200), ("shop", "opened", NOW_S),
        ("shop", "clicked", NOW_S - 7_200), ("young", "opened", NOW_S - 7_200),
    ):  # fmt: skip
        begin_s = until_s - (weeks if source != "young" else 86_400)
        client.command(
            "INSERT INTO events (source, event_type, event_id, message_key, event_time,"
            " received_at, received_by)"
            f" SELECT '{source}', '{kind}', generateUUIDv4(), generateUUIDv4(),"
            f" toDateTime64({begin_s} + number * {SLOT_S}, 3, 'UTC') AS at, at, 'hook'"
            f" FROM numbers({(until_s - begin_s) // SLOT_S + 1})"
        )
    _complete(client, NOW_S)
    return opened


def _complete(client: Client, through_s: int) -> None:
    client.command(
        "INSERT INTO sink_progress VALUES"
        f" ('email.events.enriched.v1', 0, toDateTime64({through_s}, 3, 'UTC'), now64(3))"
    )


def _ask(warehouse: Warehouse) -> watch.Ask:
    return Asked(lambda: warehouse.client)


def _store(warehouse: Warehouse, records: Sequence[Record]) -> None:
    sent = [
        Sent(SOURCE_ALERTS, 0, number, NOW_S * 1000, b"k", CODEC.encode("source_alert", record))
        for number, record in enumerate(records)
    ]
    assert warehouse.load(sent) == []


def test_silences_are_found_in_what_is_stored(warehouse: Warehouse) -> None:
    """A source, and an event type of another; one without a rhythm is left alone."""
    records, after, now_us = watch.Books(_ask(warehouse)).look(NOW_S + 5)
    assert now_us == NOW_S * 1_000_000
    found = {(one["source"], one["event_type"], one["level"]) for one in records}
    assert found == {("news", "", "critical"), ("shop", "clicked", "warning")}
    assert set(after) == {Key("news", ""), Key("shop", "clicked")}


def test_what_is_stored_is_not_told_again_by_anyone(warehouse: Warehouse) -> None:
    """Neither by this process nor by the next; and it is closed by the next event."""
    books = watch.Books(_ask(warehouse))
    records, after, _ = books.look(NOW_S)
    books.told(records, after, NOW_S)
    assert books.look(NOW_S + 60)[0] == []  # not stored yet
    _store(warehouse, records)
    _store(warehouse, records)
    assert watch.Books(_ask(warehouse)).look(NOW_S + 60)[0] == []
    rows = warehouse.rows("SELECT source, state FROM source_incidents ORDER BY source")
    assert rows == [("news", "opened"), ("shop", "opened")]
    warehouse.client.command(
        "INSERT INTO events (source, event_type, event_id, event_time, received_at, received_by)"
        f" SELECT 'news', 'opened', generateUUIDv4(), toDateTime64({NOW_S + 90}, 3, 'UTC') AS at,"
        " at, 'hook'"
    )
    _complete(warehouse.client, NOW_S + 120)
    [closed], _, _ = watch.Books(_ask(warehouse)).look(NOW_S + 120)
    assert (closed["source"], closed["state"]) == ("news", "closed")
    _store(warehouse, [closed])
    rows = warehouse.rows("SELECT state, resumed_at IS NULL, advice != '' FROM source_incidents"
                          " WHERE source = 'news'")  # fmt: skip
    assert rows == [("closed", False, True)]


def test_a_pipeline_that_is_behind_is_no_silence(warehouse: Warehouse) -> None:
    """What came since is not stored yet; without any news of progress nothing is judged."""
    _complete(warehouse.client, NOW_S - 7_100)
    assert watch.Books(_ask(warehouse)).look(NOW_S)[0] == []
    warehouse.client.command("TRUNCATE TABLE sink_progress")
    assert watch.Books(_ask(warehouse)).look(NOW_S)[0] == []


def test_what_was_read_from_a_providers_history_is_no_sign_of_life(warehouse: Warehouse) -> None:
    """A refill does not mean that the webhook works."""
    warehouse.client.command(
        "INSERT INTO events (source, event_type, event_id, event_time, received_at, received_by)"
        f" SELECT 'news', 'opened', generateUUIDv4(), toDateTime64({NOW_S}, 3, 'UTC') AS at, at,"
        " 'pull'"
    )
    records, _, _ = watch.Books(_ask(warehouse)).look(NOW_S)
    assert ("news", "") in {(one["source"], one["event_type"]) for one in records}


def _answered(warehouse: Warehouse, source: str, *results: tuple[str, int, int, int]) -> None:
    """``results``: result, requests, first and last time in seconds."""
    record = {
        "ingress": "0a" * 16, "sequence": 1, "source": source,
        "began_at": results[0][2] * 1_000_000, "ended_at": NOW_S * 1_000_000,
        "recipients": "plain",
        "results": [
            {"result": result, "reason": "bad_signature" if result == "unauthorized" else "",
             "requests": requests, "first_at": first * 1_000_000, "last_at": last * 1_000_000}
            for result, requests, first, last in results
        ],
    }  # fmt: skip
    value = CODEC.encode("source_requests", record)
    assert warehouse.load([Sent(SOURCE_REQUESTS, 0, 0, NOW_S * 1000, b"k", value)]) == []


def test_what_was_refused_is_told_with_the_silence(warehouse: Warehouse) -> None:
    """From the counts that ingress publishes to the stored incident, and back by another process;
    a source that never had an event is among them."""
    last = NOW_S - 7_200
    _answered(warehouse, "news", ("accepted", 9, last - 50, last),
              ("unauthorized", 312, last + 60, NOW_S))  # fmt: skip
    for number in range(8):
        at = NOW_S - 4_200 + number * 500
        _answered(warehouse, "new", ("unauthorized", 3, at, at + 400))
    _answered(warehouse, "", ("not_found", 9_000, last, NOW_S))
    records, after, _ = watch.Books(_ask(warehouse)).look(NOW_S)
    found = {(one["source"], one["event_type"]): one for one in records}
    assert set(found) == {("news", ""), ("shop", "clicked"), ("new", "")}
    news, new = found["news", ""], found["new", ""]
    assert (news["cause"], news["accepted_until"]) == ("refused", last * 1_000_000)
    assert (news["refused_since"], news["refused"]) == ((last + 60) * 1_000_000, 312)
    assert (new["cause"], new["accepted_until"], new["refused"]) == ("refused", None, 24)
    _store(warehouse, records)
    again = watch.Books(_ask(warehouse))
    assert again.look(NOW_S + 60)[0] == []
    assert again._held(NOW_S + 60) == after
    rows = warehouse.rows("SELECT source, cause, refused, refusal FROM source_incidents"
                          " WHERE event_type = '' ORDER BY source")  # fmt: skip
    refusal = "unauthorized/bad_signature"
    assert rows == [("new", "refused", 24, refusal), ("news", "refused", 312, refusal)]


def test_a_clock_that_runs_ahead_hides_no_silence(warehouse: Warehouse) -> None:
    """One event is stamped three hours ahead; when it was seen counts, and the next one's time."""
    warehouse.client.command("TRUNCATE TABLE source_slots")
    weeks = 4 * 7 * 24 * 3_600 // SLOT_S
    insert = (
        "INSERT INTO events (source, event_type, event_id, event_time, received_at, received_by)"
        " SELECT 'fast', 'opened', generateUUIDv4(), toDateTime64({}, 3, 'UTC') AS at, at, 'hook'"
        " FROM numbers({})"
    )
    warehouse.client.command(insert.format(f"{NOW_S} - number * {SLOT_S}", weeks))
    warehouse.client.command(insert.format(NOW_S + 10_800, 1))
    books = watch.Books(_ask(warehouse))
    told = []
    for minute in range(0, 400, 20):
        now_s = NOW_S + 60 * minute
        _complete(warehouse.client, now_s)
        records, after, _ = books.look(now_s)
        books.told(records, after, now_s)
        told += [(minute, one["state"]) for one in records if not one["event_type"]]
        _store(warehouse, records)
        assert books.ahead == ["fast"]
    [(minute, state)] = told
    assert state == "opened"
    assert 20 <= minute <= 40
    at = NOW_S + 60 * 400
    warehouse.client.command(insert.format(at, 1))
    _complete(warehouse.client, at)
    assert {one["state"] for one in books.look(at)[0]} == {"closed"}


def test_a_source_is_told_where_nothing_was_ever_stored(warehouse: Warehouse) -> None:
    """Nothing is behind in a pipeline that never had anything."""
    for table in ("events", "source_slots", "sink_progress"):
        warehouse.client.command(f"TRUNCATE TABLE {table}")
    for number in range(9):
        at = NOW_S - 5_000 + number * 500
        _answered(warehouse, "new", ("unauthorized", 3, at, at + 400))
    [record], _, _ = watch.Books(_ask(warehouse)).look(NOW_S)
    assert (record["source"], record["cause"]) == ("new", "refused")


class _Producer:
    """Records what is sent; refuses at first."""

    refusals = 0
    sent: list[tuple[str, bytes, bytes]] = []  # noqa: RUF012

    @classmethod
    @asynccontextmanager
    async def started(cls, _settings: Settings) -> AsyncIterator["_Producer"]:
        """Refuses as ``streams.kafka.clients.producer`` does while no broker answers."""
        if cls.refusals:
            cls.refusals -= 1
            raise Unavailable("nobody listens")
        yield cls()

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> None:
        """Takes it."""
        assert dict(headers)["ce_type"] == b"io.mailpulse.source_alert.v1"
        self.sent.append((topic, key, value))


@pytest.mark.parametrize("refusals", [0, 2])
def test_only_the_sink_that_is_to_look_tells_and_goes_on_after_a_failure(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """What could not be sent is told by the next look; what is silent is shown as a metric."""
    monkeypatch.setattr(watch, "producer", _Producer.started)
    monkeypatch.setattr(watch, "TICK_S", 0.01)
    monkeypatch.setattr(watch, "IDLE_S", 0.01)
    _Producer.refusals, _Producer.sent[:] = refusals, []
    turns = iter([False, False])
    shown: list[dict[str, float]] = []
    asked: list[str] = []
    ask = _ask(warehouse)

    def counted(sql: str, parameters: Any) -> Any:
        asked.append(sql)
        if len(asked) == 2:
            raise Unavailable("ClickHouse restarts")
        return ask(sql, parameters)

    def mine() -> bool:
        turn = next(turns, True)
        assert turn or not asked
        return turn

    async def main() -> None:
        looking = watch.Watch(Settings(), CODEC, lambda: NOW_S)
        task = asyncio.create_task(looking.run(counted, mine, lambda one: shown.append(dict(one))))
        while not any(shown):
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(main())
    told = [CODEC.decode(value, "source_alert") for _, _, value in _Producer.sent]
    assert [(one["source"], one["event_type"]) for one in told] == [
        ("news", ""),
        ("shop", "clicked"),
    ]
    assert {topic for topic, _, _ in _Producer.sent} == {SOURCE_ALERTS}
    assert [key for _, key, _ in _Producer.sent] == [b"news", b"shop"]
    assert shown[0] == {}
    assert next(filter(None, shown)) == {"news": 7200.0, "shop": 7200.0}
