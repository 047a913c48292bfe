"""Checkpoints come in rounds whose number does not grow with the partitions (pure)."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.transport.chunks import TP
from streams.worker.pace import (
    BEHIND_S,
    BEHIND_TIMES,
    FEW_RECORDS,
    Standing,
    due,
    lag_of,
    pause_s,
)

INTERVAL_S = 1.0
RECORDS_MAX = 50_000

standings = st.lists(
    st.builds(
        Standing,
        st.builds(TP, st.just("t"), st.integers(0, 1_000)),
        st.integers(0, 30_000),
        st.floats(0, 30),
        st.floats(0, 10),
    ),
    unique_by=lambda standing: standing.tp,
    max_size=30,
)


def wait_of(standing: Standing, records: int) -> float:
    """How long this one may wait, said anew."""
    wait_s = INTERVAL_S / 2 if records <= FEW_RECORDS else INTERVAL_S
    return wait_s * BEHIND_TIMES if standing.lag_s > BEHIND_S else wait_s


@given(standings)
def test_nobody_waits_too_long_and_no_round_is_early(given_: list[Standing]) -> None:
    """Those that are left have time; those that take part had at least half of their wait."""
    records = sum(one.records for one in given_)
    now = due(given_, INTERVAL_S, RECORDS_MAX)
    assert len(set(now)) == len(now)
    if records >= RECORDS_MAX:
        assert set(now) == {one.tp for one in given_ if one.records}
        return
    for one in given_:
        share = one.age_s / wait_of(one, records)
        assert one.tp in now if share >= 1 else one.tp not in now or share >= 0.5
    assert not now or any(one.age_s >= wait_of(one, records) for one in given_)


def rounds(partitions: int, per_s: int, lag_s: float, seconds: int) -> int:
    """Rounds of a worker that reads ``per_s`` records over all partitions, looked at as it does."""
    dice = random.Random(partitions)
    since = {TP("t", number): -dice.random() * INTERVAL_S / 2 for number in range(partitions)}
    read = dict.fromkeys(since, 0)
    found, tick_ms = 0, 50
    for now_ms in range(0, seconds * 1000, tick_ms):
        for _ in range(per_s * tick_ms // 1000 // 100):  # in chunks of 100
            read[dice.choice(list(read))] += 100
        state = [Standing(tp, read[tp], now_ms / 1000 - since[tp], lag_s) for tp in since]
        some = due(state, INTERVAL_S, RECORDS_MAX)
        found += bool(some)
        for tp in some:
            since[tp], read[tp] = now_ms / 1000, 0
    return found


def test_the_number_of_rounds_does_not_grow_with_partitions() -> None:
    """Partitions that were opened at different times soon share their rounds."""
    for per_s, lag_s in ((1_000, 0.0), (20_000, 0.0), (4_000, 60.0)):
        few = rounds(1, per_s, lag_s, 60)
        assert few > 1
        for partitions in (4, 24, 96):
            assert rounds(partitions, per_s, lag_s, 60) <= few + 3


def test_what_is_not_stored_is_bounded_for_all_partitions_together() -> None:
    """However many there are, and however far behind."""
    for partitions in (1, 96):
        each = RECORDS_MAX // partitions + 1
        behind = [Standing(TP("t", number), each, 0.1, 3_600.0) for number in range(partitions)]
        assert len(due(behind, INTERVAL_S, RECORDS_MAX)) == partitions


def test_a_partition_at_its_end_does_not_wait_with_those_that_are_behind() -> None:
    """Its counts are fresh news."""
    at_end = Standing(TP("t", 0), 3_000, INTERVAL_S, 0.0)
    behind = Standing(TP("t", 1), 3_000, INTERVAL_S, 60.0)
    assert due([at_end, behind], INTERVAL_S, RECORDS_MAX) == [at_end.tp]


def test_an_old_record_at_the_end_of_the_log_is_no_lag() -> None:
    """As after a time in ingress's spool."""
    assert lag_of(3_600.0, 0) == 0.0
    assert lag_of(3_600.0, 1) == 3_600.0
    assert lag_of(-5.0, 1) == 0.0  # a producer's clock that is ahead


@given(st.floats(0, 100), st.floats(0.01, 1), st.floats(0.01, 5), st.floats(0.01, 60))
def test_a_pause_keeps_to_its_share(
    cost_s: float, share_max: float, least_s: float, most_s: float
) -> None:
    """Unless the longest pause forbids it."""
    pause = pause_s(cost_s, share_max, least_s, most_s)
    assert least_s <= pause <= max(least_s, most_s)
    assert cost_s <= share_max * pause * 1.000001 or pause >= most_s
