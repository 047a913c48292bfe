"""Opens the partitions of an agent beside each other: a long restore holds no other one up.

Invariants:
1. One partition is opened by one task at a time.
2. Partitions share one core, so the more of them are folded at once the later the first is ready,
   and each takes memory. So those with much to fold have lanes by how much it is: a rebuild of
   hours waits for others of its kind, and what folds the tail behind a snapshot never waits for it.
   What is quick waits for nobody.
3. While a partition is open, restoring others takes ``CORE_SHARE`` of the core, and the folding
   gives way after each slice. While none is, it takes all of it.
4. An opening whose partition was assigned anew, or not any more, ends at its next step. What it has
   stored so far is a valid state, from which the next one goes on.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from streams.transport.chunks import TP

QUICK_RECORDS = 20_000
"""Folded in about half a second."""
TAIL_RECORDS = 2_000_000
"""Folded in about a minute: what a busy partition gets between two snapshots, and more."""
TAILS_AT_ONCE, REBUILDS_AT_ONCE, TRANSFERS_AT_ONCE = 2, 1, 1
CORE_SHARE = 0.5
TOUCH_S = 1.0

Answer = TypeVar("Answer")


class Abandoned(Exception):
    """The partition is opened for nobody any more."""


class Openings:
    """What an agent opens.

    Args:
        open_one: opens a partition; returns at once if it is open, or not assigned.
    """

    def __init__(self, open_one: Callable[[TP], Awaitable[Any]]) -> None:
        self._open_one = open_one
        self._wanted = asyncio.Event()
        self._tails = asyncio.Semaphore(TAILS_AT_ONCE)
        self._rebuilds = asyncio.Semaphore(REBUILDS_AT_ONCE)
        self.transfers = asyncio.Semaphore(TRANSFERS_AT_ONCE)
        self._folding = 0
        self.locks: defaultdict[TP, asyncio.Lock] = defaultdict(asyncio.Lock)

    def ask(self) -> None:
        """Something is to be opened."""
        self._wanted.set()

    async def run(self, assigned: Callable[[], Iterable[TP]]) -> None:
        """Opens what is assigned whenever that was asked for; runs for ever.

        Raises:
            Exception: what the first opening that fails raises; the others are cancelled.
        """
        tasks: set[asyncio.Task[Any]] = set()
        wanted: asyncio.Task[Any] | None = None
        try:
            while True:
                wanted = wanted or asyncio.create_task(self._asked())
                done, _ = await asyncio.wait({*tasks, wanted}, return_when=asyncio.FIRST_COMPLETED)
                tasks -= done
                if failures := list(filter(None, [task.exception() for task in done])):
                    raise failures[0]
                if wanted in done:
                    wanted = None
                    tasks |= {asyncio.create_task(self._opened(tp)) for tp in sorted(assigned())}
        finally:
            for task in (*tasks, *([wanted] if wanted else [])):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _asked(self) -> None:
        await self._wanted.wait()
        self._wanted.clear()

    async def _opened(self, tp: TP) -> None:
        await self._open_one(tp)

    @asynccontextmanager
    async def turn(self, records: int) -> AsyncIterator[None]:
        """Waits for the turn of a partition with so many records to fold (invariant 2)."""
        if records <= QUICK_RECORDS:
            yield
            return
        async with self._tails if records <= TAIL_RECORDS else self._rebuilds:
            self._folding += 1
            try:
                yield
            finally:
                self._folding -= 1

    def share(self, *, beside: bool) -> float:
        """Share of the core for each partition that is folded now (invariant 3).

        Args:
            beside: whether a partition is open.
        """
        return (CORE_SHARE if beside else 1.0) / max(1, self._folding)


async def in_thread(
    work: Callable[[Callable[[], None]], Answer], touch: Callable[[], None]
) -> Answer:
    """Does blocking work in a thread.

    Args:
        work: is given what it has to call between its steps: that raises ``Abandoned`` once nobody
            waits for the work any more.
        touch: called every second; what it raises ends the work.
    """
    ended = False

    def check() -> None:
        if ended:
            raise Abandoned

    task = asyncio.ensure_future(asyncio.to_thread(work, check))
    try:
        while not (await asyncio.wait([task], timeout=TOUCH_S))[0]:
            touch()
    except BaseException:
        ended = True
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()
