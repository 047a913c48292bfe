"""Serves the front door over HTTP/1.1 or TLS, and stops gracefully.

Laws of this file:
1. A connection has a deadline from its first byte, and from the end of each answer, to the end of
   the next request's headers; a header block has a size. Both are closed without an answer worth
   waiting for: nobody honest is there.
2. Over ``connections_max`` a new connection is closed at once, so that those inside go on.
3. On SIGTERM or SIGINT: no new connections, requests under way are finished, Kafka's outstanding
   acknowledgements are awaited, then the process may end.

uvicorn has no header deadline; ``GuardedProtocol`` adds it around three of its methods, and a test
on real sockets holds it.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import structlog
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.app import IngestApp, create_app
from ingest.metrics import IngestMetrics
from ingest.problems import MEDIA_TYPE, problem
from ingest.receiving import WHOLE
from schemas.codec import Codec
from schemas.settings import Settings, Source

KEEP_ALIVE_S = 65
"""How long an idle connection stays open between requests: longer than common proxies' 60 s."""
GRACE_S = 10
"""How long requests under way may take once we are told to stop."""


GC_YOUNG_OBJECTS = 20_000
"""New containers after which the collector looks at the young ones."""
SWITCH_S = 0.0005
"""How long a thread runs on while another one waits."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits on connections and headers (laws 1 and 2)."""

    settings: ClassVar[Settings]
    metrics: ClassVar[IngestMetrics]
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: Any) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.connections_max:
            self._cut("too_many")
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        # A block of headers that ended within this data was handed on, whatever its size: one read
        # of a socket is bounded by the loop. Most do, and need no deadline.
        if self._in_headers and self._header_bytes:
            if self._header_bytes > self.settings.header_bytes_max:
                self._cut("header_too_large")
            elif self._deadline is None:
                self._set_deadline()

    def on_headers_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._in_headers = False
        self._header_bytes = 0
        self._clear_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See ``HttpToolsProtocol``."""
        self._in_headers = True
        self.scope[WHOLE] = True  # type: ignore[literal-required] # an addition of ours
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem document, like everything else."""
        content = problem(400, "not_http")
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n"
        )
        self.transport.write(head % (MEDIA_TYPE, len(content)) + content)
        self.transport.close()

    def _set_deadline(self) -> None:
        seconds = self.settings.header_timeout_ms / 1000
        self._deadline = self.loop.call_later(seconds, self._cut, "header_timeout")

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self, reason: str) -> None:
        self.metrics.connections_refused.labels(reason).inc()
        self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's server, that leaves signals to ``serve``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def make_server(settings: Settings, app: IngestApp) -> uvicorn.Server:
    """A uvicorn server for ``app``, not started."""
    config = uvicorn.Config(
        app,
        host=settings.ingest_host,
        port=settings.ingest_port,
        loop="uvloop",
        http=type("Protocol", (GuardedProtocol,), {"settings": settings, "metrics": app.metrics}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    server = _Server(config)
    app.metrics.connections.set_function(lambda: float(len(server.server_state.connections)))
    return server


def listen(settings: Settings) -> socket.socket:
    """The listening socket; port 0 takes a free one.

    Raises:
        OSError: the address can't be bound.
    """
    family = socket.AF_INET6 if ":" in settings.ingest_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.ingest_host, settings.ingest_port))
    listener.listen(2048)
    listener.setblocking(False)
    return listener


async def serve(
    settings: Settings,
    sources: Mapping[str, Source],
    *,
    codec: Codec | None = None,
    on_bound: Callable[[int], None] = lambda port: None,
    stop: asyncio.Event | None = None,
    **parts: Any,
) -> None:
    """Serves until SIGTERM, SIGINT or ``stop``, then stops gracefully (law 3).

    Args:
        on_bound: told the port once connections are accepted by the kernel.
        stop: an event that ends it, for a caller that keeps the signals to itself.
        parts: passed on to ``create_app``.

    Raises:
        OSError: the address can't be bound.
        ConfigError: the spool's directory can't be used.
    """
    log = structlog.get_logger("mailpulse.ingest.server")
    if settings.allow_http:
        log.warning("plain_http_allowed", setting="MAILPULSE_ALLOW_HTTP")
    _settle_interpreter()
    app = create_app(settings, sources, codec=codec, **parts)
    server = make_server(settings, app)
    listener = listen(settings)
    port = listener.getsockname()[1]
    on_bound(port)
    tls = settings.tls_cert_file is not None
    log.info("listening", host=settings.ingest_host, port=port, tls=tls)
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
    """Takes what was imported out of the garbage collector's rounds, and makes these rarer.

    A batch makes some thousand containers that die with it, by reference counts alone; at Python's
    default of one round per 700 the collector looked at everything several times a batch.

    The thread of large bodies lets the event loop go on as soon as it asks: at Python's default of
    5 ms small requests would wait longer for the thread than for Kafka.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_S)


@contextlib.contextmanager
def _stopping(server: uvicorn.Server, stop: asyncio.Event | None) -> Iterator[None]:
    """Ends ``server`` by ``stop``, or by signals when there is none."""

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
