"""Applying migrations: crashes and settings. Each test has a directory of its own."""

from pathlib import Path

from analytics import migrate
from analytics.client import connect
from analytics.migrate import load
from analytics.sql import statements
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


def test_life_time_follows_the_setting(tmp_path: Path) -> None:
    """Changing events_ttl_days changes the table at the next start, without a migration."""
    with migrated_warehouse(tmp_path) as (warehouse, client):
        for days in (31, 90):
            migrate.apply(client, warehouse.settings.model_copy(update={"events_ttl_days": days}))
            assert f"toIntervalDay({days})" in str(client.command("SHOW CREATE TABLE events"))


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
