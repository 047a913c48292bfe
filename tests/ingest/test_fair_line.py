"""The order of jobs on the thread for large bodies: a flood delays nobody else."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.fair_line import REMEMBERED_MAX, FairLine
from ingest.fair_thread import JOBS_MAX, FairThread
from schemas.errors import Unavailable

COSTS = st.lists(st.floats(0.001, 2), min_size=2, max_size=5)


@given(costs=COSTS, turns=st.integers(1, 200))
def test_everyone_who_waits_gets_the_same_share(costs: list[float], turns: int) -> None:
    """However long one's jobs take: no two differ by more than one job each."""
    line = FairLine[int](1_000)
    for number in range(len(costs)):
        for job in range(turns):
            line.push(str(number), job)
    spent = [0.0] * len(costs)
    done: Counter[str] = Counter()
    for _ in range(turns):
        taken = line.pop()
        assert taken is not None
        whose, job = taken
        assert job == done[whose]  # each one's jobs in their order
        done[whose] += 1
        line.spent(whose, costs[int(whose)])
        spent[int(whose)] += costs[int(whose)]
    assert max(spent) - min(spent) <= max(costs) + 1e-6


@given(jobs=st.integers(1, 500), before=st.integers(0, 50))
def test_who_comes_new_is_next(jobs: int, before: int) -> None:
    """With a flood of another client's jobs in the line, and after any number of them."""
    line = FairLine[str](1_000)
    for _ in range(jobs):
        line.push("flood", "f")
    for _ in range(min(before, jobs - 1)):
        assert line.pop() == ("flood", "f")
        line.spent("flood", 0.1)
    line.push("honest", "h")
    first = line.pop()
    line.spent("flood", 0.1)
    assert ("honest", "h") in (first, line.pop())


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=100),
    most=st.integers(1, 10),
)
def test_the_line_has_a_length_and_the_longest_bears_it(
    steps: list[tuple[str, bool]], most: int
) -> None:
    """Beyond it the client with most jobs loses its newest; the others stay."""
    line = FairLine[tuple[str, int]](most)
    there: dict[str, list[tuple[str, int]]] = {}
    for number, (whose, pushes) in enumerate(steps):
        if pushes:
            job = (whose, number)
            there.setdefault(whose, []).append(job)
            dropped = line.push(whose, job)
            if dropped is not None:
                assert len(there[dropped[0]]) == max(map(len, there.values()))
                assert there[dropped[0]].pop() == dropped
        else:
            taken = line.pop()
            assert (taken is None) == (not any(there.values()))
            if taken is not None:
                assert there[taken[0]].pop(0) == taken[1]
                line.spent(taken[0], 1.0)
        assert len(line) == sum(map(len, there.values())) <= most


@pytest.mark.parametrize("busy", [False, True])
def test_whoever_is_gone_is_forgotten(busy: bool) -> None:
    """Clients come and go, besides one that stays: the memory is bounded."""
    line = FairLine[int](10)
    for number in range(3 * REMEMBERED_MAX):
        line.push(f"client {number}", 0)
        if busy:
            line.push("always", 0)
        taken = line.pop()
        assert taken is not None
        line.spent(taken[0], 0.01)
    assert len(line._used_s) <= REMEMBERED_MAX
    assert len(line) <= 10


async def test_a_flood_keeps_nobody_from_the_thread() -> None:
    """Of a hundred jobs of another client, at most the one in progress and one more come first."""
    thread, gate, order = FairThread(), threading.Event(), list[str]()

    def work(whose: str) -> None:
        gate.wait(10)
        order.append(whose)
        sum(range(20_000))  # the flood's own time counts

    jobs = [thread.run("flood", lambda: work("flood"), 30) for _ in range(100)]
    flood = [asyncio.create_task(job) for job in jobs]
    await asyncio.sleep(0.01)
    honest = [
        asyncio.create_task(thread.run(f"client {n}", lambda n=n: work(f"client {n}"), 30))  # type: ignore[misc]
        for n in range(5)
    ]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*flood, *honest)
    thread.close()
    assert len(order) == 105
    assert {one for one in order[:12] if one != "flood"} == {f"client {n}" for n in range(5)}


async def test_whoever_waits_too_long_is_told_so_and_costs_nothing() -> None:
    """The job is not done any more; those behind it are."""
    thread, gate, done = FairThread(), threading.Event(), list[str]()
    first = asyncio.create_task(thread.run("a", lambda: gate.wait(10), 10))
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="waiting"):
        await thread.run("b", lambda: done.append("b"), 0.02)
    last = asyncio.create_task(thread.run("c", lambda: done.append("c"), 10))
    gate.set()
    await asyncio.gather(first, last)
    thread.close()
    assert done == ["c"]


async def test_too_many_at_once_are_refused() -> None:
    """Those of the one who has most; errors of a job are its own."""
    thread, gate = FairThread(), threading.Event()
    jobs = [
        asyncio.create_task(thread.run("flood", lambda: gate.wait(10), 10))
        for _ in range(JOBS_MAX + 11)
    ]
    await asyncio.sleep(0.01)
    broken = asyncio.create_task(thread.run("honest", lambda: 1 // 0, 10))
    await asyncio.sleep(0.01)
    gate.set()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in results) == 11
    with pytest.raises(ZeroDivisionError):
        await broken
    thread.close()


async def test_an_error_keeps_nothing_of_the_work_in_memory() -> None:
    """Neither the body nor anything else waits for the garbage collector."""
    thread = FairThread()

    class Body:
        """Stands for a large body."""

    def refuse(body: Body) -> None:
        raise ValueError

    body = Body()
    still_there = weakref.ref(body)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await thread.run("a", partial(refuse, body), 10)
        del body
        await asyncio.sleep(0.01)
        assert still_there() is None
    finally:
        gc.enable()
        thread.close()
