"""How often rhythms are wrong about simulated sources, and how soon a real silence is found.

Sources are judged by ``streams.books.silence.look`` itself, as the sink does each minute. A look's
result can change only when something came, when a rhythm stops explaining a silence, or when
rhythms are learned anew. So ``played`` looks at these slots alone; a test compares it with looking
each minute.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from streams.books.rhythm import Rhythm, is_explained, learn, resumed
from streams.books.silence import (
    OPENED,
    SLOT_US,
    WHOLE,
    Held,
    Key,
    Record,
    Stream,
    look,
)
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
        false_alarms: of each source-month: incidents of the source and of all of its event types.
        found: of each silence, how long until it was found, in slots.
        times_usual: the same, in longest gaps of a usual week.
        times_that_day: the same of the source as a whole, in longest gaps of that day of the week.
    """

    false_alarms: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    times_usual: list[float] = field(default_factory=list)
    times_that_day: list[float] = field(default_factory=list)


class Course:
    """One stream, and its rhythm as it was known on each day.

    Args:
        slots: in which something came.
    """

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = slots
        self._known: dict[int, Rhythm | None] = {}

    def learned_from(self, slot: int) -> Sequence[int]:
        """What was known when this day began."""
        day = slot // DAY * DAY
        begin = bisect_left(self.slots, day - WEEKS_LEARNED * WEEK)
        return self.slots[begin : bisect_left(self.slots, day)]

    def rhythm(self, slot: int) -> Rhythm | None:
        """As learned when this day began."""
        day = slot // DAY * DAY
        if day not in self._known:
            self._known[day] = learn(self.learned_from(slot))
        return self._known[day]

    def last(self, slot: int) -> int:
        """The newest slot up to this one in which something came; 0: none."""
        place = bisect_right(self.slots, slot)
        return self.slots[place - 1] if place else 0

    def next(self, slot: int) -> int | None:
        """The first slot after this one in which something comes."""
        place = bisect_right(self.slots, slot)
        return self.slots[place] if place < len(self.slots) else None

    def found_after(self, death: int) -> int | None:
        """Slots until a silence from ``death`` on is no longer explained; ``None``: no rhythm."""
        last = self.last(death) or death
        rhythm = self.rhythm(last)
        if rhythm is None:
            return None
        return max(1, _unexplained(rhythm, last, last + 60 * WEEK) - death)

    def usual_gap(self, begin: int, length: int, death: int) -> float:
        """The longest gap that touches the same stretch of the weeks before, their median.

        What comes after ``death`` is not known: a gap that lasts then is as long as it is.
        """
        longest = []
        for number in range(1, USUAL_WEEKS + 1):
            start = begin - number * WEEK
            if not self.slots or start < self.slots[0]:
                break  # nothing is known of what came before
            first = max(0, bisect_right(self.slots, start) - 1)
            some = self.slots[first : bisect_right(self.slots, min(death, start + length)) + 1]
            some = [one for one in some if one <= death]
            if some[-1] < start + length:
                some.append(min(death, start + length))
            longest.append(max((b - a for a, b in pairwise(some)), default=1))
        return median(longest or [1])


def _unexplained(rhythm: Rhythm, last: int, end: int) -> int:
    """The first slot in which a silence since ``last`` is no longer explained; ``end`` at most."""
    low, high = last, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_explained(rhythm, last, middle) else (low, middle)
    return high


class Played:
    """The incidents of one source while time goes on.

    Args:
        slots: event type -> slots in which something came; the empty text: anything.
    """

    def __init__(self, slots: dict[str, list[int]]) -> None:
        self._courses = {Key("news", name): Course(some) for name, some in slots.items()}
        self._held: dict[Key, Held] = {}
        self._resumed = 0
        self._learned = -1

    def records(self, begin: int, end: int) -> list[Record]:
        """What is told in these slots."""
        told, slot = [], begin
        while slot < end:
            told += self.look(slot * SLOT_US)
            slot = self._next(slot, end)
        return told

    def look(self, now_us: int) -> list[Record]:
        """One look."""
        slot = now_us // SLOT_US
        if slot // DAY != self._learned:
            self._learn(slot)
        streams = {
            key: Stream(course.rhythm(slot), course.last(slot) * SLOT_US,
                        self._resumed if key.event_type else 0)
            for key, course in self._courses.items() if course.last(slot)
        }  # fmt: skip
        told, self._held = look(streams, self._held, now_us)
        for record in told:
            if record["resumed_at"] and not record["event_type"]:
                self._resumed = record["resumed_at"]
        return told

    def _learn(self, slot: int) -> None:
        self._learned = slot // DAY
        whole = self._courses[Key("news", WHOLE)]
        rhythm = whole.rhythm(slot)
        if rhythm is not None:
            ended = resumed(rhythm, whole.learned_from(slot)) * SLOT_US
            self._resumed = max(self._resumed, ended)

    def _next(self, slot: int, end: int) -> int:
        """The next slot in which a look may tell something."""
        tomorrow = (slot // DAY + 1) * DAY
        return min(end, tomorrow, *(self._next_of(key, slot, tomorrow) for key in self._courses))

    def _next_of(self, key: Key, slot: int, tomorrow: int) -> int:
        course = self._courses[key]
        if key in self._held:
            return course.next(slot) or tomorrow
        if key.event_type and Key("news", WHOLE) in self._held:
            return tomorrow
        rhythm = course.rhythm(slot)
        if rhythm is None:
            return tomorrow
        for last, after in self._gaps(course, slot, tomorrow):
            judged_from = max(last, self._resumed // SLOT_US if key.event_type else 0)
            if not is_explained(rhythm, judged_from, after - 1):
                return max(slot + 1, _unexplained(rhythm, judged_from, after - 1))
        return tomorrow

    def _gaps(self, course: Course, slot: int, tomorrow: int) -> Iterator[tuple[int, int]]:
        """The gaps after a slot, up to the end of its day."""
        last = course.last(slot)
        while last and last < tomorrow:
            after = min(course.next(last) or tomorrow, tomorrow)
            if after > slot + 1:
                yield last, after
            last = after


def judge(kind: str, number: int, streams: Sequence[str] | None = None) -> Outcome:
    """One month of a source, after 13 weeks of it; ``streams``: only these event types."""
    source = simulate(kind, number, WEEKS_LEARNED + 5, BEGIN)
    draw = random.Random(f"deaths {kind} {number}")
    begin = BEGIN + WEEKS_LEARNED * WEEK
    slots = {
        name: some for name, some in source.slots.items() if streams is None or name in streams
    }
    told = Played(slots).records(begin, begin + 30 * DAY)
    out = Outcome([sum(one["state"] == OPENED for one in told)])
    for name, some in slots.items():
        course = Course(some)
        for _ in range(DEATHS):
            death = draw.randrange(begin, begin + 30 * DAY)
            found = course.found_after(death)
            if found is not None:
                out.found.append(found)
                usual = course.usual_gap(death - WEEK // 2, WEEK, death)
                out.times_usual.append(found / usual)
                if not name:
                    out.times_that_day.append(found / course.usual_gap(death, DAY, death))
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
