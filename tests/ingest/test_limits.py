"""Rate limits and budgets, by a clock that tests turn."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import Budget, RateLimits, StoreCount, TokenBucket, Verdict, window_of


@dataclass
class Clock:
    """Seconds, as the test says."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.05, 500),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), max_size=30),
)
def test_never_more_than_the_quota_and_the_rate(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    """Over any time: what was there at first plus what flowed in."""
    clock = Clock()
    bucket = TokenBucket("source", rate, clock)
    allowed = 0
    for wait, hits in steps:
        clock.now += wait
        allowed += sum(bucket.hit().allowed for _ in range(hits))
    assert allowed <= bucket.quota + (clock.now - 1_000) * rate + 1e-6


@given(rate=st.floats(0.05, 500))
def test_who_waits_as_told_is_let_in(rate: float) -> None:
    """``reset_s`` after a refusal is enough."""
    clock = Clock()
    bucket = TokenBucket("source", rate, clock)
    while (verdict := bucket.hit()).allowed:
        pass
    assert verdict.reset_s >= 1
    clock.now += verdict.reset_s
    assert bucket.hit().allowed


def test_a_rate_below_one_is_one_per_window() -> None:
    """Whole numbers, as the header fields want them."""
    assert window_of(0.25) == (1, 4)
    assert window_of(2.9) == (2, 1)


def test_headers_of_a_refusal() -> None:
    """Retry-After only there."""
    names = [name for name, _ in Verdict(False, "all", 5, 1, 0, 1).headers()]
    assert names == [b"ratelimit-policy", b"ratelimit", b"retry-after"]
    assert len(Verdict(True, "all", 5, 1, 4, 0).headers()) == 2


async def test_the_tightest_limit_speaks() -> None:
    """A refusal by the source's limit is not counted against all."""
    limits = RateLimits(10, {"a": 1, "b": None}, Clock())
    first = await limits.hit("a")
    assert first is not None
    assert (first.policy, first.remaining) == ("source", 0)
    for _ in range(5):
        refused = await limits.hit("a")
        assert refused is not None
        assert not refused.allowed
    other = await limits.hit("b")
    assert other is not None
    assert (other.policy, other.remaining) == ("all", 8)


async def test_without_limits_nothing_is_said() -> None:
    """And nothing is looked up."""
    limits = RateLimits(None, {"a": None}, Clock())
    assert not limits.active
    assert await limits.hit("a") is None


async def test_a_shared_store_counts_for_all_processes() -> None:
    """Two processes with one store let in as many as one."""
    store = StoreCount("async+memory://", Clock())
    processes = [RateLimits(None, {"a": 3}, Clock(), store) for _ in range(2)]
    verdicts = [await processes[n % 2].hit("a") for n in range(6)]
    assert [v.allowed for v in verdicts if v is not None] == [True] * 3 + [False] * 3


class Broken:
    """A store that is away, or hangs."""

    def __init__(self, hangs: bool) -> None:
        self.hangs = hangs

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """Fails."""
        if self.hangs:
            await asyncio.sleep(60)
        raise ConnectionError


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_broken_store_neither_opens_nor_closes_the_door(hangs: bool) -> None:
    """The process counts for itself, and says so."""
    errors: list[Exception] = []
    limits = RateLimits(None, {"a": 1}, Clock(), Broken(hangs), errors.append)
    verdicts = [await limits.hit("a") for _ in range(2)]
    assert [v.allowed for v in verdicts if v is not None] == [True, False]
    assert len(errors) == 2


@given(most=st.integers(1, 100), amounts=st.lists(st.integers(1, 150), max_size=30))
def test_a_budget_is_never_exceeded_by_two(most: int, amounts: list[int]) -> None:
    """One alone may be larger; with another under way the sum stays within."""
    budget, taken = Budget(most), []
    for amount in amounts:
        if budget.take(amount):
            taken.append(amount)
        assert sum(taken) == budget.used
        assert budget.used <= most or len(taken) == 1
        if len(taken) > 3:
            budget.give_back(taken.pop(0))
    for amount in taken:
        budget.give_back(amount)
    assert budget.used == 0
