"""The worker's health and metrics, on a port of their own (``schemas.serving.health``)."""

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from schemas.errors import ConfigError
from schemas.serving.server import serving_health
from schemas.settings import Settings

log = structlog.get_logger(__name__)


async def serve_health(
    settings: Settings, role: str, registry: CollectorRegistry, ready: Callable[[], bool]
) -> None:
    """Serves until cancelled. A port that is taken is logged; the role goes on without it."""
    host = settings.metrics_host
    try:
        health = serving_health(settings, ready, lambda: bytes(generate_latest(registry)))
        async with health as port:
            log.info("health and metrics", role=role, host=host, port=port)
            await asyncio.Event().wait()
    except ConfigError as error:
        log.error("no health and metrics", role=role, error=str(error))
