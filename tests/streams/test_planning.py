"""What a replay covers, what is refused, how far it is."""

import pytest

from schemas.errors import BadInput
from streams.epochs import Epoch, History, Span
from streams.machine_rules import DEFAULT_RULES
from streams.planning import Bounds, check_reach, check_version, progress

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
def test_a_replay_lies_between_the_time_asked_for_and_what_is_committed(
    one: Bounds, span: tuple[int, int]
) -> None:
    """Never before the log, never behind the workers: what they have not read is news."""
    assert one.span == span


def test_a_time_whose_records_are_gone_is_refused_with_the_earliest_possible() -> None:
    """The partition that has lost most says how far back it goes."""
    some = {
        0: bounds(start=10, oldest_ms=T0 + 500),
        1: bounds(start=20, oldest_ms=T0 + HOUR_MS + 500),
        2: bounds(),
    }
    with pytest.raises(BadInput, match=r"earliest possible --from is 2026-09-21T15:13:21Z"):
        check_reach(some, T0)
    check_reach(some, T0 + HOUR_MS + 1000)
    check_reach({2: bounds()}, 0)


def test_rules_must_be_newer_than_those_that_hold() -> None:
    """Equal is not newer: figures could not say by which rules they are."""
    with pytest.raises(BadInput, match="raise `version`"):
        check_version(DEFAULT_RULES, DEFAULT_RULES.version)
    check_version(DEFAULT_RULES, DEFAULT_RULES.version - 1)


def test_progress_counts_only_partitions_that_went_back() -> None:
    """A committed offset from before says nothing of the replay."""
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
