"""Reads a partition for long work beside live events, which keep their share of the core."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from schemas.settings import Settings
from streams.kafka.stretches import OpenStretches, Stretches

CHECK_EVERY_S = 0.2
"""Longest wait before it is noticed that the work is no longer wanted."""

Share = Callable[[], float]
"""Share of a core that the reader may use now, above 0 and at most 1."""


def paced(source: OpenStretches, share: Share, check: Callable[[], None]) -> OpenStretches:
    """``source`` for a reader that may use ``share`` of a core.

    After each step of the reader it waits; time that others used on the event loop meanwhile counts
    as the reader's, so it yields more while they are busy. The event loop gets a turn each time,
    with a share of 1 too.

    Args:
        check: called before every wait; what it raises ends the reading.
    """

    @asynccontextmanager
    async def opened(settings: Settings, topic: str, partition: int) -> AsyncIterator[Stretches]:
        inner: AbstractAsyncContextManager[Stretches] = source(settings, topic, partition)
        async with inner as stretches:
            yield _Paced(stretches, share, check)

    return opened


class _Paced:
    def __init__(self, inner: Stretches, share: Share, check: Callable[[], None]) -> None:
        self._inner, self._share, self._check = inner, share, check
        self.begin, self.end = inner.begin, inner.end

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """See ``Stretches``."""
        async for batch in self._inner.read(position, until, records_max):
            begun = time.thread_time()
            yield batch
            self._check()
            waits = (time.thread_time() - begun) * (1 / self._share() - 1)
            await asyncio.sleep(min(waits, CHECK_EVERY_S))
            while (waits := waits - CHECK_EVERY_S) > 0:
                self._check()
                await asyncio.sleep(min(waits, CHECK_EVERY_S))
            self._check()
