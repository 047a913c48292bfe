"""Distributions of delays, in seconds, and the rhythm of a day."""

import math
import random
from dataclasses import dataclass
from typing import Protocol


class Delay(Protocol):
    """A distribution of delays."""

    def draw(self, dice: random.Random) -> float:
        """One delay in seconds, above 0."""


@dataclass(frozen=True)
class LogNormal:
    """By median and standard deviation of the logarithm."""

    median_s: float
    sigma: float

    def draw(self, dice: random.Random) -> float:
        """See ``Delay``."""
        return self.median_s * math.exp(self.sigma * dice.gauss(0.0, 1.0))


@dataclass(frozen=True)
class Weibull:
    """By scale and shape."""

    scale_s: float
    shape: float

    def draw(self, dice: random.Random) -> float:
        """See ``Delay``."""
        return dice.weibullvariate(self.scale_s, self.shape)

    @property
    def median_s(self) -> float:
        """Its median."""
        return self.scale_s * math.exp(math.log(math.log(2)) / self.shape)


@dataclass(frozen=True)
class LogUniform:
    """As likely in each equal ratio between two bounds."""

    low_s: float
    high_s: float

    def draw(self, dice: random.Random) -> float:
        """See ``Delay``."""
        return self.low_s * math.exp(math.log(self.high_s / self.low_s) * dice.random())


@dataclass(frozen=True)
class Mixture:
    """One of two: ``first`` with the probability ``share``."""

    share: float
    first: Delay
    second: Delay

    def draw(self, dice: random.Random) -> float:
        """See ``Delay``."""
        return (self.first if dice.random() < self.share else self.second).draw(dice)


HOURS = (
    0.25, 0.15, 0.10, 0.10, 0.15, 0.30, 0.55, 0.80, 0.95, 1.00, 1.00, 0.95,
    0.90, 0.90, 0.90, 0.85, 0.80, 0.80, 0.80, 0.80, 0.80, 0.75, 0.60, 0.40,
)  # fmt: skip
"""How ready people are to read mail in each hour of their day, against the busiest. That activity
follows the day and is low at night: Karagiannis & Vojnovic, WWW 2009. The figures are ours."""
_TRIES_MAX = 40


def by_day(delay: Delay, from_s: float, dice: random.Random) -> float:
    """A delay whose density is multiplied by the rhythm of the day.

    Args:
        delay: without the rhythm.
        from_s: when it begins, in seconds of local time; midnight is a multiple of 86,400.
        dice: what is drawn from.
    """
    drawn = delay.draw(dice)
    for _ in range(_TRIES_MAX):
        if dice.random() < HOURS[int((from_s + drawn) // 3600) % 24]:
            break
        drawn = delay.draw(dice)
    return drawn
