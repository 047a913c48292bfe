"""The steps of charts, and the figures of each step.

Invariants: pure; times are seconds since 1970; a step in which nothing happened has zeros.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from analytics.dashboard import steps
from analytics.dashboard.figures import added, fields, vector
from analytics.dashboard.period import DAY_S, Life, Period

COURSE_STEPS_MOST, COURSE_STEPS_MAX = 120, 300


class Steps(NamedTuple):
    """Length of a chart's steps and their begins, seconds."""

    length_s: int
    begins: list[int]


def trend_steps(stretch: Period, first_s: int, most: int, zone: ZoneInfo) -> Steps:
    """About ``most`` steps of a period, from the first minute with events on; 0: there is none."""
    step_s = stretch.step_s(first_s, most)
    start = max(stretch.start_s, first_s or stretch.end_s - step_s)
    return Steps(step_s, steps.steps(start, max(start + 1, stretch.end_s), step_s, zone))


def course_steps(stretch: Period, life: Life | None, zone: ZoneInfo) -> tuple[Steps, int]:
    """The steps of a campaign, and where its charts end: they fit when it was busy. What comes
    after that has a step a day."""
    if life is None:
        return trend_steps(stretch, 0, 1, zone), stretch.end_s
    step_s, end_s = life.step_s(COURSE_STEPS_MOST, COURSE_STEPS_MAX), life.chart_end_s
    begins = steps.steps(life.first_s, max(life.first_s + 1, end_s), step_s, zone)
    if end_s <= life.last_s:
        rest = steps.steps(end_s, life.last_s + 1, max(step_s, DAY_S), zone)
        begins += [begin for begin in (end_s, *rest) if begin > begins[-1]]
    return Steps(step_s, sorted(set(begins))), end_s


def by_step(rows: Sequence[Mapping[str, Any]], begins: Sequence[int]) -> list[list[int]]:
    """The figures of every step.

    Args:
        rows: counters by ``bucket``, a step's begin.
        begins: of the steps.
    """
    found = {int(row["bucket"]): vector(row) for row in rows}
    none = fields(added([]))
    return [fields(found[begin]) if begin in found else none for begin in begins]
