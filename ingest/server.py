"""Serves the front door over HTTP/1.1 or TLS, and stops gracefully.

Invariants:
1. The limits of one connection are in ``ingest/connection.py``; which connection is closed when
   there are too many, ``ingest/crowd.py`` decides.
2. There are never more connections than file descriptors: the process's limit is raised as far as
   possible, and the number of connections lowered to it if need be.
3. On SIGTERM or SIGINT: no new connections are accepted, requests in progress are finished, Kafka's
   outstanding acknowledgements are awaited, then the process may end.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog
import uvicorn
import uvloop

from ingest.app import IngestApp, create_app
from ingest.connection import Displaceable, FrontDoorProtocol
from ingest.crowd import Crowd
from ingest.handshake import accept
from ingest.tls import check_pair
from schemas.codec import Codec
from schemas.serving.internals import check_internals
from schemas.serving.origin import Networks
from schemas.serving.server import Server, bound, port_of
from schemas.settings import Settings, Source

IDLE_TIMEOUT_S = 65
"""How long an idle connection stays open between requests: longer than common proxies' 60 s."""
GRACE_S = 10
"""How long requests in progress may take after a signal to stop."""
GC_YOUNG_OBJECTS = 20_000
"""New containers after which the garbage collector examines the young ones."""
SWITCH_S = 0.0005
"""How long a thread keeps running while another one waits."""
FILES_RESERVED = 256
"""File descriptors reserved for Kafka's connections, the spool, TLS handshakes and the rest."""


class _Server(Server):
    """A server whose connections count from the moment they are accepted, TLS or not."""

    handshake_s: float

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        await super().startup(sockets=[])
        protocol: Any = self.config.http_protocol_class
        make_protocol = functools.partial(
            protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        for one in sockets or ():
            if self.config.ssl is None:
                server = await loop.create_server(
                    make_protocol, sock=one, backlog=self.config.backlog
                )
                self.servers.append(server)
            else:
                accepting = accept(one, make_protocol, self.config.ssl, self.handshake_s)
                self._accepting.append(loop.create_task(accepting, name="accepting"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)


def make_server(
    settings: Settings, app: IngestApp, connections_max: int | None = None
) -> uvicorn.Server:
    """A uvicorn server for ``app``, not started.

    Args:
        connections_max: by default the setting.

    Raises:
        InternalsMissing: the installed uvicorn lacks internals that this relies on.
    """
    check_internals()
    crowd = Crowd[Displaceable](
        connections_max or settings.connections_max, settings.connections_per_client_max
    )
    parts = {
        "header_bytes_max": settings.header_bytes_max,
        "settings": settings,
        "metrics": app.metrics,
        "crowd": crowd,
        "trusted": Networks(settings.trusted_proxies),
    }
    config = uvicorn.Config(
        app,
        host=settings.ingest_host,
        port=settings.ingest_port,
        loop="uvloop",
        http=type("Protocol", (FrontDoorProtocol,), parts),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.WARNING,  # ``serve`` says itself where it listens
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_TIMEOUT_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    server = _Server(config)
    server.handshake_s = settings.header_timeout_ms / 1000
    app.metrics.connections.set_function(lambda: float(len(server.server_state.connections)))
    return server


def files_for(connections_max: int, soft: int, hard: int) -> tuple[int, int]:
    """The limit on open files to set, and the number of connections that it allows.

    Args:
        soft: the limit as it is.
        hard: what it may be raised to.
    """
    wanted = connections_max + FILES_RESERVED
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited:
        return soft, connections_max
    soft = max(soft, wanted if hard == unlimited else min(wanted, hard))
    return soft, max(1, min(connections_max, soft - FILES_RESERVED))


def make_room(connections_max: int) -> int:
    """Raises the process's limit on open files (invariant 2).

    Returns:
        The number of connections that it allows, at most ``connections_max``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised, room = files_for(connections_max, soft, hard)
    if raised != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return room


async def serve(
    settings: Settings,
    sources: Mapping[str, Source],
    *,
    codec: Codec | None = None,
    on_bound: Callable[[int], None] = lambda port: None,
    stop: asyncio.Event | None = None,
    **parts: Any,
) -> None:
    """Serves until SIGTERM, SIGINT or ``stop``, then stops gracefully (invariant 3).

    Args:
        on_bound: called with the port once the kernel accepts connections.
        stop: ends it, for a caller that handles the signals itself.
        parts: passed on to ``create_app``.

    Raises:
        OSError: the address can't be bound.
        ConfigError: the spool's directory can't be used, or the certificate.
    """
    log = structlog.get_logger("mailpulse.ingest.server")
    if settings.allow_http:
        log.warning("plain_http_allowed", setting="MAILPULSE_ALLOW_HTTP")
    if settings.tls_cert_file and settings.tls_key_file:
        check_pair(settings.tls_cert_file, settings.tls_key_file)
    _settle_interpreter()
    app = create_app(settings, sources, codec=codec, **parts)
    room = make_room(settings.connections_max)
    if room < settings.connections_max:
        log.warning("too_few_files", connections_max=room, setting="ulimit -n")
    server = make_server(settings, app, room)
    listener = bound(settings.ingest_host, settings.ingest_port, "INGEST_PORT")
    port = port_of(listener)
    on_bound(port)
    tls = settings.tls_cert_file is not None
    log.info("listening", host=settings.ingest_host, port=port, tls=tls)
    for name, source in sources.items():
        if source.unset:
            log.error("source is off", source=name, why=list(source.unset))
    with _stopping(server, stop):
        await server.serve(sockets=[listener])
    if not server.started:
        raise RuntimeError("the front door did not start; its log says why")
    log.info("stopped")


def run(settings: Settings, sources: Mapping[str, Source], **parts: Any) -> None:
    """``serve`` on uvloop, about a third faster than asyncio's own loop.

    Raises:
        OSError, ConfigError: as ``serve`` does.
    """
    uvloop.run(serve(settings, sources, **parts))


def _settle_interpreter() -> None:
    """Excludes imported objects from garbage collection, and makes collections rarer.

    A batch makes thousands of containers, which are freed by their reference counts. With Python's
    default of one collection per 700, every batch caused several.

    The thread of large bodies yields to the event loop quickly: with Python's default of 5 ms,
    small requests would wait longer for the thread than for Kafka.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_S)


@contextlib.contextmanager
def _stopping(server: uvicorn.Server, stop: asyncio.Event | None) -> Iterator[None]:
    """Ends ``server`` on ``stop``, or on signals if there is none."""

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return
    waiter = asyncio.create_task(stop.wait())
    waiter.add_done_callback(lambda task: end())
    try:
        yield
    finally:
        waiter.cancel()
