"""Health and metrics of a role, on a port of their own.

``/livez``: the process answers. ``/readyz``: 200 when the role can do its work, else 503.
``/metrics``: Prometheus text format.
"""

import asyncio
from collections.abc import Callable

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from schemas.settings import Settings

log = structlog.get_logger(__name__)


def health_app(registry: CollectorRegistry, ready: Callable[[], bool]) -> Starlette:
    """The three routes."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to the role it serves."""

    def install_signal_handlers(self) -> None:
        return

    def capture_signals(self):  # type: ignore[no-untyped-def]
        import contextlib

        return contextlib.nullcontext()


async def serve_health(
    settings: Settings, role: str, registry: CollectorRegistry, ready: Callable[[], bool]
) -> None:
    """Serves until cancelled. A port that is taken is logged; the role goes on without it."""
    config = uvicorn.Config(
        health_app(registry, ready),
        host=settings.metrics_host,
        port=settings.metrics_port,
        log_level="warning",
        lifespan="off",
    )
    server = _Server(config)
    log.info(
        "health and metrics", role=role, host=settings.metrics_host, port=settings.metrics_port
    )
    try:
        await server.serve()
    except asyncio.CancelledError:
        server.should_exit = True
        raise
    except (OSError, SystemExit) as error:
        log.error("no health and metrics", role=role, error=str(error))
