"""The role ``warehouse``: the embedded engine in a process of its own, behind two listeners.

Laws of this file:
1. This process alone owns the directory. Analysts reach it on ``door_host:door_port``, read-only;
   the sink on ``warehouse_host:warehouse_port``, with a token (``analytics.warehouse.private``).
2. Both addresses are bound before the engine is opened and kept until it is closed.
3. SIGTERM ends the process in time: what the sink sent is stored, analysts' queries are killed, and
   what does not let go of the engine by then ends with the process.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import socket
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from analytics.door.app import door_of, limits
from analytics.warehouse.engine import Engine, configured
from analytics.warehouse.limits import query_limits
from analytics.warehouse.metrics import WarehouseMetrics
from analytics.warehouse.private import LIMITS, Private
from schemas.errors import ConfigError
from schemas.serving.server import bind, port_of, serving, serving_health
from schemas.settings import PREFIX, Settings

log = structlog.get_logger("mailpulse.warehouse")

DSN_FILE = "warehouse.dsn"
"""In ``data_dir``, when the token is made here: what the sink's ``CLICKHOUSE_DSN_FILE`` names."""
CLOSE_S_MAX = 8.0


async def serve(settings: Settings, *, stop: asyncio.Event) -> None:
    """The whole warehouse role, until ``stop`` is set.

    Raises:
        ConfigError: an address can't be bound, or the directory can't be used.
    """
    metrics = WarehouseMetrics()
    engine: Engine | None = None
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            serving_health(settings, lambda: engine is not None, metrics.render)
        )
        door = _bound(settings.door_host, settings.door_port, "DOOR_PORT")
        private = _bound(settings.warehouse_host, settings.warehouse_port, "WAREHOUSE_PORT")
        digest = settings.warehouse_token_sha256 or _own_token(settings, port_of(private))
        engine = await asyncio.to_thread(_opened, settings, metrics)
        listener = Private(engine, metrics, digest).app
        await stack.enter_async_context(serving(listener, private, name="sink", limits=LIMITS))
        listener = door_of(settings, engine, metrics).app
        await stack.enter_async_context(
            serving(listener, door, name="analysts", limits=limits(settings))
        )
        log.info("warehouse open", analysts=_url(settings.door_host, port_of(door)))
        await stop.wait()
    if not await asyncio.to_thread(engine.close, CLOSE_S_MAX):
        ids = [one.query_id for one in engine.watch.running()]
        log.warning("ended with statements under way", query_ids=ids)
        sys.stderr.flush()
        os._exit(0)  # whatever waits for the engine's threads would wait for ever


def _bound(host: str, port: int, name: str) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        raise ConfigError([f"{PREFIX}{name}: {host}:{port}: {error.strerror}"]) from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _opened(settings: Settings, metrics: WarehouseMetrics) -> Engine:
    """The engine on its directory.

    Raises:
        ConfigError: the directory can't be used.
    """
    directory, folder = settings.clickhouse_dir, settings.data_dir / "warehouse"
    try:
        config = configured(
            folder, settings.warehouse_database, settings.warehouse_memory_bytes_max
        )
        return Engine(
            directory,
            config,
            settings.warehouse_database,
            query_limits(settings),
            killed=metrics.kills.inc,
        )
    except OSError as error:
        raise ConfigError([f"{PREFIX}WAREHOUSE_DIR: {error.filename}: {error.strerror}"]) from error
    except RuntimeError as error:  # chDB: another process holds the directory, or it is damaged
        raise ConfigError([f"{PREFIX}WAREHOUSE_DIR: {directory}: {error}"]) from error


def _own_token(settings: Settings, port: int) -> str:
    """SHA-256 of the token in ``data_dir/warehouse.dsn``, which is made if it does not fit.

    The token is kept over restarts, so that a sink goes on; the file is its owner's alone.

    Raises:
        ConfigError: the file can't be written.
    """
    path = settings.data_dir / DSN_FILE
    token = _token_in(path) or secrets.token_urlsafe(32)
    host = (
        f"[{settings.warehouse_host}]"
        if ":" in settings.warehouse_host
        else (settings.warehouse_host)
    )
    dsn = f"http://sink:{token}@{host}:{port}/{settings.warehouse_database}\n"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(dsn)
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError([f"{PREFIX}DATA_DIR: {path}: {error.strerror}"]) from error
    return hashlib.sha256(token.encode()).hexdigest()


def _token_in(path: Path) -> str:
    try:
        return unquote(urlsplit(path.read_text(encoding="utf-8").strip()).password or "")
    except (OSError, ValueError):
        return ""
