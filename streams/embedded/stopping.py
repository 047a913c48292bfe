"""A stop at a terminal: the first Ctrl-C is answered at once, a second one ends the process.

Invariants:
1. The first signal sets the event and is announced before anything else happens.
2. The second one ends every child and this process at once, whatever they are doing. What was
   answered 200 is on the disk then (invariant 1 of the design), so this loses nothing.
3. A start is given up when a stop is asked for.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from streams.embedded.child import Announce
from streams.terminal.output import rewrite

Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
"""Exit code of a process that a second signal ended: 128 + SIGINT, as in shells."""
BEGUN = "Stopping … what was accepted is stored first; Ctrl-C again ends it at once."
ENDED = "Ended at once. What was answered 200 is kept; the next start stores it."


class Stopped(Exception):
    """A stop was asked for before the start was over."""


class Stop:
    """What signals do to a command that runs until it is stopped.

    Args:
        announce: called with one line of text for the operator.
        leave: ends this process with an exit code.

    Attributes:
        asked: set by the first signal.
        kill: called before the process ends; kills what this process started.
    """

    def __init__(self, announce: Announce, leave: Callable[[int], Any] = os._exit) -> None:
        self.asked = asyncio.Event()
        self.kill: Callable[[], Any] = lambda: None
        self._announce = announce
        self._leave = leave

    def signalled(self) -> None:
        """Takes a signal in (invariants 1 and 2)."""
        if not self.asked.is_set():
            self.asked.set()
            self._announce(BEGUN)
            return
        with contextlib.suppress(OSError, RuntimeError):
            self._announce(ENDED)
        self.kill()
        self._leave(INTERRUPTED)

    def listen(self) -> None:
        """Begins to take signals in."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.signalled)

    async def unless_asked(self, work: Awaitable[Result]) -> Result:
        """The result of ``work``, which is cancelled when a stop is asked for.

        Raises:
            Stopped: it was.
        """
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise Stopped
        finally:
            asked.cancel()
            task.cancel()


@contextlib.asynccontextmanager
async def counted(begun_s: float | None = None) -> AsyncIterator[None]:
    """Shows on a terminal how long the block takes, in seconds, in one line that is rewritten."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.create_task(_count(time.monotonic() if begun_s is None else begun_s))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        rewrite("")


async def _count(begun_s: float) -> None:
    while True:
        rewrite(f"Stopping… {time.monotonic() - begun_s:.0f} s")
        await asyncio.sleep(1.0)
