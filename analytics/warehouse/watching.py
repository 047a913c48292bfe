"""The thread that watches running statements (``analytics.warehouse.limits`` decides).

Invariants:
1. It does not call the engine, which may block its caller: killing has a thread of its own, so the
   process ends in time whatever the engine does.
2. A log line names a query by its id, never by its text.
3. What is killed is counted once, before it leaves ``running``.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from analytics.warehouse.limits import Flag, Running, decide

log = structlog.get_logger("mailpulse.warehouse")

LOOK_S = 0.25


class Watch:
    """The statements under way.

    Args:
        kill: kills statements by their tags, in the engine; blocking.
        obey_s_max: see ``analytics.warehouse.limits``.
        disobeyed: ends the process.
        killed: called for each statement when it is killed for the first time.
    """

    def __init__(
        self,
        kill: Callable[[Sequence[str]], None],
        obey_s_max: float,
        disobeyed: Callable[[], None],
        killed: Callable[[], None] = lambda: None,
    ) -> None:
        self._kill = kill
        self._killed = killed
        self._disobeyed = disobeyed
        self._obey_s_max = obey_s_max
        self._numbers = itertools.count(1)
        self._running: dict[str, Running] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._killer = ThreadPoolExecutor(1, thread_name_prefix="kill")
        self._killing: Future[None] | None = None
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    @contextmanager
    def over(self, query_id: str, limit_s: float, gone: Flag) -> Iterator[str]:
        """Watches over a statement for as long as the block runs; yields its tag."""
        tag = f"mailpulse-{next(self._numbers)}"
        one = Running(tag, query_id, time.monotonic(), limit_s, gone)
        with self._lock:
            self._running[tag] = one
        try:
            yield tag
        finally:
            with self._lock:
                del self._running[tag]
                self._told.discard(tag)

    def running(self) -> list[Running]:
        """What is under way now."""
        with self._lock:
            return list(self._running.values())

    def close(self) -> None:
        """Ends the watch."""
        self._closing.set()
        self._thread.join(5)
        self._killer.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        while not self._closing.wait(LOOK_S):
            decision = decide(self.running(), time.monotonic(), self._obey_s_max)
            if decision.disobeys is not None:
                log.error(
                    "a query does not end when it is killed; ending the process",
                    query_id=decision.disobeys.query_id, limit_s=decision.disobeys.limit_s,
                )  # fmt: skip
                self._disobeyed()
                return
            if decision.kill and (self._killing is None or self._killing.done()):
                self._note(decision.kill)
                self._killing = self._killer.submit(self._kill, decision.kill)

    def _note(self, tags: Sequence[str]) -> None:
        """Counts statements that are killed for the first time.

        With the lock: a statement that has just ended by itself is not counted, and one that is
        counted is so before it leaves ``running``.
        """
        with self._lock:
            first = [self._running[tag] for tag in tags if tag in self._running.keys() - self._told]
            self._told.update(one.tag for one in first)
            for _ in first:
                self._killed()
        for one in first:
            log.warning("query killed", query_id=one.query_id, limit_s=one.limit_s,
                        client_gone=one.gone.is_set())  # fmt: skip
