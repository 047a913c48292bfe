"""Metrics of the comparison between what ingress accepted and what is stored.

Invariants:
1. They hold for minutes older than ``SETTLED_S``: events of younger ones may be on their way.
2. One sink of a group compares, the one that reads partition 0 of the raw topic. A metric of its
   own says so: one that never succeeds can be told from those that do not compare, which report 0.
3. The load is bounded: by the limits of a query, and by a pause of ``sink_reconcile_interval_s`` or
   ``PAUSES`` times the last pass's duration, whichever is longer.
4. A failed pass does not affect the sink. The metrics keep their values; another gives their age.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.metrics import SinkMetrics
from analytics.sink.books import SETTLED_S, Books, Totals
from schemas.errors import Unavailable
from schemas.settings import AnalyticsSettings

log = structlog.get_logger("mailpulse.sink")

PAUSES = 20
IDLE_S = 1.0
"""How soon a sink notices that it is the one to compare."""


class Reconciler:
    """Compares periodically.

    Args:
        settings: the interval, and the limits of a query.
        client: creates a ClickHouse client; blocking, raises ``Unavailable``.
        metrics: to update.
        mine: whether this process compares (invariant 2).
    """

    def __init__(
        self,
        settings: AnalyticsSettings,
        client: Callable[[], Client],
        metrics: SinkMetrics,
        mine: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._make_client = client
        self._books: Books | None = None
        self._metrics = metrics
        self._mine = mine

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            began = time.monotonic()
            await self.ask()
            took = time.monotonic() - began
            pause_s = max(self._settings.sink_reconcile_interval_s, PAUSES * took)
            # partitions are assigned some seconds after a start, and move at any time
            await asyncio.sleep(pause_s if self._mine() else IDLE_S)

    async def ask(self) -> None:
        """Makes one pass and updates the metrics, if ClickHouse answers."""
        mine = self._mine()
        self._metrics.reconciles.set(mine)
        if not mine:
            for gauge in (
                self._metrics.difference, self._metrics.unexplained, self._metrics.reconciled
            ):  # fmt: skip
                gauge.set(0)
            return
        try:
            totals = await asyncio.to_thread(self._balance)
        except (ClickHouseError, Unavailable, OSError) as error:
            log.warning("not reconciled", error=str(error).splitlines()[0][:300])
            return
        self._metrics.difference.set(totals.missing)
        self._metrics.unexplained.set(totals.unexplained)
        self._metrics.reconciled.set(time.time())

    def _balance(self) -> Totals:
        settings = self._settings
        if self._books is None:
            limits = {
                "max_execution_time": settings.door_query_s_max,
                "max_memory_usage": settings.door_memory_bytes_max,
                "max_threads": settings.door_threads_max,
            }
            overlap_s = max(SETTLED_S, 2 * settings.clickhouse_timeout_s)
            self._books = Books(self._make_client(), limits, overlap_s)
        return self._books.balance()
