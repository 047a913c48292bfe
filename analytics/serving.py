"""Small HTTP servers inside a role's process: health and metrics, and the analysts' door.

Laws of this file:
1. A port is bound before anything is told about it; 0 means any free one.
2. The process's signals belong to the process, so uvicorn's own handlers stay out.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp

from schemas.health import health_app
from schemas.settings import Settings

PORTS_TRIED_MAX = 50


def bind(host: str, port: int, *, or_next: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        host: address to bind.
        port: 0 for any free one.
        or_next: take the next free port when this one is taken.

    Raises:
        OSError: the address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tries = PORTS_TRIED_MAX if or_next and port else 1
    for offset in range(tries):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port + offset))
            sock.listen(128)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE or offset == tries - 1:
                raise
        else:
            sock.setblocking(False)
            return sock
    raise OSError(errno.EADDRINUSE, f"no free port from {port} on")


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    return int(sock.getsockname()[1])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process (law 2)."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, sock: socket.socket) -> AsyncIterator[None]:
    """Serves an application on a bound socket until the block is left."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def serving_health(
    settings: Settings, ready: Callable[[], bool], metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Serves ``schemas.health`` on ``metrics_port`` until the block is left; yields the port.

    Args:
        ready: whether the role can do its work.
        metrics: Prometheus' exposition text.

    Raises:
        OSError: the address can't be bound.
    """
    sock = bind(settings.metrics_host, settings.metrics_port)
    async with serving(health_app(ready, metrics, CONTENT_TYPE_LATEST), sock):
        yield port_of(sock)
