"""The worker's health and metrics, on a port of their own (``schemas.health``)."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from schemas.health import health_app
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the worker."""
        yield


async def serve_health(
    settings: Settings, role: str, registry: CollectorRegistry, ready: Callable[[], bool]
) -> None:
    """Serves until cancelled. A port that is taken is logged; the role goes on without it."""
    config = uvicorn.Config(
        health_app(ready, lambda: bytes(generate_latest(registry)), CONTENT_TYPE_LATEST),
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
