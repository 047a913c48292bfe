"""The process of the dashboard.

Invariants:
1. A port in use is reported as a wrong setting, without a traceback.
2. ClickHouse, Kafka and the other roles may be unavailable at the start and at any time.
3. ``stop`` ends every live connection at once; browsers reconnect by themselves.
"""

import asyncio
import time
import tomllib
from typing import Any

import structlog

from analytics.client import reader
from analytics.dashboard import questions
from analytics.dashboard.app import FORM_BYTES_MAX, create_app
from analytics.dashboard.asking import ClickHouseQuery, Parameters, Rows
from analytics.dashboard.deliveries import Deliveries
from analytics.dashboard.documents import AlertLines
from analytics.dashboard.kafka import KafkaReader
from analytics.dashboard.metrics import DashboardMetrics
from analytics.dashboard.sampling import Sampler
from analytics.dashboard.scraping import Scraper
from analytics.dashboard.sql.asking import DoorClient
from analytics.dashboard.sql.page import BODY_BYTES_MAX
from schemas.serving.places import Limits
from schemas.serving.server import bound, port_of, serving, serving_health
from schemas.settings import Settings
from schemas.sources import PRESET

log = structlog.get_logger("mailpulse.dashboard")

PAGES_MAX = 64
"""Concurrent requests besides the live connections."""


def limits(settings: Settings) -> Limits:
    """Limits of the dashboard's listener: all live connections, and other requests."""
    viewers = settings.dashboard_viewers_max
    return Limits(
        connections_max=viewers + 2 * PAGES_MAX,
        requests_max=viewers + PAGES_MAX,
        body_bytes_max=max(FORM_BYTES_MAX, BODY_BYTES_MAX),
    )


async def serve(settings: Settings, *, lines: AlertLines, stop: asyncio.Event) -> None:
    """Serves the dashboard until ``stop`` is set.

    Args:
        lines: returns the alert lines of a campaign, as the workers use them.

    Raises:
        ConfigError: it would be open to the network, or the address can't be bound.
    """
    host, port = settings.dashboard_host, settings.dashboard_port
    metrics = DashboardMetrics()
    clickhouse = ClickHouseQuery(lambda: reader(settings))
    kafka = KafkaReader(settings, time.monotonic)
    scraper = Scraper(settings.dashboard_metrics_urls)

    deliveries = Deliveries(
        settings.dashboard_deliver_urls, settings.dashboard_deliver_token.get_secret_value(),
        time.time,
    )  # fmt: skip

    door = DoorClient(settings.clickhouse_dsn.get_secret_value())

    async def query(sql: str, parameters: Parameters) -> Rows:
        with metrics.query():
            return await clickhouse(sql, parameters)

    async def pipeline() -> dict[str, Any]:
        parts = await asyncio.gather(kafka.read(), scraper.read(), deliveries.read())
        return {name: value for part in parts for name, value in part.items()}

    async def behind() -> float | None:
        rows = await query(questions.BEHIND, {})
        return rows[0]["behind_s"] if rows else None

    sampler = Sampler(kafka.read, behind, time.time)
    app = create_app(
        settings, query, wall=time.time, sources=configured(settings), pipeline=pipeline,
        lines=lines, send_test=deliveries.test, door=door, samples=sampler.samples,
    )  # fmt: skip
    hub = app.state.hub
    metrics.viewers.set_function(lambda: hub.viewers)
    sock = bound(host, port, "DASHBOARD_PORT")
    health = serving_health(settings, lambda: not stop.is_set(), metrics.render)
    try:
        async with health, serving(app, sock, name="dashboard", limits=limits(settings)):
            shown = f"[{host}]" if ":" in host else host
            log.info("dashboard started", url=f"http://{shown}:{port_of(sock)}")
            sampling = asyncio.create_task(sampler.run())
            await stop.wait()
            sampling.cancel()
            await hub.close()
    finally:
        clickhouse.close()
        await door.close()
        await kafka.close()
        await scraper.close()
        await deliveries.close()


def configured(settings: Settings) -> dict[str, str]:
    """Name -> provider of the sources in ``mailpulse.toml``; empty if it can't be read.

    Secrets are not resolved: the dashboard does not need them.
    """
    try:
        document = tomllib.loads(settings.config_path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    sources = document.get("sources")
    if not isinstance(sources, dict):
        return {}
    return {
        str(name): str(source.get("provider", "")).removeprefix(PRESET)
        for name, source in sources.items()
        if isinstance(source, dict)
    }
