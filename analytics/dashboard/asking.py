"""Asking ClickHouse, sparingly.

Invariants:
1. A query runs in a thread; at most ``THREADS`` run at once for the whole dashboard.
2. A query that took long is not asked again at once: its last rows stand in until
   ``REST_FACTOR`` times its duration has passed. So each question keeps the database busy for a
   fifth of the time at most, whatever the amount of data.
3. ``Unavailable`` means that nobody answers; the client is made anew for the next question.
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
    """Answers one query with its rows, by column name.

    Raises:
        Unavailable: nobody answers, or the query fails.
    """

    async def __call__(self, sql: str, parameters: Parameters, /) -> Rows:
        """The rows of ``sql`` with ``parameters`` bound."""
        ...


class ClickHouseQuery:
    """``Query`` over clickhouse-connect clients, one per thread.

    Args:
        client: makes a client; blocking, raises ``Unavailable``.
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
        """Lets threads end once they are done."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Answer:
    rows: Rows
    asked_s: float
    took_s: float

    def rests(self, now_s: float) -> bool:
        """Whether it may stand in (invariant 2)."""
        return now_s - self.asked_s < REST_FACTOR * self.took_s


class Asker:
    """``Query`` with a memory (invariant 2)."""

    def __init__(self, query: Query, clock: Callable[[], float] = time.monotonic) -> None:
        self._query = query
        self._clock = clock
        self._answers: dict[tuple[Any, ...], _Answer] = {}

    async def __call__(self, sql: str, parameters: Parameters, topic: tuple[Any, ...]) -> Rows:
        """The rows of a query.

        Args:
            sql: the query.
            parameters: bound to it.
            topic: what is asked, apart from the moving edges of a period: an answer to the same
                topic may stand in while the database rests.
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
