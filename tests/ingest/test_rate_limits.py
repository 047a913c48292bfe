"""Rate limits and budgets, by a clock that tests turn."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.rate_limits import (
    CLIENTS_MAX,
    QUESTIONS_MAX,
    STORE_PAUSE_S,
    STRANGERS_QUESTIONS_MAX,
    RateLimits,
    StoreCount,
    TokenBucket,
    Verdict,
    window_of,
)


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

    look = hit


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_broken_store_neither_opens_nor_closes_the_door(hangs: bool) -> None:
    """The process counts for itself, and says so."""
    errors: list[Exception] = []
    clock = Clock()
    limits = RateLimits(None, {"a": 1}, clock, Broken(hangs), errors.append)
    verdicts = [await limits.hit("a") for _ in range(2)]
    assert [v.allowed for v in verdicts if v is not None] == [True, False]
    assert len(errors) == 1  # one that failed is left alone for a moment
    clock.now += STORE_PAUSE_S + 1
    await limits.hit("a")
    assert len(errors) == 2


async def test_what_proves_nothing_uses_up_no_rate_but_its_clients_own_budget() -> None:
    """Any number of forged requests: the source's rate is whole, and another client may try."""
    clock = Clock()
    limits = RateLimits(None, {"a": 3}, clock)
    tried = 0
    for _ in range(50):
        if await limits.may_try("a", "forger") is None:
            tried += 1
            await limits.proves_nothing("a", "forger")
    assert tried == 3
    refused = await limits.may_try("a", "forger")
    assert refused is not None
    assert (refused.policy, refused.allowed) == ("unproven", False)
    assert await limits.may_try("a", "provider") is None
    verdicts = [await limits.hit("a") for _ in range(4)]
    assert [v.allowed for v in verdicts if v is not None] == [True] * 3 + [False]
    clock.now += refused.reset_s
    assert await limits.may_try("a", "forger") is None


async def test_a_source_over_its_rate_is_refused_before_anything_is_proven() -> None:
    """Looking takes nothing: as soon as there is a token again the next one may try."""
    clock = Clock()
    limits = RateLimits(None, {"a": 1}, clock)
    await limits.hit("a")
    for _ in range(5):
        refused = await limits.may_try("a", "provider")
        assert refused is not None
        assert (refused.policy, refused.reset_s) == ("source", 1)
    clock.now += 1
    assert await limits.may_try("a", "provider") is None
    verdict = await limits.hit("a")
    assert verdict is not None
    assert verdict.allowed


@pytest.mark.parametrize(
    ("rate", "source_rate", "unproven", "tries"),
    [
        (None, None, None, None),
        (None, None, 2, 2),
        (9, None, None, 9),
        (9, 4, None, 4),
        (9, 4, 6, 6),
    ],
)
async def test_the_budget_of_who_proves_nothing(
    rate: float | None, source_rate: float | None, unproven: float | None, tries: int | None
) -> None:
    """The setting, else the source's rate, else the one over all, else none."""
    limits = RateLimits(rate, {"a": source_rate}, Clock(), unproven_rate_per_s=unproven)
    assert limits.active is (tries is not None)
    allowed = 0
    for _ in range(20):
        if await limits.may_try("a", "forger") is None:
            allowed += 1
            await limits.proves_nothing("a", "forger")
    assert allowed == (20 if tries is None else tries)


@given(
    rate=st.floats(0.05, 100),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), max_size=30),
)
def test_a_forger_gets_no_more_than_the_budget(rate: float, steps: list[tuple[float, int]]) -> None:
    """Over any time, also when many tries are under way before the first has failed."""
    clock = Clock()
    limits = RateLimits(None, {"a": rate}, clock)
    quota = window_of(rate)[0]
    began = clock.now
    most_at_once = 0
    tried = 0

    async def run() -> None:
        nonlocal most_at_once, tried
        for wait, at_once in steps:
            clock.now += wait
            let_in = [True for _ in range(at_once) if await limits.may_try("a", "forger") is None]
            for _ in let_in:
                await limits.proves_nothing("a", "forger")
            tried += len(let_in)
            most_at_once = max(most_at_once, len(let_in))

    asyncio.run(run())
    # What was let in at once beyond the budget is owed, up to a window's quota.
    lent = sum(max(0, at_once - 2 * quota) for _, at_once in steps)
    assert tried <= 2 * quota + (clock.now - began) * rate + lent + 1e-6


async def test_clients_are_remembered_within_bounds() -> None:
    """The longest quiet ones are forgotten first."""
    limits = RateLimits(None, {"a": 1}, Clock())
    await limits.proves_nothing("a", "first")
    for number in range(CLIENTS_MAX):
        await limits.proves_nothing("a", f"client {number}")
    assert len(limits._clients) == CLIENTS_MAX
    assert await limits.may_try("a", "first") is None
    assert await limits.may_try("a", f"client {CLIENTS_MAX - 1}") is not None


async def test_a_shared_store_counts_what_proves_nothing_too() -> None:
    """Two processes with one store grant a forger as many tries as one; looking counts nothing."""
    store = StoreCount("async+memory://", Clock())
    processes = [RateLimits(None, {"a": 3}, Clock(), store) for _ in range(2)]
    tried = 0
    for number in range(12):
        limits = processes[number % 2]
        for _ in range(3):
            looked = await limits.may_try("a", "forger")
        if looked is None:
            tried += 1
            await limits.proves_nothing("a", "forger")
    assert tried == 3
    assert await processes[0].may_try("a", "provider") is None
    verdicts = [await processes[n % 2].hit("a") for n in range(4)]
    assert [v.allowed for v in verdicts if v is not None] == [True] * 3 + [False]


@pytest.mark.parametrize("hangs", [False, True])
async def test_without_the_store_each_process_counts_what_proves_nothing(hangs: bool) -> None:
    """As it does rates."""
    errors: list[Exception] = []
    limits = RateLimits(None, {"a": 1}, Clock(), Broken(hangs), errors.append)
    assert await limits.may_try("a", "forger") is None
    await limits.proves_nothing("a", "forger")
    assert await limits.may_try("a", "forger") is not None
    assert len(errors) == 1


@pytest.mark.parametrize("shared", [False, True])
async def test_forged_posts_of_its_address_do_not_lock_out_who_proved_something(
    shared: bool,
) -> None:
    """They are counted, and refused to who is at another address or at another source."""
    store = StoreCount("async+memory://", Clock()) if shared else None
    limits = RateLimits(None, {"a": 5, "b": 5}, Clock(), store)
    limits.proved("a", "egress")
    await limits.hit("a")
    for _ in range(50):
        for name, client in (("a", "egress"), ("b", "egress"), ("a", "stranger")):
            await limits.proves_nothing(name, client)
    for _ in range(3):
        assert await limits.may_try("a", "egress") is None
        verdict = await limits.hit("a")
        assert verdict is not None
        assert verdict.allowed
    for name, client in (("b", "egress"), ("a", "stranger")):
        refused = await limits.may_try(name, client)
        assert refused is not None
        assert refused.policy == "unproven"


async def test_who_proved_something_is_remembered_within_bounds() -> None:
    """The longest known one is forgotten first."""
    limits = RateLimits(None, {"a": 1}, Clock())
    for number in range(CLIENTS_MAX + 1):
        limits.proved("a", f"client {number}")
    for number in (0, CLIENTS_MAX):
        for _ in range(3):
            await limits.proves_nothing("a", f"client {number}")
    assert await limits.may_try("a", "client 0") is not None
    assert await limits.may_try("a", f"client {CLIENTS_MAX}") is None


class Counting:
    """A store that lets all in, or none, and says how often and how much at once it was asked."""

    def __init__(self, allows: bool = True) -> None:
        self.allows = allows
        self.asked = self.at_once = self.most_at_once = 0

    async def hit(self, bucket: TokenBucket, name: str) -> Verdict:
        """Takes a while."""
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        return Verdict(self.allows, bucket.policy, bucket.quota, bucket.window_s, 0, 1)

    look = hit


@pytest.mark.parametrize("allows", [True, False])
async def test_a_client_over_its_budget_costs_the_store_nothing(allows: bool) -> None:
    """Whether the process itself counted that, or the store said so."""
    clock = Clock()
    store = Counting(allows)
    limits = RateLimits(None, {"a": 5}, clock, store)
    for _ in range(500):
        if await limits.may_try("a", "forger") is None:
            await limits.proves_nothing("a", "forger")
    assert 1 <= store.asked <= 10
    clock.now += 1
    asked = store.asked
    await limits.may_try("a", "forger")
    assert store.asked == asked + 1


async def test_a_source_over_its_rate_costs_the_store_nothing() -> None:
    """What the process alone let in is enough to know that."""
    store = Counting()
    limits = RateLimits(None, {"a": 5}, Clock(), store)
    verdicts = [await limits.hit("a") for _ in range(100)]
    assert sum(v.allowed for v in verdicts if v is not None) == 5
    assert store.asked == 5


async def test_the_store_is_asked_a_bounded_number_of_questions_at_once() -> None:
    """Strangers by the thousand leave the questions of who proves something their places; what is
    not asked is decided here."""
    store = Counting()
    limits = RateLimits(None, {"a": 500}, Clock(), store)
    strangers = [limits.may_try("a", f"client {n}") for n in range(1_000)]
    flood = asyncio.gather(*strangers)
    await asyncio.sleep(0)
    assert store.asked == store.at_once == STRANGERS_QUESTIONS_MAX
    verdicts = await asyncio.gather(*[limits.hit("a") for _ in range(100)])
    assert store.asked == STRANGERS_QUESTIONS_MAX + QUESTIONS_MAX
    assert all(v is not None and v.allowed for v in verdicts)
    assert await flood == [None] * 1_000
    assert store.most_at_once == STRANGERS_QUESTIONS_MAX + QUESTIONS_MAX


async def test_what_the_store_refuses_costs_nothing_here() -> None:
    """Otherwise a process would refuse later what all of them together would let in."""
    store = Counting(allows=False)
    limits = RateLimits(None, {"a": 5}, Clock(), store)
    for _ in range(20):
        await limits.hit("a")
    store.allows = True
    verdicts = [await limits.hit("a") for _ in range(5)]
    assert all(v is not None and v.allowed for v in verdicts)
