"""Kafka and the database of one machine without anything that reads or writes them, for a backup
or a restore while the pipeline is stopped."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from schemas.settings import Settings
from streams.embedded.child import Announce
from streams.embedded.data_dir import locked
from streams.embedded.open_files import allow_open_files
from streams.embedded.ports import Ports
from streams.embedded.supervisor import Embedded


@asynccontextmanager
async def stores(
    settings: Settings, environ: Mapping[str, str], announce: Announce
) -> AsyncIterator[tuple[Settings, str]]:
    """Runs them for the block, on the data directory of ``settings``.

    Returns:
        Settings of this Kafka, and the address of the database with all rights.

    Raises:
        ConfigError: a pipeline runs on the data directory, or it can't be used.
        Unavailable: one of them does not start.
    """
    allow_open_files()
    with locked(settings.data_dir), Ports() as ports:
        logs = settings.data_dir.resolve() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        pipeline = Embedded(settings, environ, announce, logs)
        try:
            dsn = await pipeline.start_stores(
                ports.named(kafka=0, controller=0, warehouse=0, door=0, health=0)
            )
            yield pipeline.kafka, dsn
        finally:
            await pipeline.stop(drain=False)
