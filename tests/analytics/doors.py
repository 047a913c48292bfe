"""A door in a thread of its own, so that blocking clients can be tried on it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from analytics import migrate
from analytics.client import connect
from analytics.door.app import Door
from analytics.door.app import limits as served
from analytics.metrics import SinkMetrics
from analytics.warehouse.engine import Engine, QueryLimits
from schemas.serving.server import bind, port_of, serving
from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Where a door is.

    Attributes:
        port: on 127.0.0.1.
        settings: of the directory behind it.
    """

    port: int
    settings: Settings

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def open_door(
    folder: Path, *, writable: bool = False, limits: QueryLimits | None = None, token: str = ""
) -> Iterator[OpenDoor]:
    """Opens a door on a migrated directory under ``folder``; closes both at the end."""
    settings = Settings(clickhouse_dsn=SecretStr(f"chdb://{folder}/ch"), data_dir=folder)
    client = connect(settings)
    if not writable:  # over HTTP the migrations are part of what is tried
        migrate.apply(client, settings)
    opened, closing = threading.Event(), asyncio.Event()
    sock = bind("127.0.0.1", 0)
    loop = asyncio.new_event_loop()

    async def run() -> None:
        engine = Engine(folder / "ch", "mailpulse", limits or QueryLimits(), writable=writable)
        body_bytes_max = 1 << 30 if writable else None
        door = Door(engine, SinkMetrics(), token=token).app
        allowed = served(settings, body_bytes_max=body_bytes_max)
        async with serving(door, sock, name="door", limits=allowed):
            opened.set()
            await closing.wait()
        engine.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert opened.wait(30), "the door did not open"
    try:
        yield OpenDoor(port_of(sock), settings)
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join(30)
        loop.close()
        client.close()
