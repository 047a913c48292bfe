"""Whether the difference of two rates is more than chance.

Invariants:
1. Pure. Counts in, intervals out; no rate without messages.
2. Intervals of one rate are Wilson's score intervals, of a difference of two Newcombe's hybrid of
   these (Newcombe, «Interval estimation for the difference between independent proportions»,
   Statistics in Medicine 17, 1998, method 10). Both hold for small counts and rates near 0.
3. All pairs of the compared are looked at, so each has its share of the error of 5 % (Bonferroni).
4. A difference is «real» only if it also holds where the doubt of verdicts speaks against it.
"""

from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import NormalDist

ERROR = 0.05
"""Probability that any difference is called real that is none."""


@dataclass(frozen=True, slots=True)
class Share:
    """Messages with an outcome, of all.

    Attributes:
        above: with the outcome, as far as is surely a person's.
        most: the same, if all doubtful ones were people's.
        below: all.
    """

    above: int
    most: int
    below: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How two rates differ.

    Attributes:
        ahead, behind: positions of the two among the compared; the first has the higher rate.
        points: difference of the rates, as a ratio.
        low, high: its interval, as ratios.
        verdict: «real», «doubtful» (more than chance, unless doubtful ones were people's), or
            «chance» (could be chance).
    """

    ahead: int
    behind: int
    points: float
    low: float
    high: float
    verdict: str


def interval(above: int, below: int, error: float = ERROR) -> tuple[float, float]:
    """Wilson's interval of a rate, as ratios; the whole range without messages."""
    if not below:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - error / 2)
    rate, share = above / below, z * z / below
    middle = rate + share / 2
    reach = z * sqrt(rate * (1 - rate) / below + share / (4 * below))
    low, high = (middle - reach) / (1 + share), (middle + reach) / (1 + share)
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))


def difference(
    first: tuple[int, int], second: tuple[int, int], error: float = ERROR
) -> tuple[float, float]:
    """The interval of the first rate less the second, as ratios.

    Args:
        first, second: messages with the outcome, and all.
        error: probability that the interval misses the true difference.
    """
    (a, n), (b, m) = first, second
    if not n or not m:
        return -1.0, 1.0
    (low_a, high_a), (low_b, high_b) = interval(a, n, error), interval(b, m, error)
    one, two = a / n, b / m
    return (
        one - two - sqrt((one - low_a) ** 2 + (high_b - two) ** 2),
        one - two + sqrt((high_a - one) ** 2 + (two - low_b) ** 2),
    )


def compared(shares: list[Share]) -> list[Difference]:
    """Every pair that has messages, the largest difference first."""
    known = [index for index, one in enumerate(shares) if one.below]
    pairs = list(combinations(known, 2))
    found = [_judged(shares, one, two, ERROR / len(pairs)) for one, two in pairs]
    return sorted(found, key=lambda one: (-one.points, one.ahead, one.behind))


def _judged(shares: list[Share], one: int, two: int, error: float) -> Difference:
    rates = {index: shares[index].above / shares[index].below for index in (one, two)}
    ahead, behind = (one, two) if rates[one] >= rates[two] else (two, one)
    first, second = shares[ahead], shares[behind]
    low, high = difference((first.above, first.below), (second.above, second.below), error)
    against, _ = difference((first.above, first.below), (second.most, second.below), error)
    verdict = "chance" if low <= 0 else "real" if against > 0 else "doubtful"
    return Difference(ahead, behind, rates[ahead] - rates[behind], low, high, verdict)
