"""Through which time the data is complete: lag and silence apart, and at constant cost."""

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from analytics.sink.progress import through
from schemas.topics import ENRICHED, MINUTES, RAW

NOW_MS = 1_795_000_000_000
PLACES = {topic: TopicPartition(topic, 0) for topic in (RAW, ENRICHED, MINUTES)}
offsets = st.integers(0, 3)


def told(
    committed: dict[str, int],
    ends: dict[str, int],
    stored: int,
    last_ms: int = NOW_MS - 9_000,
    before: dict[str, int] | None = None,
) -> tuple[int, int]:
    """Of one partition: through which time events and rates are complete; 0: unknown."""
    found = through(
        [0],
        {PLACES[topic]: at for topic, at in committed.items()},
        {PLACES[topic]: at for topic, at in ends.items()},
        {PLACES[ENRICHED]: stored},
        {PLACES[ENRICHED]: last_ms},
        NOW_MS,
        {PLACES[topic]: at for topic, at in (before or {}).items()},
    )
    return found.get(PLACES[ENRICHED], 0), found.get(PLACES[MINUTES], 0)


def test_a_quiet_pipeline_is_complete_through_now() -> None:
    """Nothing has come for hours, or ever: silence is no lag. It once counted as lag."""
    assert told({RAW: 7, MINUTES: 3}, {RAW: 7, ENRICHED: 5, MINUTES: 3}, 5) == (NOW_MS, NOW_MS)
    assert told({RAW: -1, MINUTES: -1}, {RAW: 0, ENRICHED: 0, MINUTES: 0}, 0) == (NOW_MS, NOW_MS)


def test_what_was_not_worked_off_is_lag() -> None:
    """By the workers, or by the sink: complete through the last record stored."""
    ends = {RAW: 7, ENRICHED: 5, MINUTES: 3}
    for committed, stored in (({RAW: 6, MINUTES: 3}, 5), ({RAW: 7, MINUTES: 3}, 4), ({}, 5)):
        assert told(committed, ends, stored)[0] == NOW_MS - 9_000
    assert told({RAW: 7, MINUTES: 2}, ends, 5)[1] == 0


@given(offsets, offsets, offsets, offsets, offsets, offsets, offsets, st.booleans())
def test_it_claims_nothing_that_is_not_so(
    worked: int, counted: int, raw: int, enriched: int, minutes: int, stored: int, ago: int,
    known: bool,
) -> None:  # fmt: skip
    """Now only when every step has reached its end; it never goes back."""
    before = {ENRICHED: NOW_MS - 5_000, MINUTES: NOW_MS - 5_000} if known else {}
    events, rates = told(
        {RAW: worked, MINUTES: counted}, {RAW: raw, ENRICHED: enriched, MINUTES: minutes}, stored,
        NOW_MS - ago * 4_000 - 1, before,
    )  # fmt: skip
    assert (events == NOW_MS) == (worked >= raw and stored >= enriched)
    assert (rates == NOW_MS) == (worked >= raw and counted >= minutes)
    assert events >= before.get(ENRICHED, 0)
    assert rates >= before.get(MINUTES, 0)
