"""Every listener that a browser can reach, in a process of its own.

Run as a program: prints their ports as JSON and serves until standard input ends.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from analytics.dashboard import create_app
from schemas.serving.server import bind, port_of, serving, serving_health
from schemas.settings import Settings
from tests.ingest.sockets import listening
from tests.warehouses import migrated_warehouse


async def _no_rows(_sql: str, _parameters: Any) -> list[dict[str, Any]]:
    return []


async def main() -> None:
    """Serves."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    app = create_app(Settings(), _no_rows, wall=time.time)
    sock = bind("127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder, migrated_warehouse(Path(folder)) as (own, _):
        sink = urlsplit(own.settings.clickhouse_dsn.get_secret_value())
        async with (
            listening() as ingress,
            serving(app, sock, name="dashboard"),
            serving_health(Settings(), lambda: True, lambda: b"up 1\n") as health,
        ):
            ports = {
                "door": own.port, "private": sink.port, "dashboard": port_of(sock),
                "ingress": ingress.port, "health": health,
            }  # fmt: skip
            print(json.dumps(ports), flush=True)
            await asyncio.to_thread(sys.stdin.read)


@contextmanager
def listeners() -> Iterator[dict[str, int]]:
    """Name -> port on 127.0.0.1 until the block is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.browser.listeners"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


if __name__ == "__main__":
    asyncio.run(main())
