"""The steps of a chart, in a time zone: minutes and hours by its clock, days and weeks of its days.

Invariants:
1. Pure. Times are whole seconds since 1970; a step begins with its first second.
2. Steps leave no gap and do not overlap, also where clocks are changed: a day then has 23 or 25
   hours, an hour that comes twice is two steps, and a day without a midnight begins at its first
   minute. (Zones whose clocks went back shortly after midnight, as St John's did until 2011, had
   dates that came twice; there a step may begin a date too late.)
3. Weeks begin on Monday (ISO 8601).
4. The view ``campaign_timeline`` has the same steps (tested), but for one a year on the Chatham
   Islands: their clocks are set forward from 02:45 to 03:45, and the view counts the quarter of an
   hour after that in the step from 04:00.
"""

import re
from bisect import bisect
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.errors import BadInput

DAY_S = 86_400
ZONE_DEFAULT = "UTC"
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_ZONE_CHARACTERS_MAX = 64
_SHIFT_S_MAX = 26 * 3_600
"""Further than any step is longer than its nominal length: Samoa left out a whole day in 2011."""
_MONDAY = date(1969, 12, 29).toordinal()


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        BadInput: there is none.
    """
    try:
        if len(name) <= _ZONE_CHARACTERS_MAX and _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder, or a file without a zone
        pass
    raise BadInput("bad_zone", "zone: a name of the IANA time zones, such as Europe/Vienna or UTC")


def begin_of(at_s: int, step_s: int, zone: ZoneInfo) -> int:
    """Where the step begins that a time lies in.

    Args:
        at_s: seconds since 1970.
        step_s: length, seconds: less than a day, or whole days.
        zone: whose clock and days.
    """
    local = datetime.fromtimestamp(at_s, zone)
    if step_s < DAY_S:
        begun = at_s - ((local.hour * 60 + local.minute) * 60 + local.second) % step_s
        by_clock = begun + _ahead_s(at_s, zone) - _ahead_s(begun, zone)
        if _ahead_s(by_clock, zone) == _ahead_s(begun, zone):
            return by_clock
        return _changed(begun, by_clock, zone)  # that time of the clock was left out
    days = step_s // DAY_S
    passed = local.toordinal() - _MONDAY
    return _begin_of_day(date.fromordinal(_MONDAY + passed // days * days), zone)


def steps(start_s: int, end_s: int, step_s: int, zone: ZoneInfo) -> list[int]:
    """Begins of the steps that cover a time, in order; the first may lie before ``start_s``."""
    begins = [begin_of(start_s, step_s, zone)]
    while (after := _next(begins[-1], step_s, zone)) < end_s:
        begins.append(after)
    return begins


def clock_changes(start_s: int, end_s: int, zone: ZoneInfo) -> list[tuple[int, int]]:
    """How far a zone's clock is ahead of UTC, from when on: second and difference, in order.

    The first holds at ``start_s``; then each change before ``end_s``. A change that is taken back
    within a day is not seen.
    """
    found = [(start_s, _ahead_s(start_s, zone))]
    for day in range(start_s + DAY_S, end_s + DAY_S, DAY_S):
        later = min(day, end_s)
        if _ahead_s(later, zone) != found[-1][1]:
            found.append((_changed(max(start_s, day - DAY_S), later, zone), _ahead_s(later, zone)))
    return found


def _next(begin_s: int, step_s: int, zone: ZoneInfo) -> int:
    """Where the step after the one of ``begin_s`` begins: found by halving, as begins only grow."""
    later = range(begin_s + 1, begin_s + step_s + _SHIFT_S_MAX)
    return later[bisect(later, begin_s, key=lambda at: begin_of(at, step_s, zone))]


def _changed(low: int, high: int, zone: ZoneInfo) -> int:
    """The second at which the zone's clock was set forward, after ``low``, by ``high``."""
    before = _ahead_s(low, zone)
    return (
        low + 1 + bisect(range(low + 1, high), False, key=lambda at: _ahead_s(at, zone) != before)
    )


def _ahead_s(at_s: int, zone: ZoneInfo) -> int:
    ahead = datetime.fromtimestamp(at_s, zone).utcoffset()
    assert ahead is not None
    return int(ahead.total_seconds())


def _begin_of_day(day: date, zone: ZoneInfo) -> int:
    midnight = int(datetime.combine(day, time(), zone).timestamp())
    if datetime.fromtimestamp(midnight, zone).date() == day:
        return midnight
    # the day was left out: it begins where the next one does
    return _begin_of_day(day + timedelta(days=1), zone)
