"""The warehouse contract: on the embedded engine, over HTTP, and on a server where one is named.

No ClickHouse server comes with mailpulse, so over HTTP clickhouse-connect talks to the door in its
writable mode, which only tests open; ``MAILPULSE_TEST_CLICKHOUSE_URL`` names a real server.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from schemas.settings import Settings
from tests.analytics.doors import open_door
from tests.contracts.warehouse import Warehouse, WarehouseContract


def migrated(settings: Settings) -> Iterator[Warehouse]:
    """A migrated database behind ``settings``; its client is closed at the end."""
    client = connect(settings)
    try:
        migrate.apply(client, settings)
        yield Warehouse(settings, client)
    finally:
        client.close()


class TestEmbedded(WarehouseContract):
    """clickhouse-connect's chdb backend."""

    @pytest.fixture(scope="class")
    def warehouse(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
        folder = tmp_path_factory.mktemp("chdb")
        yield from migrated(Settings(clickhouse_dsn=SecretStr(f"chdb://{folder}/ch")))


class TestHttp(WarehouseContract):
    """clickhouse-connect's HTTP client, answered by the door in its writable mode."""

    @pytest.fixture(scope="class")
    def warehouse(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
        folder: Path = tmp_path_factory.mktemp("http")
        with open_door(folder, writable=True) as door:
            yield from migrated(
                Settings(
                    clickhouse_dsn=SecretStr(f"{door.url}/mailpulse"),
                    clickhouse_manage_access=False,  # chDB's only user may not make roles
                )
            )


class TestServer(WarehouseContract):
    """A real server, in a database of its own that is dropped afterwards."""

    @pytest.fixture(scope="class")
    def warehouse(self) -> Iterator[Warehouse]:
        url = os.environ.get("MAILPULSE_TEST_CLICKHOUSE_URL")
        if not url:
            pytest.skip("MAILPULSE_TEST_CLICKHOUSE_URL names no ClickHouse server")
        name = f"mailpulse_test_{uuid.uuid4().hex[:12]}"
        settings = Settings(clickhouse_dsn=SecretStr(f"{url.rstrip('/')}/{name}"))
        for warehouse in migrated(settings):
            yield warehouse
            warehouse.client.command(f"DROP DATABASE {name}")
