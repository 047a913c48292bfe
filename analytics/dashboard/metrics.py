"""Metrics of the dashboard, in base units; campaigns are never labels."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from schemas.errors import MailpulseError


class DashboardMetrics:
    """Every metric, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.viewers = Gauge(
            "mailpulse_dashboard_viewers", "Live connections of browsers.", registry=self.registry
        )
        self.query_seconds = Histogram(
            "mailpulse_dashboard_query_seconds",
            "Time of a query to ClickHouse, including the wait for a thread.",
            registry=self.registry,
        )
        self.query_failures = Counter(
            "mailpulse_dashboard_query_failures",
            "Queries that failed. Pages then show their last figures and a message.",
            registry=self.registry,
        )

    @contextmanager
    def query(self) -> Iterator[None]:
        """Measures the duration of a query and counts failures."""
        began = time.monotonic()
        try:
            yield
        except MailpulseError:
            self.query_failures.inc()
            raise
        finally:
            self.query_seconds.observe(time.monotonic() - began)

    def render(self) -> bytes:
        """The exposition text."""
        return bytes(generate_latest(self.registry))
