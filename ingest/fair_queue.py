"""Spreads the work on requests over passes of the event loop: some per pass, the others queue.

Invariants:
1. First come, first served.
2. Between passes the loop's other tasks run: what was parsed goes to Kafka while the next requests
   are parsed, and not only after the last request of a burst.
"""

import asyncio
from collections import deque

BYTES_PER_PASS = 2_000
"""Once bodies of this many bytes were worked on in a pass, the next body waits for the next pass:
enough for some single events, or one batch."""


class Turns:
    """A line of requests that are ready to be worked on."""

    def __init__(self) -> None:
        self._left = BYTES_PER_PASS
        self._passing = False
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Returns when a body of ``size`` bytes may be worked on; at once while few are waiting."""
        loop = asyncio.get_running_loop()
        if not self._passing:
            self._passing = True
            loop.call_soon(self._pass, loop)
        if self._left > 0 and not self._line:
            self._left -= size
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._line.append((waiter, size))
        await waiter

    def _pass(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets the first in line go on."""
        left = BYTES_PER_PASS
        while left > 0 and self._line:
            waiter, size = self._line.popleft()
            if not waiter.done():  # its request may have been cancelled
                waiter.set_result(None)
                left -= size
        self._left = left
        self._passing = left < BYTES_PER_PASS
        if self._passing:
            loop.call_soon(self._pass, loop)
