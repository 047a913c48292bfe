"""Intervals of rates and of their differences, against published figures and simulated sends."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.dashboard.significance import ERROR, Share, compared, difference, interval


@pytest.mark.parametrize(
    ("above", "below", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones(above: int, below: int, low: float, high: float) -> None:
    """Newcombe, «Two-sided confidence intervals for the single proportion», Statistics in Medicine
    17, 1998, table I, method 3."""
    assert interval(above, below) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_differences_are_the_published_ones(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe, «Interval estimation for the difference between independent proportions»,
    Statistics in Medicine 17, 1998, table II, method 10."""
    assert difference(first, second) == pytest.approx((low, high), abs=5e-5)


counts = st.integers(0, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts)
def test_an_interval_holds_what_was_seen(first: tuple[int, int], second: tuple[int, int]) -> None:
    """It lies in [0, 1], around the rate; that of a difference turns with the order of the two."""
    low, high = interval(*first)
    assert 0 <= low <= high <= 1
    if first[1]:
        assert low <= first[0] / first[1] <= high
    there, back = difference(first, second), difference(second, first)
    assert there == pytest.approx((-back[1], -back[0]))


def test_equal_campaigns_are_seldom_told_apart() -> None:
    """Of 1,500 pages with four campaigns of one rate, at most one in twenty shows a difference."""
    dice, wrong = random.Random(7), 0
    for _ in range(1_500):
        shares = [
            Share(count, count, 400)
            for count in (sum(dice.random() < 0.2 for _ in range(400)) for _ in range(4))
        ]
        wrong += any(one.verdict == "real" for one in compared(shares))
    assert wrong / 1_500 <= ERROR


def test_a_difference_that_doubt_could_explain_is_not_real() -> None:
    """With all doubtful opens of the one behind counted as people's, nothing may be left of it."""
    clear = Share(3_000, 3_000, 10_000)
    doubtful = Share(2_500, 3_100, 10_000)
    [found] = compared([doubtful, clear])
    assert (found.ahead, found.behind, found.verdict) == (1, 0, "doubtful")
    [found] = compared([Share(2_500, 2_550, 10_000), clear])
    assert found.verdict == "real"
    [found] = compared([Share(2_950, 2_950, 10_000), clear])
    assert found.verdict == "chance"


def test_what_has_no_messages_is_compared_with_nothing() -> None:
    """And three that have some make three pairs."""
    assert compared([Share(0, 0, 0), Share(1, 1, 2)]) == []
    assert len(compared([Share(1, 1, 9), Share(0, 0, 0), Share(2, 2, 9), Share(3, 3, 9)])) == 3
