"""Builds each view once for all browsers that watch it.

Invariants:
1. A view (page, period, zone, what is chosen) is built at most once per interval, however many
   browsers watch or poll it; requests that arrive while it is built wait for that build.
2. Without viewers nothing is built; the poller ends with the last one.
3. After a failure the last good document stays, with a message; it never ends the poller.
4. Documents are serialised and compressed once.
5. A watcher hears something each ``BEAT_S`` while the event loop runs, also before the first build
   and while one takes long. So whoever hears nothing knows that this process does not run.
"""

import asyncio
import contextlib
import gzip
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from schemas.errors import BadInput, MailpulseError, Unavailable

log = structlog.get_logger("mailpulse.dashboard")

VIEWS_MAX = 50
"""Most views that are kept without viewers."""
KEPT_S = 60.0
"""How long an unused view is kept, seconds."""
REST_S_MAX = 30.0
BEAT_S = 1.0
"""Longest silence towards a watcher, seconds: a quarter of what a page takes for a lost connection
(``LOST_MS`` in ``static/live.js``)."""


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    Attributes:
        page: a name in ``html.PAGES``.
        period: as in the URL.
        campaign: of the campaign page, else empty.
        zone: time zone in whose days and hours charts are cut.
        chosen: campaigns of the compare page, or the one of the audience page.
        age_s: of the compare page, seconds since the delivery; 0: as old as all of them are.
        key: of the compare page, a key of metadata; else empty.
    """

    page: str
    period: str
    campaign: str = ""
    zone: str = "UTC"
    chosen: tuple[str, ...] = ()
    age_s: int = 0
    key: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view at one time.

    Attributes:
        document: what is shown; ``None`` before the first success.
        version: changes with the document.
        body: the document as JSON.
        packed: the same, compressed with gzip.
        trouble: why the document is old; empty if it is not.
        built_s: when the last build began, failed or not, by the hub's clock.
        built_ms: when the build of the document began, milliseconds since 1970; 0 without one.
    """

    document: dict[str, Any] | None
    version: str
    body: bytes
    packed: bytes
    trouble: str
    built_s: float
    built_ms: int


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    snapshot: Snapshot | None = None
    took_s: float = 0.0
    viewers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


Build = Callable[[View], Awaitable[dict[str, Any]]]


class Hub:
    """The views and their viewers.

    Args:
        build: builds the document of a view; raises ``MailpulseError``.
        interval_s: shortest time between two builds of a view.
        wall: returns seconds since 1970.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        build: Build,
        interval_s: float,
        wall: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build = build
        self._interval_s = interval_s
        self._wall = wall
        self._clock = clock
        self._entries: dict[View, _Entry] = {}
        self._poller: asyncio.Task[None] | None = None
        self._closed = False
        self.viewers = 0

    @property
    def interval_ms(self) -> int:
        """Shortest time between two builds of a view, milliseconds."""
        return int(self._interval_s * 1000)

    def now_ms(self) -> int:
        """The present time, milliseconds since 1970."""
        return int(self._wall() * 1000)

    def tick(self, snapshot: Snapshot | None) -> bytes:
        """What is sent to live connections: of a snapshot, or that there is none yet."""
        return orjson.dumps(
            {
                "version": snapshot.version if snapshot else "",
                "built_ms": snapshot.built_ms if snapshot else 0,
                "trouble": snapshot.trouble if snapshot else "",
                "now_ms": self.now_ms(),
                "interval_ms": self.interval_ms,
            }
        )

    async def snapshot(self, view: View) -> Snapshot:
        """The view, at most an interval old. Whoever watches it hears of a new build.

        Raises:
            BadInput: there is no such view.
        """
        entry = self._entry(view)
        async with entry.lock:
            held = entry.snapshot
            if held is None or self._due(entry):
                held = entry.snapshot = await self._built(view, entry)
                news, entry.news = entry.news, asyncio.Event()
                news.set()
            return held

    def _due(self, entry: _Entry) -> bool:
        held = entry.snapshot
        rest = max(self._interval_s, min(entry.took_s, REST_S_MAX))
        # a tenth of slack: else the poller would find its last build just not old enough
        return held is None or self._clock() - held.built_s >= rest * 0.9

    async def _built(self, view: View, entry: _Entry) -> Snapshot:
        held, began, began_ms = entry.snapshot, self._clock(), self.now_ms()
        try:
            document = await self._build(view)
        except BadInput:
            raise
        except MailpulseError as error:
            log.warning("view_failed", page=view.page, error=str(error))
            old, old_ms = (held.document, held.built_ms) if held is not None else (None, 0)
            return _snapshot(old, _in_words(error), began, old_ms)
        finally:
            entry.took_s = self._clock() - began
        return _snapshot(document, "", began, began_ms)

    def _entry(self, view: View) -> _Entry:
        entry = self._entries.pop(view, None) or _Entry()
        self._entries[view] = entry  # newest last
        for old, held in list(self._entries.items()):
            idle = not held.viewers and not held.lock.locked() and held is not entry
            if idle and (self._is_old(held) or len(self._entries) > VIEWS_MAX):
                del self._entries[old]
        return entry

    def _is_old(self, entry: _Entry) -> bool:
        snapshot = entry.snapshot
        return snapshot is not None and self._clock() - snapshot.built_s > KEPT_S

    @asynccontextmanager
    async def watching(self, view: View) -> AsyncIterator[AsyncIterator[Snapshot | None]]:
        """Yields an iterator over snapshots of a view: each build, and each ``BEAT_S`` the last one
        again; ``None`` while there is none that is new enough to begin with."""
        entry = self._entry(view)
        entry.viewers += 1
        self.viewers += 1
        first = asyncio.create_task(self.snapshot(view))
        try:
            if self._poller is None or self._poller.done():
                self._poller = asyncio.create_task(self._poll())
            yield self._news(entry)
        finally:
            entry.viewers -= 1
            self.viewers -= 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _news(self, entry: _Entry) -> AsyncIterator[Snapshot | None]:
        held = None if self._due(entry) else entry.snapshot
        while not self._closed:
            news = entry.news
            yield held
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await news.wait()
            held = entry.snapshot

    async def _poll(self) -> None:
        while self.viewers:
            await asyncio.sleep(self._interval_s)
            for view, entry in list(self._entries.items()):
                if entry.viewers and self._due(entry):
                    with contextlib.suppress(BadInput):
                        await self.snapshot(view)

    async def close(self) -> None:
        """Ends the poller and every ``watching``."""
        self._closed = True
        for entry in self._entries.values():
            entry.news.set()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)


def _in_words(error: MailpulseError) -> str:
    """An error for whoever looks at the page; its details are for the log."""
    if isinstance(error, Unavailable):
        return "the database does not answer (the dashboard's log says why)"
    return str(error)


def _snapshot(
    document: dict[str, Any] | None, trouble: str, built_s: float, built_ms: int
) -> Snapshot:
    body = orjson.dumps(document)
    version = hashlib.blake2b(body, digest_size=9).hexdigest()
    packed = gzip.compress(body, 4, mtime=0)
    return Snapshot(document, version, body, packed, trouble, built_s, built_ms)
