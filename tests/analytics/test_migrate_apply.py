"""Applying migrations: crashes and settings. Each test has a directory of its own."""

import time
from pathlib import Path

from clickhouse_connect.driver.client import Client

from analytics import migrate
from analytics.client import connect
from analytics.migrate import load
from analytics.sql import statements
from schemas import topics
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import Load
from tests.contracts.warehouse import Warehouse
from tests.warehouses import migrated_warehouse, open_warehouse


def test_crash_in_the_middle_is_mended_by_applying_again(tmp_path: Path) -> None:
    """Half of the statements were run and nothing was recorded; apply completes."""
    with open_warehouse(tmp_path) as warehouse:
        client = connect(warehouse.settings)
        for migration in load()[:5]:
            for statement in statements(migration.text):
                client.command(statement)
        assert len(migrate.apply(client, warehouse.settings)) == len(load())
        client.close()


def until_left(client: Client, table: str, rows: int) -> None:
    """Waits for the mutations that remove what has expired."""
    counted = f"SELECT count() FROM {table}"
    while client.command(counted) != rows:
        client.command(f"OPTIMIZE TABLE {table} FINAL")
        time.sleep(0.2)


def test_life_time_follows_the_setting(tmp_path: Path) -> None:
    """Changing it changes the table at the next start, without a migration: also for what is
    stored. Minute counts are kept for ever unless it is set."""
    with migrated_warehouse(tmp_path) as (warehouse, client):
        client.command(
            "INSERT INTO campaign_minutes (campaign_id, minute, log_id, offset, events)"
            " SELECT 'c', now() - toIntervalDay(number * 50), 'log', 1, 1 FROM numbers(20)"
        )
        client.command(
            "INSERT INTO events (campaign_id, event_id, event_time)"
            " SELECT 'c', generateUUIDv4(), now() - toIntervalDay(number * 50) FROM numbers(5)"
        )
        assert "TTL" not in str(client.command("SHOW CREATE TABLE campaign_minutes"))
        for days, minutes, left in ((90, 400, 2), (31, 700, 1), (396, 0, 1)):
            update = {"events_ttl_days": days, "minutes_ttl_days": minutes}
            migrate.apply(client, warehouse.settings.model_copy(update=update))
            assert f"toIntervalDay({days})" in str(client.command("SHOW CREATE TABLE events"))
            stands = str(client.command("SHOW CREATE TABLE campaign_minutes"))
            assert (f"toIntervalDay({minutes})" in stands) == bool(minutes)
            assert ("TTL minute" in stands) == bool(minutes)
            until_left(client, "events", left)
            until_left(client, "campaign_minutes", 8)


def test_an_older_release_works_on_in_a_newer_ones_database(tmp_path: Path) -> None:
    """As after a roll-back: rows are stored as before, what is new gets its default."""
    with migrated_warehouse(tmp_path) as (opened, client):
        client.command("ALTER TABLE events ADD COLUMN later UInt8 DEFAULT 7")
        client.command("CREATE TABLE newer_things (a UInt8) ENGINE = MergeTree ORDER BY a")
        client.command(
            "INSERT INTO schema_migrations (number, name, checksum)"
            f" VALUES ({len(load()) + 1}, 'later', 'x')"
        )
        assert migrate.plan(client) == migrate.apply(client, opened.settings) == []
        warehouse = Warehouse(opened.reader_settings, client)
        values = [value for _, value in Load(50, 1, 1_790_000_000 // 86_400 * 86_400)]
        warehouse.load([Sent(topics.ENRICHED, 0, at, 0, b"", v) for at, v in enumerate(values)])
        assert warehouse.rows("SELECT count(), sum(later) FROM events") == [(50, 350)]


def test_analysts_can_ask_what_is_to_apply(tmp_path: Path) -> None:
    """They may not read the list of migrations itself; beside `up`, commands have their rights."""
    with migrated_warehouse(tmp_path) as (warehouse, client):
        reader = connect(warehouse.reader_settings)
        assert migrate.plan(reader) == migrate.apply(reader, warehouse.reader_settings) == []
        client.command("ALTER TABLE schema_migrations DELETE WHERE number > 20")
        assert [step.number for step in migrate.plan(reader)] == [
            step.number for step in load() if step.number > 20
        ]
        reader.close()
