"""When a partition counts as stuck."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.chunks import TP
from streams.transport.watchdog import PartitionProgress, Watchdog

TP0, TP1 = TP("in", 0), TP("in", 1)
BEHIND = PartitionProgress(committed=10, end=20)


def test_lag_without_a_commit_counts_up_to_the_limit() -> None:
    """Not a second earlier, and each partition on its own."""
    watchdog = Watchdog(limit_s=5, tick_s=1)
    idle = PartitionProgress(committed=20, end=20)
    reports = [watchdog.tick(now, {TP0: BEHIND, TP1: idle}) for now in range(7)]
    assert reports == [{}, {}, {}, {}, {}, {TP0: 5.0}, {TP0: 6.0}]


@pytest.mark.parametrize(
    "progress",
    [
        PartitionProgress(11, 20),
        PartitionProgress(10, 10),
        PartitionProgress(10, None),
        PartitionProgress(None, 0),
        PartitionProgress(12, 10),
    ],
)
def test_a_commit_or_no_lag_restarts_the_count(progress: PartitionProgress) -> None:
    """A higher commit, a log read to its end, an unknown end."""
    watchdog = Watchdog(limit_s=5, tick_s=1)
    for now in range(5):
        watchdog.tick(now, {TP0: BEHIND})
    assert watchdog.tick(5, {TP0: progress}) == {}
    assert watchdog.tick(6, {TP0: BEHIND}) == {}


def test_no_commit_at_all_counts_too() -> None:
    """A partition without any commit is as stuck as any other."""
    watchdog = Watchdog(limit_s=2, tick_s=1)
    reports = [watchdog.tick(now, {TP0: PartitionProgress(None, 3)}) for now in range(3)]
    assert reports[-1] == {TP0: 2.0}


def test_a_partition_that_was_reassigned_restarts_the_count() -> None:
    """Another worker had it in between."""
    watchdog = Watchdog(limit_s=2, tick_s=1)
    watchdog.tick(0, {TP0: BEHIND})
    watchdog.tick(1, {TP0: BEHIND})
    watchdog.tick(2, {})
    assert watchdog.tick(3, {TP0: BEHIND}) == {}


def test_a_touch_restarts_the_count() -> None:
    """A restore may take longer than the limit while it makes progress."""
    watchdog = Watchdog(limit_s=3, tick_s=1)
    for now in range(20):
        assert watchdog.tick(now, {TP0: BEHIND}) == {}
        watchdog.touch(TP0)


@given(stops=st.lists(st.floats(1, 10_000), min_size=1, max_size=5))
def test_time_in_which_the_process_was_stopped_does_not_count(stops: list[float]) -> None:
    """SIGSTOP, a suspended laptop: a jump of the clock counts as two ticks at most."""
    watchdog = Watchdog(limit_s=2 * len(stops) + 1, tick_s=1)
    now = 0.0
    watchdog.tick(now, {TP0: BEHIND})
    for stop in stops:
        now += stop
        assert watchdog.tick(now, {TP0: BEHIND}) == {}
