"""Delays are drawn from the distributions that they are named after."""

import random
import statistics

import pytest

from tests.verdicts import parameters as p
from tests.verdicts.delays import HOURS, Delay, LogNormal, LogUniform, Mixture, Weibull, by_day

NOON_S = 12 * 3600.0


def drawn(delay: Delay, number: int = 40_000) -> list[float]:
    dice = random.Random(7)
    return [delay.draw(dice) for _ in range(number)]


@pytest.mark.parametrize("delay", [LogNormal(48.0, 0.44), LogNormal(9.0, 2.6), Weibull(600, 0.42)])
def test_the_median_is_the_distributions(delay: LogNormal | Weibull) -> None:
    """Within 5 %."""
    assert statistics.median(drawn(delay)) == pytest.approx(delay.median_s, rel=0.05)


@pytest.mark.parametrize(
    ("delay", "published"),
    [
        (p.OPEN_DELAYS["lognormal"][0], {10: 0.0008, 60: 0.009, 300: 0.047}),
        (p.OPEN_DELAYS["weibull"][0], {10: 0.020, 60: 0.046}),
        (p.OPEN_DELAYS["lognormal"][1], {3_600: 0.111, 21_600: 0.518, 86_400: 0.789}),
        (p.OPEN_DELAYS["weibull"][1], {3_600: 0.33, 21_600: 0.53, 86_400: 0.78}),
        (p.OPEN_DELAYS["lognormal"][3], {3_600: 0.27, 10_800: 0.50, 21_600: 0.61}),
    ],
)
def test_people_open_when_they_were_measured_to(delay: Delay, published: dict[int, float]) -> None:
    """Shares that have opened after so many seconds, within what the fit leaves."""
    delays = drawn(delay)
    for second, share in published.items():
        opened = sum(one < second for one in delays) / len(delays)
        assert opened == pytest.approx(share, rel=0.2, abs=0.0006), second


def test_a_mixture_draws_each_as_often_as_its_share_says() -> None:
    """The parts lie apart here."""
    delays = drawn(Mixture(0.3, LogUniform(1, 2), LogUniform(10, 1000)))
    assert sum(one < 5 for one in delays) / len(delays) == pytest.approx(0.3, abs=0.01)
    long = [one for one in delays if one > 5]
    assert min(long) >= 10
    assert max(long) <= 1000
    assert statistics.median(long) == pytest.approx(100, rel=0.05)


def test_the_day_has_its_rhythm() -> None:
    """Uniform delays over a day, then in each hour as the curve says."""

    class Uniform:
        def draw(self, dice: random.Random) -> float:
            return dice.random() * 86_400

    dice = random.Random(7)
    hours = [0] * 24
    for _ in range(40_000):
        hours[int((NOON_S + by_day(Uniform(), NOON_S, dice)) // 3600) % 24] += 1
    for hour, share in enumerate(HOURS):
        assert hours[hour] / 40_000 == pytest.approx(share / sum(HOURS), rel=0.15), hour
