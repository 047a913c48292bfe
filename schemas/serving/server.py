"""Serves an ASGI application on a listening socket, within limits.

Invariants:
1. A port is bound before it is announced; 0 means any free one.
2. uvicorn installs no signal handlers: signals belong to the process.
3. The other side's address is the socket's, never a header's (``proxy_headers`` is off). An
   application behind a proxy evaluates that proxy's headers itself.
4. Connections stay below the process's limit of file descriptors.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import structlog
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.routing import Route
from starlette.types import ASGIApp

from schemas.errors import ConfigError
from schemas.serving.health import health_app
from schemas.serving.internals import check_internals
from schemas.serving.places import Limits
from schemas.serving.protocol import Listener, ListenerProtocol, Proves
from schemas.serving.sites import SameSite, Sites
from schemas.settings import PREFIX, Settings

log = structlog.get_logger("mailpulse.serving")

PORTS_TRIED_MAX = 50
BACKLOG = 4_096
"""Connections that the kernel queues until they are accepted; a client that finds the queue full
tries again after a second."""
ACCEPTED_AT_ONCE = 16
"""Connections that one pass of the event loop accepts. They have a descriptor some passes before
they are counted, and without a free one asyncio logs every connection that it can't accept."""
LEFT_AT_ONCE = 64
"""Connections that one call of ``accept`` skips because their callers have closed them already."""
SWEEP_S = 0.25
GRACE_S = 5
"""How long requests in progress may take after the stop."""


class _Listening(socket.socket):
    """A listening socket that skips connections which their callers have closed already.

    Otherwise a client that opens and closes thousands of them a second would keep the event loop
    busy with creating protocols, and the queue full for all others. uvloop accepts by itself.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        """See ``socket.socket``; like that, raises ``BlockingIOError`` when there is none."""
        for _ in range(LEFT_AT_ONCE):
            connection, address = super().accept()
            try:
                if connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return connection, address
            except BlockingIOError:
                return connection, address  # nothing was sent yet
            except OSError:
                pass  # it was reset
            connection.close()
        raise BlockingIOError


def bind(host: str, port: int, *, or_next: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        host: address to bind.
        port: 0 for any free one.
        or_next: use the next free port if this one is taken.

    Raises:
        OSError: the address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tries = PORTS_TRIED_MAX if or_next and port else 1
    for offset in range(tries):
        # with IPPROTO_TCP asyncio sets TCP_NODELAY: otherwise the body of an answer waits 40 ms for
        # the acknowledgement of its head
        sock = _Listening(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port + offset))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE or offset == tries - 1:
                raise
        else:
            sock.setblocking(False)
            return sock
    raise OSError(errno.EADDRINUSE, f"no free port from {port} on")


def bound(host: str, port: int, setting: str) -> socket.socket:
    """As ``bind``, for a role that can't work without the port.

    Args:
        setting: the setting that chooses the port, without prefix.

    Raises:
        ConfigError: the address can't be bound.
    """
    try:
        return bind(host, port)
    except OSError as error:
        raise ConfigError([f"{PREFIX}{setting}: {host}:{port}: {error.strerror}"]) from error


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    return int(sock.getsockname()[1])


class Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the process (invariant 2)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class _ListenerServer(Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``: its ``backlog`` is both numbers in one."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)


def _address_of(sock: socket.socket) -> str:
    """``127.0.0.1:8123``, ``[::1]:8123``, or a path."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host, port, *_ = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    sock: socket.socket,
    *,
    name: str,
    limits: Limits | None = None,
    proves: Proves = lambda _headers: False,
) -> AsyncIterator[None]:
    """Serves an application on a bound socket until the block is left; then closes the socket.

    Args:
        app: what answers.
        sock: listening: TCP or unix.
        name: of the listener, for the log.
        limits: of the listener; the default is for small requests.
        proves: whether a request's headers prove that its sender may make it; connections without
            such proof are closed first.
    """
    check_internals()
    limits = (limits or Limits()).within(_descriptors_max())
    listener = Listener(name, limits, asyncio.get_running_loop(), proves)
    parts = {
        "listener": listener,
        "header_bytes_max": limits.header_bytes_max,
        "requests_ahead_max": limits.requests_ahead_max,
    }
    config = uvicorn.Config(
        app,
        http=type("Protocol", (ListenerProtocol,), parts),
        ws="none",
        log_config=None,
        log_level=logging.WARNING,  # its INFO names neither the listener nor its address
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=limits.idle_timeout_s,  # type: ignore[arg-type] # goes to call_later
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _ListenerServer(config)
    sweeping = asyncio.create_task(_sweep_on(listener), name=f"{name}: time-outs")
    task = asyncio.create_task(server.serve(sockets=[sock]), name=f"{name}: serving")
    log.info("listening", listener=name, address=_address_of(sock))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        sweeping.cancel()
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()


async def _sweep_on(listener: Listener) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        listener.sweep()


def _descriptors_max() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


@contextlib.asynccontextmanager
async def serving_health(
    settings: Settings,
    ready: Callable[[], bool],
    metrics: Callable[[], bytes],
    more: Sequence[Route] = (),
) -> AsyncIterator[int]:
    """Serves ``health_app`` on ``metrics_port`` until the block is left; yields the port.

    Args:
        settings: ``metrics_*``.
        ready: whether the role can do its work.
        metrics: Prometheus' exposition text.
        more: routes that the role serves there too; each decides who may call it.

    Raises:
        ConfigError: the address can't be bound.
    """
    sock = bound(settings.metrics_host, settings.metrics_port, "METRICS_PORT")
    # Probes name a pod's address or a service: off loopback any name is accepted, since nothing
    # here is secret; requests by pages of other sites are refused nevertheless.
    sites = Sites.of_listener(settings.metrics_host, open_=True)
    app = SameSite(health_app(ready, metrics, CONTENT_TYPE_LATEST, more), sites)
    async with serving(app, sock, name="health"):
        yield port_of(sock)
