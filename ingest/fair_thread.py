"""A thread for work that would block the event loop, shared fairly among its users.

Invariants:
1. One job runs at a time, in the order of ``FairLine``; a job that nobody awaits is dropped.
2. Every wait has a time-out, and the line has a maximum length: over it a job is refused.
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
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, whose: str, work: Callable[[], Result], timeout_s: float) -> Result:
        """What ``work()`` returns or raises.

        Args:
            whose: owner of the job, for sharing the thread's time.
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
            # The error refers to this frame, and the future to the error: the circle would keep the
            # body until the next garbage collection.
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
        if not future.done():  # else nobody awaits it any more
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)
        self._next()


def _timed(work: Callable[[], Result], cost: list[float]) -> Result:
    """``work()``; appends the CPU time that it took, in seconds, to ``cost``."""
    began = time.thread_time()
    try:
        return work()
    finally:
        cost.append(time.thread_time() - began)
