"""What ingress accepted and is neither stored nor a dead letter, as a metric.

Invariants:
1. The figure is view ``reconciliation``'s, over its minutes that are older than ``SETTLED_S``: what
   is younger may be on its way.
2. One sink of a group asks: whoever reads partition 0 of the raw topic. The others show 0.
3. Asking is bounded: by the limits of a query, and by a pause of ``sink_reconcile_interval_s`` or
   ``PAUSES`` times what the last one took, whichever is longer.
4. A question that fails changes nothing for the sink. The figure stays, and its time tells its age.
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
    """Asks again and again.

    Args:
        settings: how often, and the limits of a query.
        client: makes a ClickHouse client; blocking, raises ``Unavailable``.
        metrics: where the answer goes.
        mine: whether it is this process that asks (invariant 2).
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
        """Asks until it is cancelled."""
        while True:
            began = time.monotonic()
            await self.ask()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._settings.sink_reconcile_interval_s, PAUSES * took))

    async def ask(self) -> None:
        """Brings the metrics up to date, if ClickHouse answers."""
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
