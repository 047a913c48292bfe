"""The order of jobs on one worker: next is the owner who has used the least of its time.

Invariants:
1. Pure: what a job cost comes in as an argument.
2. Owners with waiting jobs get equal shares of the worker's time, however many jobs they have and
   however long these take. An owner who is new, or had no job for a while, starts with the least
   time used by those waiting: unused time is not saved up. When no job waits, all counts are
   cleared; when there are too many, those of owners without waiting jobs are.
3. The line has a maximum length. Over it, the newest job of the owner with most jobs is dropped.
"""

from collections import deque
from typing import Generic, TypeVar

Job = TypeVar("Job")
REMEMBERED_MAX = 1_000
"""Owners whose share is remembered while they have no job waiting."""


class FairLine(Generic[Job]):
    """Jobs in line.

    Args:
        jobs_max: waiting at once.
    """

    def __init__(self, jobs_max: int) -> None:
        self._jobs_max = jobs_max
        self._waiting: dict[str, deque[Job]] = {}
        self._used_s: dict[str, float] = {}
        self._least_s = 0.0
        """Least time used by an owner with waiting jobs, when the last job was taken."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, whose: str, job: Job) -> Job | None:
        """Puts a job at the end of its owner's line.

        Returns:
            The job that was dropped for it, possibly itself; ``None`` while there is room.
        """
        self._waiting.setdefault(whose, deque()).append(job)
        self._length += 1
        self._used_s[whose] = max(self._used_s.get(whose, 0.0), self._least_s)
        if self._length <= self._jobs_max:
            return None
        most = max(self._waiting, key=lambda one: len(self._waiting[one]))
        return self._take(most, last=True)

    def pop(self) -> tuple[str, Job] | None:
        """The next job and its owner; ``None`` when none waits. Report its cost to ``spent``."""
        if not self._waiting:
            return None
        whose = min(self._waiting, key=self._used_s.__getitem__)
        self._least_s = max(self._least_s, self._used_s[whose])
        return whose, self._take(whose, last=False)

    def spent(self, whose: str, seconds: float) -> None:
        """Counts the time that a job of this owner took."""
        self._used_s[whose] = max(self._used_s.get(whose, 0.0), self._least_s) + seconds
        if not self._waiting:
            self._used_s.clear()
        elif len(self._used_s) > REMEMBERED_MAX:
            waiting = [(one, self._used_s[one]) for one in self._waiting]
            self._used_s = dict(waiting)

    def remove(self, whose: str, job: Job) -> None:
        """Takes a job out of the line, if it is still in it."""
        line = self._waiting.get(whose)
        if line is not None and job in line:
            line.remove(job)
            self._shrink(whose)

    def _take(self, whose: str, *, last: bool) -> Job:
        line = self._waiting[whose]
        job = line.pop() if last else line.popleft()
        self._shrink(whose)
        return job

    def _shrink(self, whose: str) -> None:
        self._length -= 1
        if not self._waiting[whose]:
            del self._waiting[whose]
