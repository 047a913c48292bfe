"""Applying migrations: crashes and settings. Each test has a directory of its own."""

from pathlib import Path

from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from analytics.migrate import load
from analytics.sql import statements
from schemas.settings import Settings


def test_crash_in_the_middle_is_mended_by_applying_again(tmp_path: Path) -> None:
    """With half of the statements done and nothing written down, apply goes through."""
    settings = Settings(clickhouse_dsn=SecretStr(f"chdb://{tmp_path}/ch"))
    client = connect(settings)
    try:
        for migration in load()[:5]:
            for statement in statements(migration.text):
                client.command(statement)
        assert len(migrate.apply(client, settings)) == len(load())
    finally:
        client.close()


def test_life_time_follows_the_setting(tmp_path: Path) -> None:
    """Changing events_ttl_days changes the table at the next start, without a migration."""
    dsn = SecretStr(f"chdb://{tmp_path}/ch")
    settings = Settings(clickhouse_dsn=dsn, events_ttl_days=31)
    client = connect(settings)
    try:
        migrate.apply(client, settings)
        assert "toIntervalDay(31)" in str(client.command("SHOW CREATE TABLE events"))
        migrate.apply(client, Settings(clickhouse_dsn=dsn, events_ttl_days=90))
        assert "toIntervalDay(90)" in str(client.command("SHOW CREATE TABLE events"))
    finally:
        client.close()
