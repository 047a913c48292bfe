"""The warehouse's two listeners in a thread of this process, for tests with blocking clients.

``tests/live/warehouse_process.py`` runs them in a process of their own, as users do.
"""

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from analytics.door.app import Door
from analytics.door.app import limits as limits_of
from analytics.warehouse.config_files import configured
from analytics.warehouse.engine import Engine
from analytics.warehouse.limits import QueryLimits
from analytics.warehouse.metrics import WarehouseMetrics
from analytics.warehouse.private import LIMITS, Private
from schemas.serving.server import bind, port_of, serving
from schemas.settings import Settings

MEMORY_BYTES_MAX = 4 << 30
DOOR_LIMITS = limits_of(Settings())


@dataclass(frozen=True, slots=True)
class OpenWarehouse:
    """A running warehouse.

    Attributes:
        port: of the analysts' listener, on 127.0.0.1.
        settings: those of its sink: all rights.
        engine: behind both listeners.
        metrics: of both.
        disobeyed: gets a line when the watchdog would end the process.
    """

    port: int
    settings: Settings
    engine: Engine
    metrics: WarehouseMetrics
    disobeyed: list[str]

    @property
    def url(self) -> str:
        """The analysts' address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def reader_settings(self) -> Settings:
        """Settings of an analyst."""
        return self.reader_settings_with("")

    def reader_settings_with(self, password: str) -> Settings:
        """The same with a token."""
        dsn = f"http://default:{password}@127.0.0.1:{self.port}/{self.engine.database}"
        return self.settings.model_copy(update={"clickhouse_dsn": SecretStr(dsn)})


def sink_settings(port: int, token: str, folder: Path) -> Settings:
    """Settings that reach the private listener on ``port``."""
    return Settings(
        clickhouse_dsn=SecretStr(f"http://sink:{token}@127.0.0.1:{port}/mailpulse"),
        clickhouse_manage_access=False,
        clickhouse_compress=False,
        data_dir=folder,
    )


@contextmanager
def open_warehouse(
    folder: Path, limits: QueryLimits | None = None, door_token: str = ""
) -> Iterator[OpenWarehouse]:
    """Opens a warehouse on a directory under ``folder``, not migrated; closes it at the end."""
    config = configured(folder / "warehouse", "mailpulse", MEMORY_BYTES_MAX)
    metrics, token = WarehouseMetrics(), secrets.token_urlsafe(32)
    disobeyed: list[str] = []
    engine = Engine(
        folder / "clickhouse",
        config,
        "mailpulse",
        limits or QueryLimits(),
        lambda: disobeyed.append("a query did not obey"),
        metrics.kills.inc,
    )
    digest = hashlib.sha256(token.encode()).hexdigest()
    opened, closing = threading.Event(), asyncio.Event()
    sinks = Private(engine, metrics, digest)
    analysts = Door(engine, metrics, token=door_token)
    private, door = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with (
            serving(sinks.app, private, name="sink", limits=LIMITS, proves=sinks.proves),
            serving(
                analysts.app, door, name="analysts", limits=DOOR_LIMITS, proves=analysts.proves
            ),
        ):
            opened.set()
            await closing.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert opened.wait(30), "the listeners did not open"
    settings = sink_settings(port_of(private), token, folder)
    try:
        yield OpenWarehouse(port_of(door), settings, engine, metrics, disobeyed)
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join(30)
        loop.close()
        assert engine.close(), "a statement did not end"
        assert not disobeyed


@contextmanager
def migrated_warehouse(
    folder: Path, limits: QueryLimits | None = None, door_token: str = ""
) -> Iterator[tuple[OpenWarehouse, Client]]:
    """The same with every table and view, and a client with the sink's rights."""
    with open_warehouse(folder, limits, door_token) as warehouse:
        client = connect(warehouse.settings)
        try:
            migrate.apply(client, warehouse.settings)
            yield warehouse, client
        finally:
            client.close()
