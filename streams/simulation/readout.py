"""Queries ClickHouse over HTTP, as any analyst's client would.

Invariants:
1. It uses only what analysts can use: tables and views by name, no code of the analytics package.
2. Freshness is measured from outside: from the answer 200 until a query returns the row.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx
import orjson

from schemas.addresses import clickhouse_address
from schemas.errors import Unavailable
from schemas.glossary import COUNTER_NAMES
from streams.simulation.ledger import Identity, identity
from streams.simulation.simulator import Happening

_MARKERS_MAX = 200
"""Events whose freshness is measured at the same time."""


class ClickHouse:
    """A read-only client of ClickHouse's HTTP interface.

    Args:
        dsn: ``http(s)://user:password@host:port/database``.
    """

    def __init__(self, dsn: str) -> None:
        address = clickhouse_address(dsn)
        self._params = {"database": address.database}
        self._client = httpx.AsyncClient(
            base_url=address.url,
            auth=(address.user, address.password),
            timeout=30.0,
            trust_env=False,
        )

    async def rows(self, query: str) -> list[list[Any]]:
        """The rows of a query.

        Raises:
            Unavailable: no answer, or the query failed.
        """
        try:
            answer = await self._client.post(
                "/", params=self._params, content=f"{query}\nFORMAT JSONCompact"
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            raise Unavailable(f"ClickHouse: {answer.text.strip()[:300]}")
        data: list[list[Any]] = orjson.loads(answer.content)["data"]
        return data

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def stored(self, run: str, first: str = "", beyond: str = "") -> dict[Identity, int]:
        """Rows per event identity, of one run.

        Args:
            first: smallest message id; ``beyond``: the first id behind the last, '' for no limit.
        """
        within = f"message_id >= {quoted([first])}"
        within += f" AND message_id < {quoted([beyond])}" if beyond else ""
        rows = await self.rows(
            "SELECT message_id, event_type, toUnixTimestamp(occurred_at), toUInt32(count())"
            f" FROM events FINAL WHERE message_id LIKE 'm{run}%' AND {within} GROUP BY 1, 2, 3"
        )
        return {(row[0], row[1], int(row[2])): int(row[3]) for row in rows}

    async def counters(self, campaigns: Sequence[str]) -> dict[str, Counter[str]]:
        """Campaign -> counter -> value, by the view that analysts use."""
        columns = ", ".join(f"toString({name})" for name in COUNTER_NAMES)
        rows = await self.rows(
            f"SELECT campaign_id, {columns} FROM campaign_summary"
            f" WHERE campaign_id IN ({quoted(campaigns)})"
        )
        return {
            row[0]: Counter(dict(zip(COUNTER_NAMES, map(int, row[1:]), strict=True)))
            for row in rows
        }

    async def acted_upon(self, run: str) -> tuple[int, int]:
        """Number of suppressed addresses, and number of first human clicks."""
        # the set is of suppressions: one of events would grow with the run, to gigabytes
        suppressed = await self.rows(
            f"SELECT uniqExact(event_id) FROM events WHERE message_id LIKE 'm{run}%'"
            " AND event_id IN (SELECT toUUIDOrZero(evidence_event_id) FROM suppressions FINAL)"
        )
        clicked = await self.rows(
            "SELECT count() FROM events FINAL WHERE event_type = 'clicked' AND first_human"
            f" AND message_id LIKE 'm{run}%'"
        )
        return int(suppressed[0][0]), int(clicked[0][0])

    async def rates(self, campaigns: Sequence[str]) -> list[dict[str, Any]]:
        """What the terminal shows of each campaign."""
        names = (
            "campaign_id", "sent", "delivered", "hard_bounce_rate", "bounce_rate", "open_rate",
            "open_rate_at_most", "click_rate",
        )  # fmt: skip
        rows = await self.rows(
            f"SELECT {', '.join(names)} FROM campaign_summary"
            f" WHERE campaign_id IN ({quoted(campaigns)}) ORDER BY campaign_id"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def incidents(self, campaigns: Sequence[str]) -> list[dict[str, Any]]:
        """Incidents as they are now, the worst first."""
        names = ("campaign_id", "mailbox_provider", "rate", "level", "state", "value", "numerator",
                 "denominator")  # fmt: skip
        rows = await self.rows(
            f"SELECT {', '.join(names)} FROM incidents WHERE campaign_id IN ({quoted(campaigns)})"
            " ORDER BY indexOf(['critical', 'warning', 'watch'], level), opened_at DESC LIMIT 20"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]


def quoted(texts: Sequence[str]) -> str:
    """Texts as ClickHouse literals, comma-separated."""
    return ", ".join("'" + t.replace("\\", "\\\\").replace("'", "\\'") + "'" for t in texts)


SECONDS_KEPT = 10_000
"""Newest measurements that quantiles are of: memory stays bounded, however long a demo runs."""


class Freshness:
    """Measures the seconds from the answer 200 until a query returns the row.

    Args:
        clickhouse: where to look.
        every_s: shortest time between two measured events, and between two queries; seconds.
    """

    def __init__(self, clickhouse: ClickHouse, every_s: float = 0.25) -> None:
        self.seconds: deque[float] = deque(maxlen=SECONDS_KEPT)
        self._clickhouse = clickhouse
        self._every_s = every_s
        self._waiting: dict[Identity, float] = {}
        self._picked_at = 0.0

    def answered(self, events: Sequence[Happening]) -> None:
        """Notes that a request with these events, none sent before, was just answered 200."""
        now = time.monotonic()
        if now - self._picked_at < self._every_s or len(self._waiting) >= _MARKERS_MAX:
            return
        self._picked_at = now
        event = events[-1]
        self._waiting.setdefault(identity(event), now)

    async def watch(self) -> None:
        """Queries ClickHouse until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if self._waiting:
                with suppress(Unavailable):  # not visible yet
                    await self._look()

    async def _look(self) -> None:
        messages = quoted([message for message, _, _ in self._waiting])
        rows = await self._clickhouse.rows(
            "SELECT message_id, event_type, toUnixTimestamp(occurred_at) FROM events"
            f" WHERE message_id IN ({messages})"
        )
        now = time.monotonic()
        for row in rows:
            since = self._waiting.pop((row[0], row[1], int(row[2])), None)
            if since is not None:
                self.seconds.append(now - since)

    def quantile(self, share: float) -> float | None:
        """A quantile of the measurements, in seconds; ``None`` without any."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
