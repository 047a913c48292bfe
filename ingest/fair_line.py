"""Whose job is next on one worker: the one's who had the least of it so far.

Invariants:
1. Pure: what a job cost comes in as an argument.
2. Among those who have jobs waiting, each gets the same share of the worker's time, however many
   jobs it has and however long they take. Whoever comes back after a while, or for the first time,
   begins with the least share of those waiting: nobody saves up, and nobody is paid back. When
   nobody waits all is forgotten, and when there are too many to remember, those who don't wait are.
3. The line has a length. Over it, a job of the one who has most of them is dropped, its newest.
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
        """What whoever had the least of those waiting had had, at the last turn."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, whose: str, job: Job) -> Job | None:
        """Puts a job at the end of its owner's line.

        Returns:
            The job that was dropped for it, itself perhaps; ``None`` while there is room.
        """
        self._waiting.setdefault(whose, deque()).append(job)
        self._length += 1
        self._used_s[whose] = max(self._used_s.get(whose, 0.0), self._least_s)
        if self._length <= self._jobs_max:
            return None
        most = max(self._waiting, key=lambda one: len(self._waiting[one]))
        return self._take(most, last=True)

    def pop(self) -> tuple[str, Job] | None:
        """The next job and whose it is; ``None`` when none waits. Tell ``spent`` what it cost."""
        if not self._waiting:
            return None
        whose = min(self._waiting, key=self._used_s.__getitem__)
        self._least_s = max(self._least_s, self._used_s[whose])
        return whose, self._take(whose, last=False)

    def spent(self, whose: str, seconds: float) -> None:
        """Counts what a job of theirs cost."""
        self._used_s[whose] = max(self._used_s.get(whose, 0.0), self._least_s) + seconds
        if not self._waiting:
            self._used_s.clear()
        elif len(self._used_s) > REMEMBERED_MAX:
            waiting = [(one, self._used_s[one]) for one in self._waiting]
            self._used_s = dict(waiting)

    def remove(self, whose: str, job: Job) -> None:
        """Takes a job out of the line, if it still is in it."""
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
