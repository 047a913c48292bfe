"""The period that a page shows, and the steps of its charts.

Invariants:
1. Pure: the present time is an argument.
2. A period consists of whole minutes, like the counts; its end is exclusive. One that ends now is
   as many whole minutes as its name says, and the running one.
3. The previous period has the same length and ends where the period begins. «all» has none: it is
   all that is stored, as in ``campaign_summary``, also what a provider's clock dates ahead.
"""

import re
from dataclasses import dataclass

from schemas.errors import BadInput

MINUTE_S, HOUR_S = 60, 3_600
DAY_S = 86_400
ALL = "all"
LENGTHS_S: dict[str, int] = {
    "1h": 3_600, "24h": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S, "90d": 90 * DAY_S,
}  # fmt: skip
"""Periods that end now, by name, seconds."""
CUSTOM_S_MAX = 3_650 * DAY_S
TIME_S_MAX = 2**32 - MINUTE_S
"""Exclusive end of what ClickHouse's ``DateTime`` can hold: in the year 2106."""
DEFAULT = "7d"
_STEPS_S = (60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, DAY_S, 7 * DAY_S, 28 * DAY_S)
_CUSTOM = re.compile(r"([0-9]{9,10})-([0-9]{9,10})")


@dataclass(frozen=True, slots=True)
class Period:
    """A period.

    Attributes:
        name: as in the page's URL: ``all``, a key of ``LENGTHS_S``, or ``FROM-TO`` in seconds.
        start_s: seconds since 1970.
        end_s: the same, exclusive.
    """

    name: str
    start_s: int
    end_s: int

    @property
    def previous_s(self) -> int:
        """First second of the previous period."""
        return max(0, 2 * self.start_s - self.end_s)

    @property
    def until_s(self) -> int:
        """End of what is counted, exclusive; ``end_s`` is what charts end with."""
        return TIME_S_MAX if self.name == ALL else self.end_s

    def previous(self) -> "Period":
        """The previous period, of the same length; of «all», an empty one."""
        return Period(self.name, self.previous_s, self.start_s)

    def step_s(self, first_s: int, steps_max: int) -> int:
        """Shortest step with which the time from ``first_s`` on has at most ``steps_max`` steps."""
        return _shortest(self.end_s - max(self.start_s, first_s), steps_max)


@dataclass(frozen=True, slots=True)
class Life:
    """When the events of a campaign happened, within a period; seconds since 1970.

    Attributes:
        first_s, last_s: minutes of the first and the last.
        most_from_s, most_until_s, nearly_all_s: minutes by which 5, 90 and 99 % of them had
            happened.
    """

    first_s: int
    last_s: int
    most_from_s: int
    most_until_s: int
    nearly_all_s: int

    @property
    def chart_end_s(self) -> int:
        """Where a chart ends, exclusive: before a tail that is long and has 1 % of the events."""
        end = self.last_s + MINUTE_S
        tail, body = end - self.nearly_all_s, self.nearly_all_s - self.first_s
        return self.nearly_all_s + MINUTE_S if tail > max(body, HOUR_S) else end

    def step_s(self, steps_most: int, steps_max: int) -> int:
        """Shortest step with which most of the events take at most ``steps_most`` steps, and all of
        the chart at most ``steps_max``."""
        return max(
            _shortest(self.most_until_s - self.most_from_s, steps_most),
            _shortest(self.chart_end_s - self.first_s, steps_max),
        )


def _shortest(length_s: int, steps_max: int) -> int:
    length = max(MINUTE_S, length_s)
    return next((step for step in _STEPS_S if length <= step * steps_max), _STEPS_S[-1])


def parse(name: str, now_s: float) -> Period:
    """The period of that name.

    Args:
        name: ``all``, a key of ``LENGTHS_S``, or ``FROM-TO`` in seconds since 1970.
        now_s: seconds since 1970. A named period ends with the running minute.

    Raises:
        BadInput: neither of the two, or it ends before it begins.
    """
    running = int(now_s) // MINUTE_S * MINUTE_S
    if name == ALL:
        return Period(ALL, 0, running + MINUTE_S)
    if name in LENGTHS_S:
        return Period(name, running - LENGTHS_S[name], running + MINUTE_S)
    matched = _CUSTOM.fullmatch(name)
    if matched is None:
        raise BadInput(
            "bad_range", f"period: one of {', '.join(LENGTHS_S)}, {ALL}, or FROM-TO in seconds"
        )
    start = int(matched[1]) // MINUTE_S * MINUTE_S
    end = -(-int(matched[2]) // MINUTE_S) * MINUTE_S
    if not 0 < end - start <= CUSTOM_S_MAX:
        raise BadInput("bad_range", "period: FROM must be before TO, by ten years at most")
    if end > TIME_S_MAX:
        raise BadInput("bad_range", "period: TO must be before the year 2106")
    return Period(f"{start}-{end}", start, end)
