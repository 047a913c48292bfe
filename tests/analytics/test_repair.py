"""Damaged parts are removed and their rows stored again, on the real engine; Kafka is in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given
from hypothesis import strategies as st

from analytics.damage import Part
from analytics.refill import TOPICS, begins_at, is_whole
from schemas.erasure import Erasures
from schemas.settings import Settings
from schemas.topics import ENRICHED, HISTORY
from streams.backup import topics as backup_topics
from streams.backup.manifest import Found
from streams.cli import repair
from streams.cli.backup import Stores
from streams.erasure import topic as erasure_topic
from streams.kafka import reader as kafka_reader
from tests.analytics.scenario import Sent
from tests.analytics.test_damage import EVENTS, flip, load, months, part, stored, whole
from tests.warehouses import migrated_warehouse

__all__ = ["part", "whole"]  # fixtures


class Kafka:
    """Topics in memory, for what the command reads of them."""

    def __init__(self, patch: pytest.MonkeyPatch, records: Sequence[Sent], begin: int = 0) -> None:
        self.records = records
        found = {
            ENRICHED: Found("e", ((begin, begin + len(records)),)), HISTORY: Found("h", ((0, 0),)),
        }  # fmt: skip

        async def found_topics(_settings: Settings) -> dict[str, Found]:
            return found

        async def first_of(*_: Any) -> float:
            return 1_793_000_000.0  # in the month of the damaged part

        patch.setattr(backup_topics, "found_topics", found_topics)
        patch.setattr(repair, "_first_at", first_of)
        patch.setattr(kafka_reader, "reader", self._reader)
        patch.setattr(erasure_topic, "ErasureLog", NoErasures)

    @asynccontextmanager
    async def _reader(self, _settings: Settings, topic: str) -> AsyncIterator["Kafka"]:
        self._topic = topic
        yield self

    async def begin(self) -> None:
        """At the beginning of the topic."""

    async def batches(self) -> AsyncIterator[Sequence[Sent]]:
        """Its records."""
        if self._topic == ENRICHED:
            yield self.records


class NoErasures:
    """Nobody was forgotten."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.erasures = Erasures()

    async def __aenter__(self) -> "NoErasures":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fresh(self, _stale_s: float) -> None:
        """It is."""


def repaired(settings: Settings, patch: pytest.MonkeyPatch, *, yes: bool) -> int:
    """Runs the command on a warehouse; its exit code."""

    @asynccontextmanager
    async def here(*_: Any, **__: Any) -> AsyncIterator[Stores]:
        yield Stores(settings, None)

    patch.setattr(repair, "stores_of", here)
    return asyncio.run(repair._repair(settings, "", yes=yes, json=False))


DAMAGE = [flip, Path.unlink, lambda file: file.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGE, ids=["flipped", "gone", "empty"])
def test_rows_come_back_once_and_only_after_a_yes(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    """Though the sink's own inserts of them are remembered by ClickHouse."""
    damage(part / "data.bin")
    first, second = months()
    Kafka(monkeypatch, [*first, *second])
    with migrated_warehouse(tmp_path) as (warehouse, client):
        assert repaired(warehouse.settings, monkeypatch, yes=False) == 1
        assert list_parts(client) == 2 - (damage is not flip)
        assert repaired(warehouse.settings, monkeypatch, yes=True) == 0
        assert stored(client) == 2 * EVENTS
        assert repaired(warehouse.settings, monkeypatch, yes=True) == 0  # nothing is damaged now
        detached = "SELECT count() FROM system.detached_parts WHERE database = currentDatabase()"
        assert client.query(detached).result_rows == [(0,)]
        load(client, [*first, *second], "sink-3")
        assert stored(client) == 2 * EVENTS


def list_parts(client: Client) -> int:
    """Active parts of events."""
    sql = (
        "SELECT count() FROM system.parts"
        " WHERE active AND table = 'events' AND database = currentDatabase()"
    )
    return int(client.query(sql).result_rows[0][0])


def test_a_part_of_which_kafka_lacks_some_is_kept(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Kafka has is stored again, and the exit code says that it may not be all."""
    flip(part / "data.bin")
    _, second = months()
    Kafka(monkeypatch, second[EVENTS // 2 :], begin=EVENTS // 2)
    with migrated_warehouse(tmp_path) as (warehouse, client):
        assert repaired(warehouse.settings, monkeypatch, yes=True) == 1
        assert "perhaps not whole" in capsys.readouterr().out
        assert stored(client) == EVENTS + EVENTS - EVENTS // 2
        detached = "SELECT name FROM system.detached_parts WHERE database = currentDatabase()"
        assert client.query(detached).result_rows == [(part.name,)]


@pytest.mark.parametrize(
    ("name", "day"),
    [("202611_1_1_0", 20_758), ("broken-on-start_202611_1_1_0", 20_758),
     ("20261128_1_1_0", 20_785), ("all_1_1_0", None), ("999999_1_1_0", None)],
)  # fmt: skip
def test_when_the_time_of_a_part_begins(name: str, day: int | None) -> None:
    """By its partition, as ClickHouse names it."""
    wanted = None if day is None else day * 86_400
    assert begins_at(Part("mailpulse.events", name, "")) == wanted


@given(st.sampled_from(sorted(TOPICS)), st.floats(1, 2e9))
def test_nothing_is_promised_that_can_t_be_told(table: str, since: float) -> None:
    """Of a part without a time, only if Kafka has everything from the beginning, or the newest of
    each key."""
    part = Part(f"mailpulse.{table}", "all_1_1_0", "")
    every = dict.fromkeys((topic for topics in TOPICS.values() for topic in topics), since)
    newest = {"campaign_minutes", "campaign_rates", "campaigns", "suppressions",
              "scoped_suppressions"}  # fmt: skip
    assert is_whole(part, every) == (table in newest)
    assert is_whole(part, dict.fromkeys(every, 0.0)) == (table != "campaign_rates_history")
    assert not is_whole(Part("mailpulse.reconciled", "202611_1_1_0", ""), {})
