"""Which records a reprocessing run covers, which runs are refused, and progress."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadInput
from schemas.versions import FOLD_VERSION
from streams.classify.actor_rules import DEFAULT_RULES
from streams.cli.reprocess import progress_line, since_of
from streams.enrich.epochs import Epoch, History, Joined, Span
from streams.reprocess.plan import (
    RULES_BYTES_MAX,
    Bounds,
    PartProgress,
    RunProgress,
    by_partition,
    check_length,
    check_reach,
    check_under_way,
    check_version,
    is_begun,
    iso,
    later,
    progress,
)

HOUR_MS = 3_600_000
T0 = 1_790_000_000_000


def bounds(
    start: int = 0,
    end: int = 100,
    oldest_ms: int | None = None,
    found: int = 0,
    committed: int | None = 90,
) -> Bounds:
    """A partition with 100 records, of which the workers have read 90."""
    return Bounds(start, end, oldest_ms, found, committed)


def test_a_partition_beside_live_state_is_done_only_once_it_is_switched() -> None:
    """Its second store has everything, but its figures are those of the earlier rules still."""
    one = Epoch(1, "log", T0, T0, 3, "", (Span(0, 90), Span(10, 50)))
    history = History([one.record()])
    committed = {0: 95, 1: 60}
    assert progress(history, one, committed, {1: 30}) == RunProgress(130, 20, 1, 1)
    both = progress(history, one, committed, {0: 95, 1: 60})
    assert both == RunProgress(130, 130, 0, 2)
    assert not both.over
    history.add([one.gone_back(0, Span(0, 95)), one.gone_back(1, Span(10, 60))])
    assert progress(history, one, {0: 94, 1: 60}, {0: 95}) == RunProgress(145, 144, 0, 0)
    assert progress(history, one, committed, {}).over


def test_each_partition_is_shown_with_what_is_left_of_it() -> None:
    """Beside live events a run also has to do what came since it was announced."""
    one = Epoch(1, "log", T0, T0, 3, "", tuple(Span(10, 50) for _ in range(4)))
    history = History(
        [one.record(), one.gone_back(2, Span(10, 60)), one.gone_back(3, Span(10, 60))]
    )
    committed = {0: 55, 1: 70, 2: 59, 3: 90}
    assert by_partition(history, one, committed, {1: 30}) == [
        PartProgress(0, "waiting", 10, 10, 55),
        PartProgress(1, "beside", 10, 30, 70),
        PartProgress(2, "under way", 10, 59, 60),
        PartProgress(3, "done", 10, 60, 60),
    ]


def test_a_run_takes_the_place_of_one_that_this_release_cannot_go_on_with() -> None:
    """The workers refuse to run until then, so that one would never be over."""
    half, over = RunProgress(100, 50, 0), RunProgress(100, 100, 0)
    mine = Epoch(1, "log", T0, T0, 3, "", (Span(0, 100),))
    earlier = replace(mine, fold=FOLD_VERSION - 1)
    check_under_way(over, mine, T0)
    check_under_way(None, None, T0)
    check_under_way(half, earlier, T0)
    with pytest.raises(BadInput, match="50 of 100 records"):
        check_under_way(half, mine, T0)
    with pytest.raises(BadInput, match=f"not be after its own, {iso(T0)}"):
        check_under_way(half, earlier, T0 + 1)


@pytest.mark.parametrize(
    ("one", "span"),
    [
        (bounds(), (0, 90)),
        (bounds(found=40), (40, 90)),
        (bounds(found=95), (90, 90)),  # nothing of it was judged yet
        (bounds(start=50, found=20), (50, 90)),
        (bounds(start=7, committed=None), (7, 7)),
    ],
)
def test_a_run_lies_between_the_time_asked_for_and_what_is_committed(
    one: Bounds, span: tuple[int, int]
) -> None:
    """Never before the log's start, never beyond the workers: records they have not read are
    new."""
    assert one.span == span


def test_a_time_whose_records_are_gone_is_refused_with_the_earliest_possible() -> None:
    """The message says how far back the partition goes that has lost most."""
    some = {
        0: bounds(start=10, oldest_ms=T0 + 500),
        1: bounds(start=20, oldest_ms=T0 + HOUR_MS + 500),
        2: bounds(),
    }
    with pytest.raises(BadInput, match=r"earliest possible --from is 2026-09-21T15:13:21Z"):
        check_reach(some, T0)
    check_reach(some, T0 + HOUR_MS + 1000)
    check_reach({2: bounds()}, 0)


@pytest.mark.parametrize(
    ("one", "other", "wanted"), [(None, None, None), (3, None, 3), (None, 4, 4), (5, 4, 5)]
)
def test_the_topic_that_lost_more_limits_a_run(
    one: int | None, other: int | None, wanted: int | None
) -> None:
    """History is folded from the enriched topic: what it has lost would be counted as nothing."""
    assert later(one, other) == wanted


def test_rules_that_do_not_fit_into_a_record_are_refused() -> None:
    """By their bytes, not by their characters; thousands of fleets may be proposed."""
    check_length("x" * RULES_BYTES_MAX)
    with pytest.raises(BadInput, match="rules_too_long"):
        check_length("\u00e4" * (RULES_BYTES_MAX // 2 + 1))


def test_rules_must_be_newer_than_those_that_hold() -> None:
    """An equal version is refused: figures could not say by which rules they are."""
    with pytest.raises(BadInput, match="raise `version`"):
        check_version(DEFAULT_RULES, DEFAULT_RULES.version)
    check_version(DEFAULT_RULES, DEFAULT_RULES.version - 1)


def test_progress_counts_only_partitions_that_went_back() -> None:
    """A committed offset from before the run says nothing about it."""
    epoch = Epoch(1, "log", 1, 0, 2, "", (Span(10, 110), Span(0, 50), Span(5, 5)))
    history = History([epoch.record()])
    told = progress(history, epoch, {0: 110, 1: 50, 2: 5})
    assert (told.records, told.done, told.waiting) == (150, 0, 3)
    history.add(epoch.gone_back(0, Span(10, 130)) for _ in range(2))
    told = progress(history, epoch, {0: 60, 1: 50, 2: 5})
    assert (told.records, told.done, told.waiting) == (170, 50, 2)
    history.add([epoch.gone_back(1, Span(0, 50)), epoch.gone_back(2, Span(5, 5))])
    told = progress(history, epoch, {0: 140, 1: 50, 2: None})
    assert (told.done, told.waiting, told.over) == (170, 0, True)


@given(
    st.sampled_from(["90s", "10m", "2h", "7d", "0.3d", "1.7s", "2026-09-21T15:13:20.123Z"]),
    st.integers(T0, T0 + 10**11),
)
def test_the_same_command_again_goes_on_watching_whenever_it_is_given(
    text: str, begun_at: int
) -> None:
    """«7d» is counted from the run's start; an absolute time stays the same."""
    since = partial(since_of, text)
    epoch = Epoch(1, "log", begun_at, since(begun_at), 2, "rules", (Span(0, 5),))
    assert is_begun(epoch, "rules", since)
    assert is_begun(epoch, "rules", partial(since_of, iso(epoch.from_time)))
    assert not is_begun(epoch, "other rules", since)
    assert not is_begun(None, "rules", since)


def test_the_same_rules_with_another_time_are_refused_with_the_one_that_goes_on() -> None:
    """They can't start a second run, so the command offers to watch the first."""
    epoch = Epoch(1, "log", T0, T0 - HOUR_MS + 5, 2, "rules", (Span(0, 5),))
    with pytest.raises(BadInput, match=r"begun at 2026-09-21T14:13:20Z.*2026-09-21T13:13:20.005Z"):
        is_begun(epoch, "rules", partial(since_of, "2h"))


def test_what_an_import_had_judged_again_is_not_judged_once_more() -> None:
    """Joining it took all live records, so any time is covered; other rules are another run."""
    joined = (Joined("history-1-1", 1, (7,)),)
    epoch = Epoch(1, "log", T0, 0, 2, "rules", (Span(0, 5),), histories=joined)
    for text in ("2h", "7d", iso(0)):
        assert is_begun(epoch, "rules", partial(since_of, text))
        assert not is_begun(epoch, "other rules", partial(since_of, text))


@pytest.mark.parametrize(
    ("state", "rate", "line"),
    [
        (
            RunProgress(200, 0, 4),
            0.0,
            "0.0 % of 200 records, 0 records/s, 4 partitions wait for a worker",
        ),
        (
            RunProgress(2_000, 500, 1),
            250.0,
            "25.0 % of 2,000 records, 250 records/s, 6 s left, 1 partition waits for a worker",
        ),
        (RunProgress(2_000, 2_000, 0), 250.0, "100.0 % of 2,000 records, 250 records/s"),
        (RunProgress(0, 0, 0), 0.0, "0.0 % of 0 records, 0 records/s"),
    ],
)
def test_progress_tells_share_rate_and_what_is_left(
    state: RunProgress, rate: float, line: str
) -> None:
    """Waiting partitions do not hide the progress of others."""
    assert progress_line(state, rate) == line
