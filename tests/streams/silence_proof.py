"""How often rhythms are wrong about simulated sources, and how soon a real silence is found."""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from streams.books.rhythm import Rhythm, is_explained, learn
from tests.streams.silent_sources import DAY, PLANS, WEEK, simulate

WEEKS_LEARNED = 13
BEGIN = 2_900 * WEEK
USUAL_WEEKS = 8
DEATHS = 4
"""Of each stream, each at a time of its own."""


@dataclass
class Outcome:
    """Of the source-months of one kind.

    Attributes:
        false_alarms: of each source-month, over the source and all of its event types.
        found: of each silence, how long until it was found, in slots.
        times_usual: the same, in longest gaps of a usual week.
        times_that_day: the same of the source as a whole, in longest gaps of that day of the week.
    """

    false_alarms: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    times_usual: list[float] = field(default_factory=list)
    times_that_day: list[float] = field(default_factory=list)


class _Course:
    """One stream, and its rhythm as it was known on each day."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = slots
        self._known: dict[int, Rhythm | None] = {}

    def rhythm(self, slot: int) -> Rhythm | None:
        """As learned when this day began."""
        day = slot // DAY * DAY
        if day not in self._known:
            begin = bisect_left(self.slots, day - WEEKS_LEARNED * WEEK)
            self._known[day] = learn(self.slots[begin : bisect_left(self.slots, day)])
        return self._known[day]

    def false_alarms(self, begin: int, end: int) -> int:
        """Gaps that were not explained to their end."""
        first = max(0, bisect_left(self.slots, begin) - 1)
        some = [*self.slots[first : bisect_left(self.slots, end)], end]
        found = 0
        for last, after in pairwise(some):
            rhythm = self.rhythm(last)
            # the longer, the less explained: the end decides
            found += rhythm is not None and not is_explained(rhythm, last, after - 1)
        return found

    def found_after(self, death: int) -> int | None:
        """Slots until a silence from ``death`` on is no longer explained; ``None``: no rhythm."""
        before = bisect_right(self.slots, death)
        last = self.slots[before - 1] if before else death
        rhythm = self.rhythm(last)
        if rhythm is None:
            return None
        low, high = last, last + 60 * WEEK
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_explained(rhythm, last, middle) else (low, middle)
        return max(1, high - death)

    def usual_gap(self, begin: int, length: int) -> float:
        """The longest gap that touches the same stretch of the weeks before, their median."""
        longest = []
        for number in range(1, USUAL_WEEKS + 1):
            start = begin - number * WEEK
            if not self.slots or start < self.slots[0]:
                break  # nothing is known of what came before
            first = max(0, bisect_right(self.slots, start) - 1)
            some = self.slots[first : bisect_right(self.slots, start + length) + 1]
            longest.append(max((b - a for a, b in pairwise(some)), default=1))
        return median(longest or [1])


def judge(kind: str, number: int, streams: Sequence[str] | None = None) -> Outcome:
    """One month of a source, after 13 weeks of it; ``streams``: only these event types."""
    source = simulate(kind, number, WEEKS_LEARNED + 5, BEGIN)
    draw = random.Random(f"deaths {kind} {number}")
    begin = BEGIN + WEEKS_LEARNED * WEEK
    out, alarms = Outcome(), 0
    for name, slots in source.slots.items():
        if streams is not None and name not in streams:
            continue
        course = _Course(slots)
        alarms += course.false_alarms(begin, begin + 30 * DAY)
        for _ in range(DEATHS):
            death = draw.randrange(begin, begin + 30 * DAY)
            found = course.found_after(death)
            if found is not None:
                out.found.append(found)
                out.times_usual.append(found / course.usual_gap(death - WEEK // 2, WEEK))
                if not name:
                    out.times_that_day.append(found / course.usual_gap(death, DAY))
    out.false_alarms.append(alarms)
    return out


def judged(months: int) -> dict[str, Outcome]:
    """``months`` source-months of each kind."""
    every: dict[str, Outcome] = {}
    for kind in PLANS:
        total = every[kind] = Outcome()
        for number in range(months):
            one = judge(kind, number)
            for name in vars(total):
                getattr(total, name).extend(getattr(one, name))
    return every
