"""Sources with rhythms of their own, simulated: when something came of each event type.

Independent of ``streams.books``: sends by plan, feedback with delays, quiet nights, weekends,
one-off bursts, monthly newsletters, sources that send twice a week.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

SLOT_S = 300
HOUR = 12
DAY = 24 * HOUR
WEEK = 7 * DAY
AWAKE = tuple(1.0 if 7 <= hour < 23 else 0.08 for hour in range(24))
"""How likely people read at an hour of the day."""
SHARES = {
    "opened": 0.35, "clicked": 0.05, "bounced": 0.02, "unsubscribed": 0.002, "complained": 0.0004
}  # fmt: skip


class Simulated(NamedTuple):
    """A source.

    Attributes:
        kind: which plan it has.
        slots: event type -> slots in which something came, rising; the empty text: anything.
    """

    kind: str
    slots: dict[str, list[int]]


def _poisson(draw: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    floor, product, found = math.exp(-mean), draw.random(), 0
    while product > floor:
        product *= draw.random()
        found += 1
    return found


Plan = Callable[[random.Random, int], Iterator[tuple[int, int]]]
"""Draws and number of slots -> slots with the number of messages delivered in each."""


def _steady(per_hour: float, shape: Callable[[int, int], float]) -> Plan:
    """Transactional mail: at any time, by hour of the day and day of the week."""

    def plan(draw: random.Random, end: int) -> Iterator[tuple[int, int]]:
        for slot in range(end):
            level = shape(slot // DAY % 7, slot // HOUR % 24)
            if level and (found := _poisson(draw, per_hour * level / HOUR)):
                yield slot, found

    return plan


def _always(_day: int, _hour: int) -> float:
    return 1.0


def _nights(_day: int, hour: int) -> float:
    return 1.0 if 6 <= hour < 22 else 0.05


def _office(day: int, hour: int) -> float:
    return 1.0 if day < 5 and 8 <= hour < 18 else 0.0


def _sends(every: Callable[[random.Random, int], list[int]], size: int) -> Plan:
    """Campaigns: each goes out within an hour; ``every`` says in which slots they begin."""

    def plan(draw: random.Random, end: int) -> Iterator[tuple[int, int]]:
        for begin in sorted(every(draw, end)):
            for slot in range(begin, min(end, begin + draw.randint(6, 14))):
                yield slot, _poisson(draw, size / 10)

    return plan


def _twice_a_week(draw: random.Random, end: int) -> list[int]:
    days = draw.sample(range(6), 2)
    hour = draw.randint(7, 15)
    return [week * WEEK + day * DAY + hour * HOUR + draw.randint(0, 8)
            for week in range(end // WEEK + 1) for day in days]  # fmt: skip


def _monthly(draw: random.Random, end: int) -> list[int]:
    first = draw.randint(0, 20)
    return [(first + month * 30 + draw.randint(0, 2)) * DAY + draw.randint(8, 12) * HOUR
            for month in range(end // (30 * DAY) + 1)]  # fmt: skip


def _whenever(draw: random.Random, end: int) -> list[int]:
    begins, at = [], 0.0
    while at < end:
        at += draw.expovariate(1 / (3 * DAY))
        begins.append(int(at) // DAY * DAY + draw.randint(7, 17) * HOUR)
    return begins


def _bursts(draw: random.Random, end: int) -> list[int]:
    return [draw.randrange(end) for _ in range(end // (40 * DAY) + 1)]


def _both(one: Plan, other: Plan) -> Plan:
    def plan(draw: random.Random, end: int) -> Iterator[tuple[int, int]]:
        yield from one(draw, end)
        yield from other(draw, end)

    return plan


PLANS: dict[str, Plan] = {
    "busy": _steady(400, _nights),
    "around the clock": _steady(30, _always),
    "slow": _steady(1.0, _always),
    "quiet nights": _steady(12, _nights),
    "office hours": _steady(20, _office),
    "few in office hours": _steady(1.5, _office),
    "one-off bursts": _both(_steady(6, _nights), _sends(_bursts, 20_000)),
    "twice a week": _sends(_twice_a_week, 2_000),
    "monthly": _sends(_monthly, 5_000),
    "campaigns at any time": _sends(_whenever, 1_000),
}


def simulate(kind: str, seed: int, weeks: int, begin: int) -> Simulated:
    """A source over some weeks from slot ``begin`` on, a multiple of a week."""
    draw = random.Random(f"{kind} {seed}")
    end = weeks * WEEK
    found: dict[str, set[int]] = {name: set() for name in ("delivered", *SHARES)}
    for slot, messages in PLANS[kind](draw, end):
        if not messages:
            continue
        found["delivered"].add(slot)
        for name, share in SHARES.items():
            # more readers than this make no slot more active
            for _ in range(min(60, _poisson(draw, messages * share))):
                at = slot + _delay(draw, name)
                while at < end and draw.random() > AWAKE[at // HOUR % 24]:
                    at += HOUR
                if at < end:
                    found[name].add(at)
    every = set().union(*found.values())
    slots = {name: sorted(begin + at for at in some) for name, some in found.items()}
    return Simulated(kind, {"": sorted(begin + at for at in every), **slots})


def _delay(draw: random.Random, name: str) -> int:
    if name == "bounced":
        return draw.choice((0, 0, 0, 1, 6))
    hours = min(draw.lognormvariate(math.log(2.5), 1.5), 24 * 30)
    return int(hours * HOUR)
