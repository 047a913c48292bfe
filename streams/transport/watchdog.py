"""Watchdog: tells a partition that makes no progress from one that has nothing to do.

Invariants:
1. Only a higher committed offset is progress.
2. Only time in which the process ran counts: after SIGSTOP, or on a machine that was suspended, the
   clock has jumped although nothing was stuck.
3. Pure: time is an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streams.transport.chunks import TP

__all__ = ["PartitionProgress", "Watchdog"]


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Where a partition stands.

    Attributes:
        committed: committed offset; ``None``: none yet.
        end: end of the log; ``None``: not known.
    """

    committed: int | None
    end: int | None

    @property
    def lag(self) -> int:
        """Offsets between the commit and the end of the log; 0 where the end is unknown."""
        return 0 if self.end is None else max(0, self.end - (self.committed or 0))


@dataclass(slots=True)
class _Watch:
    committed: int | None
    stuck_s: float = 0.0


class Watchdog:
    """Measures, per partition, how long there was lag and no commit.

    Args:
        limit_s: seconds after which a partition counts as stuck.
        tick_s: how often ``tick`` is meant to be called; a longer pause counts as twice this.
    """

    def __init__(self, limit_s: float, tick_s: float) -> None:
        self.limit_s = limit_s
        self.tick_s = tick_s
        self._watches: dict[TP, _Watch] = {}
        self._last_s: float | None = None

    def tick(self, now_s: float, partitions: Mapping[TP, PartitionProgress]) -> dict[TP, float]:
        """Takes the present state; returns the stuck partitions and for how many seconds.

        Args:
            now_s: a clock that never goes back.
            partitions: every partition that this process reads now; others are forgotten.
        """
        elapsed_s = 0.0 if self._last_s is None else min(now_s - self._last_s, 2 * self.tick_s)
        self._last_s = now_s
        for tp in self._watches.keys() - partitions.keys():
            del self._watches[tp]
        for tp, progress in partitions.items():
            watch = self._watches.setdefault(tp, _Watch(progress.committed))
            if progress.committed != watch.committed or not progress.lag:
                watch.committed, watch.stuck_s = progress.committed, 0.0
            else:
                watch.stuck_s += elapsed_s
        return {
            tp: watch.stuck_s
            for tp, watch in self._watches.items()
            if watch.stuck_s >= self.limit_s
        }

    def touch(self, tp: TP) -> None:
        """Starts counting again, since long work on ``tp``, such as a restore, goes on."""
        watch = self._watches.get(tp)
        if watch is not None:
            watch.stuck_s = 0.0
