"""A metric of the events that ingress accepted and that are neither stored nor dead letters.

Invariants:
1. It is the sum of view ``reconciliation`` over minutes older than ``SETTLED_S``: events of younger
   ones may still be on their way.
2. One sink of a group queries it, the one that reads partition 0 of the raw topic. Others report 0.
3. The load is bounded: by the limits of a query, and by a pause of ``sink_reconcile_interval_s`` or
   ``PAUSES`` times the last query's duration, whichever is longer.
4. A failed query does not affect the sink. The metric keeps its value; another gives its age.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import check_origin
from analytics.metrics import SinkMetrics
from schemas.errors import Unavailable
from schemas.settings import AnalyticsSettings

log = structlog.get_logger("mailpulse.sink")

SETTLED_S = 300
PAUSES = 20
DIFFERENCE = """
SELECT sum(missing) FROM reconciliation WHERE minute < now() - toIntervalSecond({settled_s:UInt32})
"""


class Reconciler:
    """Queries the difference periodically.

    Args:
        settings: the interval, and the limits of a query.
        client: creates a ClickHouse client; blocking, raises ``Unavailable``.
        metrics: to update.
        mine: whether this process does the queries (invariant 2).
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
        self._client: Client | None = None
        self._metrics = metrics
        self._mine = mine

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            began = time.monotonic()
            await self.ask()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._settings.sink_reconcile_interval_s, PAUSES * took))

    async def ask(self) -> None:
        """Updates the metrics, if ClickHouse answers."""
        if not self._mine():
            self._metrics.difference.set(0)
            self._metrics.reconciled.set(0)
            return
        try:
            missing = await asyncio.to_thread(self._missing)
        except (ClickHouseError, Unavailable, OSError) as error:
            log.warning("not reconciled", error=str(error).splitlines()[0][:300])
            return
        self._metrics.difference.set(missing)
        self._metrics.reconciled.set(time.time())

    def _missing(self) -> int:
        if self._client is None:
            self._client = self._make_client()
        answer = self._client.query(
            DIFFERENCE,
            parameters={"settled_s": SETTLED_S},
            settings={
                "max_execution_time": self._settings.door_query_s_max,
                "max_memory_usage": self._settings.door_memory_bytes_max,
                "max_threads": self._settings.door_threads_max,
            },
        )
        check_origin(answer.summary)
        [[missing]] = answer.result_rows
        return int(missing)
