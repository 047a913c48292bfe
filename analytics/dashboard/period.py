"""The period that a page shows, and the steps of its charts.

Invariants:
1. Pure: the present time is an argument.
2. A period consists of whole minutes, like the counts; its end is exclusive.
3. The previous period has the same length and ends where the period begins.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.errors import BadInput

MINUTE_S = 60
DAY_S = 86_400
LENGTHS_S: dict[str, int] = {
    "1h": 3_600, "24h": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S, "90d": 90 * DAY_S,
    "all": 3_650 * DAY_S,
}  # fmt: skip
"""Periods that end now, by name, seconds. «all» is ten years."""
DEFAULT = "7d"
_STEPS_S = (60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, DAY_S, 7 * DAY_S)
_CUSTOM = re.compile(r"(\d{9,11})-(\d{9,11})")


@dataclass(frozen=True, slots=True)
class Period:
    """A period.

    Attributes:
        name: as in the page's URL: a key of ``LENGTHS_S``, or ``FROM-TO`` in seconds.
        start_s: seconds since 1970.
        end_s: the same, exclusive.
    """

    name: str
    start_s: int
    end_s: int

    @property
    def previous_s(self) -> int:
        """First second of the previous period."""
        return 2 * self.start_s - self.end_s

    def previous(self) -> "Period":
        """The previous period, of the same length."""
        return Period(self.name, self.previous_s, self.start_s)

    def step_s(self, first_s: int, steps_max: int) -> int:
        """Shortest step with which the time from ``first_s`` on has at most ``steps_max`` steps."""
        length = max(MINUTE_S, self.end_s - max(self.start_s, first_s))
        return next((step for step in _STEPS_S if length <= step * steps_max), _STEPS_S[-1])


def parse(name: str, now_s: float) -> Period:
    """The period of that name.

    Args:
        name: a key of ``LENGTHS_S``, or ``FROM-TO`` in seconds since 1970.
        now_s: seconds since 1970. A named period ends with the present minute.

    Raises:
        BadInput: neither of the two, or it ends before it begins.
    """
    if name in LENGTHS_S:
        end = (int(now_s) // MINUTE_S + 1) * MINUTE_S
        return Period(name, end - LENGTHS_S[name], end)
    matched = _CUSTOM.fullmatch(name)
    if matched is None:
        raise BadInput("bad_range", f"one of {', '.join(LENGTHS_S)}, or FROM-TO in seconds")
    start = int(matched[1]) // MINUTE_S * MINUTE_S
    end = -(-int(matched[2]) // MINUTE_S) * MINUTE_S
    if not 0 < end - start <= LENGTHS_S["all"]:
        raise BadInput("bad_range", "FROM must be before TO, by ten years at most")
    return Period(f"{start}-{end}", start, end)


def utc(seconds: int) -> datetime:
    """A time as a query parameter, UTC."""
    return datetime.fromtimestamp(seconds, UTC)
