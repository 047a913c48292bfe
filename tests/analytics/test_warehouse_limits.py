"""Statements that exceed their limits: the decision, and the thread that acts on it."""

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.warehouse.limits import KILL_AFTER_S, Decision, Running, decide
from analytics.warehouse.watching import Watch

OBEY_S = 5.0


class Flag:
    """A flag that never changes."""

    def __init__(self, value: bool = False) -> None:
        self.value = value

    def is_set(self) -> bool:
        """Whether it is."""
        return self.value


def running(since_s: float, limit_s: float, *, gone: bool = False, tag: str = "t") -> Running:
    """A running statement."""
    return Running(tag, "id", since_s, limit_s, Flag(gone))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (running(100, 30), Decision()),
        (running(70 - KILL_AFTER_S, 30), Decision()),
        (running(69, 30), Decision(kill=("t",))),
        (running(100, 30, gone=True), Decision(kill=("t",))),
        (running(65, 30), Decision(kill=("t",))),
    ],
)
def test_what_is_over_its_limit_or_unwanted_is_killed(one: Running, expected: Decision) -> None:
    """After half a second at most; at once if its client disconnected. It is second 100."""
    assert decide([one], 100.0, OBEY_S) == expected


def test_the_process_ends_for_one_that_does_not_obey() -> None:
    """Only once it is ``obey_s_max`` past its limit."""
    one = running(64.9, 30)
    assert decide([one], 100.0, OBEY_S).disobeys is one
    assert decide([one], 99.8, OBEY_S).disobeys is None


def test_a_client_that_goes_away_ends_the_process_no_sooner() -> None:
    """Otherwise a client that connects and disconnects could end it repeatedly."""
    assert decide([running(99, 30, gone=True)], 100.0 + OBEY_S, OBEY_S).disobeys is None


@given(
    st.lists(
        st.tuples(st.floats(0, 1000), st.floats(0.1, 100), st.booleans()), min_size=1, max_size=5
    ),
    st.floats(0, 2000),
)
def test_every_statement_is_in_time_killed_or_the_end(
    seeds: list[tuple[float, float, bool]], now_s: float
) -> None:
    """There is no fourth outcome, and only the clock decides."""
    each = [
        running(since, limit, gone=gone, tag=f"t{at}")
        for at, (since, limit, gone) in enumerate(seeds)
    ]
    over = {one.tag: now_s - one.since_s - one.limit_s for one in each}
    decision = decide(each, now_s, OBEY_S)
    if max(over.values()) > OBEY_S:
        assert decision.disobeys is not None
        return
    due = {one.tag for one in each if one.gone.is_set() or over[one.tag] > KILL_AFTER_S}
    assert set(decision.kill) == due


def _never() -> None:
    raise AssertionError("it obeys")


def test_the_watch_kills_until_the_statement_is_gone() -> None:
    """Repeatedly, by its tag; counted once."""
    kills: list[str] = []
    counted: list[int] = []
    done = threading.Event()

    def kill(tags: Sequence[str]) -> None:
        kills.extend(tags)
        if len(kills) == 2:
            done.set()

    watch = Watch(kill, 60.0, _never, lambda: counted.append(1))
    try:
        with watch.over("id", 0.01, threading.Event()) as tag:
            assert done.wait(30)
        assert kills[:2] == [tag, tag]
        assert counted == [1]
        assert watch.running() == []
    finally:
        watch.close()


def test_the_watch_ends_the_process_though_killing_never_returns() -> None:
    """An engine that blocks a kill blocks nothing else."""
    ended, never = threading.Event(), threading.Event()

    def kill(_tags: Sequence[str]) -> None:
        never.wait(60)

    watch = Watch(kill, 0.6, ended.set)
    try:
        began = time.monotonic()
        with watch.over("id", 0.01, threading.Event()):
            assert ended.wait(30)
        assert time.monotonic() - began > 0.6
    finally:
        never.set()
        watch.close()


def test_a_kill_is_counted_before_its_statement_is_no_longer_running() -> None:
    """Also if the statement ends while it is being counted: whoever sees it gone sees the count."""
    counting, counted, gone = threading.Event(), [], threading.Event()

    def count() -> None:
        counting.set()
        time.sleep(0.1)  # the statement ends meanwhile
        counted.append(1)

    watch = Watch(lambda _: None, 60.0, _never, count)
    try:
        with watch.over("id", 60.0, gone):
            gone.set()
            assert counting.wait(10)
        assert not watch.running()
        assert counted == [1]
    finally:
        watch.close()
