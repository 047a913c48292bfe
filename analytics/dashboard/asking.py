"""Queries ClickHouse within limits.

Invariants:
1. Queries run in threads; at most ``THREADS`` at once for the whole dashboard.
2. After a query its result is reused until ``REST_FACTOR`` times its duration has passed, so each
   query keeps the database busy for at most a fifth of the time, whatever the amount of data.
3. After ``Unavailable`` the next query gets a new client.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import RowsRefused, check_origin, judged
from schemas.errors import Unavailable

Rows = list[dict[str, Any]]
Parameters = Mapping[str, Any]
THREADS = 2
REST_FACTOR = 4.0
KEPT_MAX = 100


class Query(Protocol):
    """Runs one query and returns its rows, by column name.

    Raises:
        Unavailable: the database does not answer, or the query fails.
    """

    async def __call__(self, sql: str, parameters: Parameters, /) -> Rows:
        """The rows of ``sql`` with ``parameters`` bound."""
        ...


class ClickHouseQuery:
    """``Query`` over clickhouse-connect clients, one per thread.

    Args:
        client: creates a client; blocking, raises ``Unavailable``.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._make = client
        self._local = threading.local()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="dashboard")

    async def __call__(self, sql: str, parameters: Parameters, /) -> Rows:
        """Runs the query in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._ask, sql, dict(parameters))

    def _ask(self, sql: str, parameters: dict[str, Any]) -> Rows:
        client: Client | None = getattr(self._local, "client", None)
        try:
            if client is None:
                client = self._local.client = self._make()
            result = client.query(sql, parameters=parameters)
        except (ClickHouseError, OSError) as error:
            self._local.client = None
            found = judged(error)
            if isinstance(found, RowsRefused):
                raise Unavailable(f"ClickHouse refuses a query: {error}") from error
            raise found from error
        except Unavailable:
            self._local.client = None
            raise
        check_origin(result.summary)
        return [dict(row) for row in result.named_results()]

    def close(self) -> None:
        """Ends the threads once their queries are done."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Answer:
    rows: Rows
    asked_s: float
    took_s: float

    def rests(self, now_s: float) -> bool:
        """Whether it may be reused (invariant 2)."""
        return now_s - self.asked_s < REST_FACTOR * self.took_s


class Asker:
    """Runs queries and reuses recent results (invariant 2)."""

    def __init__(self, query: Query, clock: Callable[[], float] = time.monotonic) -> None:
        self._query = query
        self._clock = clock
        self._answers: dict[tuple[Any, ...], _Answer] = {}

    async def __call__(self, sql: str, parameters: Parameters, topic: tuple[Any, ...]) -> Rows:
        """The rows of a query.

        Args:
            sql: the query.
            parameters: bound to it.
            topic: identifies the query apart from the moving bounds of a period: the result of the
                same SQL and topic may be reused.
        """
        key = (sql, *topic)
        held = self._answers.get(key)
        began = self._clock()
        if held is not None and held.rests(began):
            return held.rows
        rows = await self._query(sql, parameters)
        ended = self._clock()
        self._answers[key] = _Answer(rows, began, ended - began)
        if len(self._answers) > KEPT_MAX:
            self._answers = {key: one for key, one in self._answers.items() if one.rests(ended)}
        return rows
