"""The role ``warehouse``: the embedded engine in a process of its own, behind two listeners.

Invariants:
1. This process alone owns the directory. Analysts reach it on ``door_host:door_port``, read-only;
   the sink on ``warehouse_host:warehouse_port``, with a token (``analytics.warehouse.private``).
2. Addresses are bound first, then the fence is put up (``analytics.warehouse.fence``), and only
   then is the engine loaded: that makes threads, and threads made before are outside the fence.
3. SIGTERM ends the process in time: what the sink sent is stored, analysts' queries are killed, and
   what does not let go of the engine by then ends with the process.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from analytics.warehouse.config_files import backups_of, configured, temporary_of
from analytics.warehouse.fence import raised, set_limits
from analytics.warehouse.limits import EXIT_DISOBEYED
from analytics.warehouse.metrics import WarehouseMetrics
from schemas.addresses import bracketed, clickhouse_address
from schemas.errors import ConfigError
from schemas.serving.server import bound, port_of, serving, serving_health
from schemas.settings import PREFIX, Settings

if TYPE_CHECKING:  # invariant 2
    from analytics.warehouse.engine import Engine

log = structlog.get_logger("mailpulse.warehouse")

DSN_FILE = "warehouse.dsn"
"""In ``data_dir``, when the token is made here: what the sink's ``CLICKHOUSE_DSN_FILE`` names."""
CLOSE_S_MAX = 4.0
"""With what the listeners wait before, less than a supervisor's patience (15 s)."""
DESCRIPTORS_MAX = 65_536
"""Of files: a merge opens every column of every part. Connections are bounded far below."""
_SYSTEM_PATHS = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone",
    "/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/sys/fs/cgroup", "/sys/devices/system",
    "/dev/null", "/dev/urandom",
)  # fmt: skip
"""What engine and interpreter read of the machine. Nothing secret is in this process's own
``/proc``: its environment is made for it (``streams.embedded.role_environ``)."""


async def serve(settings: Settings, *, stop: asyncio.Event) -> None:
    """The whole warehouse role, until ``stop`` is set.

    Raises:
        ConfigError: an address can't be bound, or the directory can't be used.
    """
    metrics = WarehouseMetrics()
    engine: Engine | None = None
    metrics.under_way.set_function(lambda: len(engine.watch.running()) if engine else 0)
    metrics.unsent.set_function(lambda: engine.unsent.bytes if engine else 0)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            serving_health(settings, lambda: engine is not None, metrics.render)
        )
        door = bound(settings.door_host, settings.door_port, "DOOR_PORT")
        private = bound(settings.warehouse_host, settings.warehouse_port, "WAREHOUSE_PORT")
        ends = _Ends(settings.data_dir / "warehouse")
        metrics.ends.inc(ends.count)
        digest = settings.warehouse_token_sha256 or _own_token(settings, port_of(private))
        config = _prepared(settings)
        engine = await asyncio.to_thread(_opened, settings, config, metrics, ends)
        from analytics.door.app import door_of, limits
        from analytics.warehouse.private import LIMITS, Private

        sinks = Private(engine, metrics, digest)
        await stack.enter_async_context(
            serving(sinks.app, private, name="sink", limits=LIMITS, proves=sinks.proves)
        )
        analysts = door_of(settings, engine, metrics)
        await stack.enter_async_context(
            serving(
                analysts.app,
                door,
                name="analysts",
                limits=limits(settings),
                proves=analysts.proves,
            )
        )
        await stop.wait()
        engine.abandon()  # before the listeners wait for answers
    if not await asyncio.to_thread(engine.close, CLOSE_S_MAX):
        ids = [one.query_id for one in engine.watch.running()]
        log.warning("ended with statements under way", query_ids=ids)
        sys.stderr.flush()
        os._exit(0)  # whatever waits for the engine's threads would wait for ever


def _prepared(settings: Settings) -> Path:
    """Writes the engine's configuration, and fences this process in (invariant 2).

    Raises:
        ConfigError: a directory can't be used.
    """
    folder = (settings.data_dir / "warehouse").resolve()
    temporary = temporary_of(folder)
    try:
        settings.clickhouse_dir.mkdir(parents=True, exist_ok=True)
        config = configured(
            folder, settings.warehouse_database, settings.warehouse_memory_bytes_max
        )
    except OSError as error:
        raise ConfigError([f"{PREFIX}DATA_DIR: {error.filename}: {error.strerror}"]) from error
    os.putenv("TMPDIR", str(temporary))  # the engine makes a directory when it is loaded
    tempfile.tempdir = str(temporary)
    set_limits(DESCRIPTORS_MAX)
    fence = raised(
        [*map(Path, _SYSTEM_PATHS), *_code(), folder],
        [settings.clickhouse_dir, temporary, backups_of(folder)],
    )
    if fence.files and fence.network and fence.calls:
        log.info("fenced in")
    else:
        log.warning(
            "this system fences the process in in part only; Linux 6.7 and later have all of it",
            files=fence.files, network=fence.network, calls=fence.calls,
        )  # fmt: skip
    return config


def _code() -> Iterator[Path]:
    """Where modules may still be loaded from."""
    yield from (Path(sys.prefix), Path(sys.base_prefix))
    yield from (Path(path) for path in sys.path if path.endswith(("-packages", ".zip")))
    for name, module in tuple(sys.modules.items()):
        if "." not in name:  # a package that stands beside its data, as in a checkout
            yield from map(Path, getattr(module, "__path__", ()))


class _Ends:
    """How often a query had to end a process on this data directory: a byte for each, in a file.

    Opened before the fence is up: afterwards this process could not.

    Raises:
        ConfigError: the file can't be opened.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "ended-by-a-query"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError([f"{PREFIX}DATA_DIR: {path}: {error.strerror}"]) from error
        self.count = os.fstat(self._file).st_size

    def happens(self) -> None:
        """Counts this one and ends the process: nothing that waits for the engine would return."""
        os.write(self._file, b".")
        os._exit(EXIT_DISOBEYED)


def _opened(settings: Settings, config: Path, metrics: WarehouseMetrics, ends: _Ends) -> "Engine":
    """The engine on its directory.

    Raises:
        ConfigError: the directory can't be used.
    """
    from analytics.warehouse.engine import Engine
    from analytics.warehouse.limits import query_limits

    directory = settings.clickhouse_dir
    try:
        return Engine(
            directory,
            config,
            settings.warehouse_database,
            query_limits(settings),
            killed=metrics.kills.inc,
            disobeyed=ends.happens,
        )
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
    host = bracketed(settings.warehouse_host)
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
        return clickhouse_address(path.read_text(encoding="utf-8")).password
    except (OSError, ValueError):
        return ""
