"""A thread for work that would hold the event loop up, shared fairly among those who ask for it.

Invariants:
1. One job at a time, in the order of ``FairLine``; one that nobody waits for any more is not done.
2. Nobody waits longer than they say, and the line has a length: over it a job is refused.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ingest.fair_line import FairLine
from schemas.errors import Unavailable

Result = TypeVar("Result")
JOBS_MAX = 256
"""Jobs waiting at once: each holds a body."""
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class FairThread:
    """The thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-body")
        self._line: FairLine[_Job] = FairLine(JOBS_MAX)
        self._busy = False

    def close(self) -> None:
        """Lets go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, whose: str, work: Callable[[], Result], timeout_s: float) -> Result:
        """What ``work()`` returns or raises.

        Args:
            whose: who shares the thread's time with others.
            timeout_s: longest wait for the result.

        Raises:
            Unavailable: it was not done in time, or too many are waiting.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job: _Job = work, future
        dropped = self._line.push(whose, job)
        if dropped is not None and not dropped[1].done():
            dropped[1].set_exception(Unavailable("too many large bodies are waiting"))
        self._next()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise Unavailable("large bodies are waiting") from None
        finally:
            self._line.remove(whose, job)
            # An error knows this frame, and the future the error: a circle that would keep the
            # body until the garbage collector comes by.
            del job, future

    def _next(self) -> None:
        taken = None if self._busy else self._line.pop()
        if taken is None:
            return
        whose, (work, future) = taken
        self._busy = True
        cost: list[float] = []
        done = asyncio.get_running_loop().run_in_executor(self._thread, _timed, work, cost)
        done.add_done_callback(partial(self._done, whose, future, cost))

    def _done(
        self,
        whose: str,
        future: "asyncio.Future[Any]",
        cost: list[float],
        done: "asyncio.Future[Any]",
    ) -> None:
        self._busy = False
        self._line.spent(whose, sum(cost))
        if done.cancelled():  # the thread is gone
            future.cancel()
            return
        error = done.exception()
        if not future.done():  # else nobody waits any more
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)
        self._next()


def _timed(work: Callable[[], Result], cost: list[float]) -> Result:
    """``work()``; notes the processor's time that it took, in seconds."""
    began = time.thread_time()
    try:
        return work()
    finally:
        cost.append(time.thread_time() - began)
