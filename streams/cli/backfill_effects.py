"""What a backfill does to the world: Kafka, ClickHouse, the provider's API, the terminal.

Invariants:
1. A record is written with the key, the partition and the acknowledgements (all in-sync replicas)
   with which ingress writes it.
2. ClickHouse is asked only for figures: whether it answers changes nothing that is written.
3. Nothing here keeps a command from ending at once: what may wait long runs in a daemon thread.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from schemas.cloudevents import CLI, by_leading_text
from schemas.errors import MailpulseError
from schemas.history_api import Answer, Ask
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.books.client import Client
from streams.books.notes import Notes
from streams.books.pull import Page, Progress, Record
from streams.cli.clickhouse import rows_of
from streams.cli.context import now

IDS_AT_ONCE = 500
"""Ids of one look-up: they are in a URL, which may have 32 KB."""
LOOK_UP_S_MAX = 20.0
ASK_AGAIN_S = 60.0
"""After a look-up that failed the next waits so long: figures are not worth a slow backfill."""
TELL_S = 5.0
"""Between two lines of progress."""
HELD = "SELECT events FROM stored_among(ids = {ids:Array(UUID)})"
_IN_RANGE = (
    "SELECT count() FROM events FINAL WHERE source = {source:String}"
    " AND event_time >= fromUnixTimestamp64Milli({begin:Int64})"
    " AND event_time < fromUnixTimestamp64Milli({until:Int64})"
)
Result = TypeVar("Result")


class Stored:
    """What ClickHouse has already."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ask_at = 0.0
        self.away = ""
        """Why ClickHouse did not answer last; empty: it did."""

    async def of_ids(self, ids: Sequence[str]) -> int | None:
        """How many of these events are stored; ``None``: ClickHouse does not say."""
        found = 0
        for begin in range(0, len(ids), IDS_AT_ONCE):
            some = ",".join(f"'{UUID(one)}'" for one in ids[begin : begin + IDS_AT_ONCE])
            count = await self._count(HELD, {"ids": f"[{some}]"})
            if count is None:
                return None
            found += count
        return found

    async def in_range(self, source: str, begin_us: int, until_us: int) -> int | None:
        """How many events of a source are stored that happened in a range; ``None`` likewise."""
        given = {"begin": str(begin_us // 1000), "until": str(until_us // 1000)}
        return await self._count(_IN_RANGE, {"source": source, **given})

    async def _count(self, sql: str, given: dict[str, str]) -> int | None:
        if time.monotonic() < self._ask_at:
            return None
        try:
            async with asyncio.timeout(LOOK_UP_S_MAX):
                rows = await _beside(lambda: rows_of(self._settings, sql, given, tuple[int]))
        except TimeoutError:
            self.away = f"no answer within {LOOK_UP_S_MAX:.0f} s"
        except MailpulseError as error:
            self.away = str(error).partition("\n")[0]
        else:
            self.away = ""
            return rows[0][0]
        self._ask_at = time.monotonic() + ASK_AGAIN_S
        return None


async def _beside(work: Callable[[], Result]) -> Result:
    """The result of a call that blocks, in a thread that no exit waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            set_it(value)

    def run() -> None:
        try:
            outcome = done.set_result, work()
        except Exception as error:
            outcome = done.set_exception, error  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await done


class World:
    """The effects of a run (``streams.books.runner.Effects``).

    Args:
        client: of the provider's API.
        producer: of Kafka; ``None``: nothing is written, neither records nor notes.
        say: shows a line.
    """

    def __init__(
        self, client: Client, producer: Any, stored: Stored, notes: Notes,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client = client
        self._producer = producer
        self._stored = stored
        self._notes = notes
        self._say = say
        self._began_s: float | None = None
        self._began_share = 0.0
        self._began_read = 0
        self._tell_at = 0.0
        self._waiting_at = time.monotonic() + TELL_S

    async def fetch(self, request: Ask) -> Answer:
        """See ``Effects.fetch``."""
        return await self._client.fetch(request)

    async def keep(self, records: Sequence[Record]) -> None:
        """See ``Effects.keep``."""
        if self._producer is None:
            return
        at_ms = int(now() * 1000)
        waiting = []
        for topic, key, value in records:
            headers = by_leading_text(BY_NAME[topic].schema, CLI)(value, at_ms)
            waiting.append(
                await self._producer.send(topic, value, key, timestamp_ms=at_ms, headers=headers)
            )
        for one in waiting:
            await one

    async def known(self, page: Page) -> int | None:
        """See ``Effects.known``."""
        return await self._stored.of_ids(page.event_ids)

    def save(self, progress: Progress) -> None:
        """See ``Effects.save``."""
        if self._producer is not None:
            self._notes.write(progress)

    def tell(self, progress: Progress, share: float) -> None:
        """See ``Effects.tell``; at most one line each ``TELL_S``."""
        at = time.monotonic()
        if self._began_s is None:
            self._began_s, self._began_share = at, share
            self._began_read, self._tell_at = _read(progress), at + TELL_S
        if at < self._tell_at:
            return
        self._tell_at = at + TELL_S
        seconds = at - self._began_s
        rate = (_read(progress) - self._began_read) / seconds if seconds else 0.0
        gained = share - self._began_share
        left_s = seconds * (1 - share) / gained if gained > 0 and seconds else None
        self._say(progress_line(progress, share, rate, left_s))

    async def wait(self, seconds: float, why: str) -> None:
        """See ``Effects.wait``; short waits are shown at most each ``TELL_S``."""
        at = time.monotonic()
        if seconds >= TELL_S or (why and at >= self._waiting_at):
            self._waiting_at = at + TELL_S
            because = why or "the API allows no more requests for now"
            self._say(f"waits {duration(seconds)}: {because}")
        await asyncio.sleep(seconds)

    def now(self) -> float:
        """See ``Effects.now``."""
        return now()

    def clock(self) -> float:
        """See ``Effects.clock``."""
        return time.monotonic()

    def chance(self) -> float:
        """See ``Effects.chance``."""
        return random.random()


def _read(progress: Progress) -> int:
    return progress.counts.events + progress.counts.listed


def progress_line(progress: Progress, share: float, rate: float, left_s: float | None) -> str:
    """How far a run is: share, events, events per second, time left."""
    counts = progress.counts
    what = f"{counts.listed:,} listed" if counts.listed else f"{counts.events:,} events"
    parts = [f"{100 * share:.1f} % of the range", what, f"{rate:,.0f}/s"]
    if counts.events and counts.new is not None:
        parts.append(f"{counts.new:,} new")
    if left_s is not None and share < 1:
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time in words: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def utc(at_us: int) -> str:
    """A time in microseconds since 1970, to the second, in UTC."""
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
