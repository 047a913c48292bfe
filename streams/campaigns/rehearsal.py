"""Judges a campaign's past anew, to see when lines would have made incidents of it.

Invariants:
1. Pure, and with the judgement that workers use (``incidents.look``): the records are those of a
   worker that looks each minute. Minutes in which nothing can change are passed over: between
   arrivals, all but those in which a window moves on or a hold ends, while an incident is open or
   about to be.
2. The result depends on what arrived in which minute alone.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import gcd
from operator import attrgetter
from typing import NamedTuple

from schemas.glossary import COUNTER_INDEX
from streams.campaigns.incidents import Held, Key, Record, look
from streams.campaigns.lines import Lines
from streams.campaigns.measures import DAYS, SPANS, Judged
from streams.enrich.vectors import WIDTH

MINUTE_US = 60_000_000
MOVES_MIN = gcd(*(span.minutes for span in SPANS))
"""Windows move on at multiples of this alone."""
PATIENCE_MIN = (DAYS + 1) * 1440
"""After so long without anything new every window is empty."""


class Arrival(NamedTuple):
    """Counts that became known in a minute.

    Attributes:
        arrived: the minute since 1970 in which they did.
        mailbox: mailbox provider.
        minute: the minute that they belong to.
        counts: counter of the glossary -> value.
    """

    arrived: int
    mailbox: str
    minute: int
    counts: dict[str, int]


def rehearse(campaign: str, arrivals: Sequence[Arrival], lines: Lines, until: int) -> list[Record]:
    """The ``alert`` records of a campaign's past, in order; newer figures alone are left out.

    Args:
        arrivals: in any order.
        until: minute up to which it is judged.
    """
    judged, held, found = Judged(), dict[Key, Held](), list[Record]()

    def judge(minute: int) -> bool:
        """Whether it must be looked at again although nothing arrives."""
        at_us = (minute + 1) * MINUTE_US - 1
        records, changed = look(campaign, judged, held, lines, at_us)
        held.update(changed)
        found.extend(one for one in records if one["as_of"] == one["changed_at"])
        return any(not one.is_idle for one in held.values())

    ordered = sorted(arrivals, key=attrgetter("arrived"))
    groups = [(minute, list(some)) for minute, some in groupby(ordered, attrgetter("arrived"))]
    begins = [minute for minute, _ in groups[1:]] + [until]
    for (minute, some), following in zip(groups, begins, strict=False):  # none without arrivals
        for one in some:
            judged.add(one.mailbox, one.minute, _vector(one.counts))
        is_busy = judge(minute)
        stop, quiet = min(following, minute + PATIENCE_MIN), minute
        while is_busy and (quiet := _next_look(quiet, held.values(), lines)) < stop:
            is_busy = judge(quiet)
        judged.forget(minute)
    return found


def _next_look(minute: int, held: Iterable[Held], lines: Lines) -> int:
    """The first minute after ``minute`` in which something can change although nothing arrives."""
    hold = -(-lines.hold_us // MINUTE_US)
    ends = [one.pending_us // MINUTE_US + hold for one in held if one.pending]
    return min([(minute // MOVES_MIN + 1) * MOVES_MIN] + [end for end in ends if end > minute])


def _vector(counts: dict[str, int]) -> list[int]:
    out = [0] * WIDTH
    for name, value in counts.items():
        out[COUNTER_INDEX[name]] = value
    return out
