"""The rhythm of a stream of events, and whether it explains a silence.

A stream is a source, or one event type of it. Time is cut into slots of five minutes; of a stream
it is known in which slots something came.

Invariants:
1. Pure. Slots are numbers of five minutes since 1970, UTC.
2. The rhythm is the activity of each hour of the week, in slots with events, together with the
   hours beside it: people start late, and clocks are changed by an hour. What little is known is
   mixed with the mean of all hours, the more so the less regular the weeks are.
3. A silence is as long as the activity that is usual meanwhile: a quiet night or weekend is short.
   Gaps of all hours are compared by this measure, which needs no season of its own for each hour.
4. A silence is explained up to ``Rhythm.patience``: what gaps exceed once in ``1 / RISK`` months,
   by the exponential tail of the longest ones, and at least ``OVER_LONGEST`` times the longest;
   but no more than ``USUAL_MAX`` times the longest gap of a usual week, or ``CLOCK_MAX`` times by
   the clock, so that an outage in the past, or one holiday, does not make it patient for months.
5. Nothing is judged before ``DAYS_MIN`` days and ``WEEKS_MIN`` active weeks are known. The silence
   that lasts is not learned from, nor is what came before the first event.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

SLOT_S = 300
HOUR_SLOTS = 12
WEEK_HOURS = 168
WEEK_SLOTS = WEEK_HOURS * HOUR_SLOTS
WEEKS_MAX = 13
"""What a rhythm is learned from: three sends of a monthly newsletter."""
WEEKS_MIN = 3
DAYS_MIN = 14
RISK = 0.03
"""False alarms of one stream in a month, if its gaps have an exponential tail."""
OVER_LONGEST = 1.25
USUAL_MAX = 3.0
CLOCK_MAX = 2.5
"""Less, since the weeks that are known may have longer gaps than those around the silence."""
USUAL_WEEKS = 8
"""Of these the usual week is, by the clock."""
TAIL = 20
"""How many of the longest gaps say how the tail falls."""
SLOTS_MIN = 4
"""A silence of less than 20 minutes is none: providers pause for some."""
PRIOR_SLOTS = 2.0
MONTH_WEEKS = 30 / 7
YEAR_SLOTS = 52 * WEEK_SLOTS


class Rhythm(NamedTuple):
    """What was learned of a stream.

    Attributes:
        through: activity that is usual from the beginning of a week to that of each of its hours,
            in slots with events; weeks begin on Thursday, as 1970 did, UTC. One entry more than a
            week has hours.
        usual: the longest gap of a usual week, in slots with events that were usual meanwhile.
        patience: the longest silence that is explained, likewise.
        slots_max: the same by the clock, in slots of any kind.
    """

    through: tuple[float, ...]
    usual: float
    patience: float
    slots_max: int = YEAR_SLOTS


def learn(slots: Sequence[int]) -> Rhythm | None:
    """The rhythm of a stream; ``None``: too little is known to have one.

    Args:
        slots: in which something came, rising, each once; of ``WEEKS_MAX`` weeks.
    """
    if not slots or slots[-1] - slots[0] < DAYS_MIN * 24 * HOUR_SLOTS:
        return None
    if len({slot // WEEK_SLOTS for slot in slots}) < WEEKS_MIN:
        return None
    through = _through(slots)
    gaps = [
        (_at(through, after) - _at(through, before), before, after)
        for before, after in pairwise(slots)
        if after - before > 1
    ]
    if len(gaps) < 2:
        return Rhythm(through, 0.0, 0.0)
    usual = _usual(gaps, slots)
    weeks = (slots[-1] - slots[0]) / WEEK_SLOTS
    tail = _tail(sorted((size for size, *_ in gaps), reverse=True), weeks)
    slots_max = max(SLOTS_MIN, int(CLOCK_MAX * _usual_slots(slots)))
    return Rhythm(through, usual, min(tail, USUAL_MAX * usual), slots_max)


def _through(slots: Sequence[int]) -> tuple[float, ...]:
    """See ``Rhythm.through``."""
    first, last = slots[0] // HOUR_SLOTS, slots[-1] // HOUR_SLOTS
    counts = [0] * (last - first + 1)
    for slot in slots:
        counts[slot // HOUR_SLOTS - first] += 1
    seen: list[list[int]] = [[] for _ in range(WEEK_HOURS)]
    for hour, count in enumerate(counts, first):
        seen[hour % WEEK_HOURS].append(count)
    mean = len(slots) / len(counts)
    prior = PRIOR_SLOTS * _dispersion(seen)
    levels = []
    for hour in range(WEEK_HOURS):
        near = [*seen[hour - 1], *seen[hour], *seen[(hour + 1) % WEEK_HOURS]]
        levels.append((sum(near) + prior) / (len(near) + prior / mean))
    through = [0.0]
    for level in levels:
        through.append(through[-1] + level)
    return tuple(through)


def _dispersion(seen: Sequence[Sequence[int]]) -> float:
    """How much more the counts of an hour vary from week to week than chance would; 1 or more."""
    spread = total = 0.0
    for counts in seen:
        if len(counts) > 1:
            mean = sum(counts) / len(counts)
            spread += sum((count - mean) ** 2 for count in counts) / (len(counts) - 1)
            total += mean
    return max(1.0, spread / total) if total else 1.0


def _at(through: Sequence[float], slot: int) -> float:
    """Usual activity from 1970 to the beginning of a slot."""
    hours, part = divmod(slot, HOUR_SLOTS)
    weeks, hour = divmod(hours, WEEK_HOURS)
    level = through[hour + 1] - through[hour]
    return weeks * through[-1] + through[hour] + level * part / HOUR_SLOTS


def _usual(gaps: Sequence[tuple[float, int, int]], slots: Sequence[int]) -> float:
    """The median over weeks of the longest gap that touches a week."""
    first = slots[0] // WEEK_SLOTS
    longest = [0.0] * (slots[-1] // WEEK_SLOTS - first + 1)
    for size, before, after in gaps:
        for week in range(before // WEEK_SLOTS - first, after // WEEK_SLOTS - first + 1):
            longest[week] = max(longest[week], size)
    return sorted(longest)[len(longest) // 2]


def _usual_slots(slots: Sequence[int]) -> float:
    """The median over the newest ``USUAL_WEEKS`` of the longest gap that touches a week, in slots.

    Weeks are counted back from the newest slot.
    """
    newest = slots[-1]
    weeks = min(USUAL_WEEKS, (newest - slots[0]) // WEEK_SLOTS)
    longest = [1] * weeks
    for place in range(bisect_left(slots, newest - weeks * WEEK_SLOTS), len(slots)):
        before, after = slots[place - 1], slots[place]
        if place and after - before > 1:
            last = min(weeks - 1, (newest - before) // WEEK_SLOTS)
            for week in range((newest - after) // WEEK_SLOTS, last + 1):
                longest[week] = max(longest[week], after - before)
    return median(longest)


def _tail(sizes: Sequence[float], weeks: float) -> float:
    """What gaps exceed once in ``1 / RISK`` months.

    Args:
        sizes: of gaps, falling.
        weeks: in which they were.
    """
    number = min(TAIL, len(sizes) - 1)
    least = sizes[number]
    excess = sum(size - least for size in sizes[:number]) / number
    excess *= 1 + 1 / math.sqrt(number)  # one standard error of a mean of exponential sizes
    a_month = number * MONTH_WEEKS / weeks
    return max(OVER_LONGEST * sizes[0], least + excess * math.log(max(1.0, a_month / RISK)))


def silence(rhythm: Rhythm, last: int, now: int) -> float:
    """How long a silence is, in slots with events that are usual meanwhile."""
    return _at(rhythm.through, now) - _at(rhythm.through, last)


def is_explained(rhythm: Rhythm, last: int, now: int) -> bool:
    """Whether the rhythm explains that nothing came since.

    Args:
        last: slot in which something came last.
        now: the present slot.
    """
    length = now - last
    return length < SLOTS_MIN or (
        length <= rhythm.slots_max and silence(rhythm, last, now) <= rhythm.patience
    )


def resumed(rhythm: Rhythm, slots: Sequence[int]) -> int:
    """The slot that ended the last silence which is not explained; 0: there was none."""
    ends = (
        after for before, after in pairwise(slots) if not is_explained(rhythm, before, after - 1)
    )
    return max(ends, default=0)


def passed(rhythm: Rhythm, last: int, activity: float) -> int:
    """How many slots after ``last`` so much activity has become usual; a year at most."""
    most = last + YEAR_SLOTS
    low = last
    while most - low > 1:
        middle = (low + most) // 2
        if silence(rhythm, last, middle) < activity:
            low = middle
        else:
            most = middle
    return most - last
