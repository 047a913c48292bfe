"""The warehouse contract: on the embedded engine, and on a server if one is named.

No ClickHouse server comes with mailpulse: ``MAILPULSE_TEST_CLICKHOUSE_URL`` names one.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from schemas.settings import Settings
from tests.contracts.warehouse import Warehouse, WarehouseContract
from tests.warehouses import open_warehouse


def migrated(settings: Settings) -> Iterator[Warehouse]:
    """A migrated database behind ``settings``; its client is closed at the end."""
    client = connect(settings)
    try:
        migrate.apply(client, settings)
        yield Warehouse(settings, client)
    finally:
        client.close()


def embedded(folder: Path, **changed: Any) -> Iterator[Warehouse]:
    """A migrated database of an embedded engine, as its sink reaches it."""
    with open_warehouse(folder) as opened:
        yield from migrated(opened.settings.model_copy(update=changed))


class TestEmbedded(WarehouseContract):
    """The sink's listener of the role ``warehouse``."""

    @pytest.fixture(scope="class")
    def warehouse(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
        yield from embedded(tmp_path_factory.mktemp("warehouse"))


class TestEmbeddedCompressed(WarehouseContract):
    """The same with a client that compresses its requests."""

    @pytest.fixture(scope="class")
    def warehouse(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
        yield from embedded(tmp_path_factory.mktemp("warehouse"), clickhouse_compress=True)


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
