"""Who works next: some requests per pass of the event loop, the others in line.

Invariants:
1. First come, first served; whoever waits gets a turn in one of the next passes.
2. Between passes everything else of the loop runs: what was parsed goes to Kafka while the next
   requests are parsed, instead of after the last of all that arrived at once.
"""

import asyncio
from collections import deque

BYTES_PER_PASS = 2_000
"""Bodies are worked on up to this many bytes, and one more: some single events, or one batch."""


class Turns:
    """A line of requests that are ready to be worked on."""

    def __init__(self) -> None:
        self._left = BYTES_PER_PASS
        self._passing = False
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Returns when it is a body of ``size`` bytes' turn; at once while few ask."""
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
        """Gives turns to the first in line."""
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
