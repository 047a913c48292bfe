"""Rhythms: what is a silence, and what only a quiet night. Over simulated sources in small form;
``python -m tests.bench --only silence`` is the long one."""

from itertools import pairwise
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.books.rhythm import (
    CLOCK_MAX,
    DAYS_MIN,
    SLOTS_MIN,
    WEEK_SLOTS,
    Rhythm,
    is_explained,
    learn,
    passed,
    resumed,
    silence,
)
from tests.streams.silence_proof import BEGIN as PROOF_BEGIN
from tests.streams.silence_proof import WEEKS_LEARNED, Played, judge
from tests.streams.silent_sources import simulate

HOUR, DAY = 12, 288
BEGIN = 2_900 * WEEK_SLOTS
"""A Thursday, midnight."""


def _weeks(number: int, *, hours: range = range(8, 18), days: range = range(7)) -> list[int]:
    """Something in each slot of these hours of these days; day 0 is the first of a week here."""
    return [
        BEGIN + week * WEEK_SLOTS + day * DAY + hour * HOUR + slot
        for week in range(number)
        for day in days
        for hour in hours
        for slot in range(HOUR)
    ]


def _known(slots: list[int]) -> Rhythm:
    rhythm = learn(slots)
    assert rhythm is not None
    return rhythm


def test_nothing_is_judged_before_enough_is_known() -> None:
    """Neither of nothing, nor of two weeks less a day, nor of a burst and another long after."""
    assert learn([]) is None
    assert learn(_weeks(1)) is None
    assert learn([one for one in _weeks(3) if one < BEGIN + (DAYS_MIN - 1) * DAY]) is None
    assert learn([*range(BEGIN, BEGIN + 50), BEGIN + 9 * WEEK_SLOTS]) is None
    assert learn(_weeks(4)) is not None


def test_a_night_is_explained_and_the_same_time_by_day_is_not() -> None:
    """It is two hours past the usual begin that a silence shows, and by day within the hour."""
    rhythm = _known(_weeks(6))
    monday = BEGIN + 6 * WEEK_SLOTS + 4 * DAY
    evening = monday + 18 * HOUR - 1
    assert is_explained(rhythm, evening, monday + DAY + 8 * HOUR)
    assert not is_explained(rhythm, evening, monday + DAY + 11 * HOUR)
    noon = monday + 12 * HOUR
    assert is_explained(rhythm, noon, noon + SLOTS_MIN - 1)
    assert not is_explained(rhythm, noon, noon + 3 * HOUR)


def test_a_weekend_is_explained_and_a_silent_monday_is_not() -> None:
    """Of a source in office hours of five days, 62 hours are usual."""
    rhythm = _known(_weeks(6, days=range(5)))
    friday = BEGIN + 6 * WEEK_SLOTS + 4 * DAY + 18 * HOUR - 1
    monday = BEGIN + 7 * WEEK_SLOTS
    assert is_explained(rhythm, friday, monday + 8 * HOUR + 1)
    assert not is_explained(rhythm, friday, monday + 12 * HOUR)


def test_one_outage_in_the_past_makes_nobody_patient() -> None:
    """Two days without anything, four weeks ago: a silence by day is found all the same."""
    outage = range(BEGIN + 3 * WEEK_SLOTS + DAY, BEGIN + 3 * WEEK_SLOTS + 3 * DAY)
    rhythm = _known([one for one in _weeks(7) if one not in outage])
    noon = BEGIN + 7 * WEEK_SLOTS + 12 * HOUR
    assert not is_explained(rhythm, noon, noon + 4 * HOUR)


def test_the_end_of_the_last_silence_is_known() -> None:
    """From what is stored, so that a process that starts knows it too."""
    slots = _weeks(7)
    assert resumed(_known(slots), slots) == 0
    outage = range(BEGIN + 3 * WEEK_SLOTS + DAY, BEGIN + 3 * WEEK_SLOTS + 3 * DAY + 9 * HOUR)
    slots = [one for one in slots if one not in outage]
    assert resumed(_known(slots), slots) == outage.stop


def test_who_always_sends_is_silent_after_minutes() -> None:
    """Even one that never pauses is given twenty."""
    rhythm = _known(_weeks(5, hours=range(24)))
    assert is_explained(rhythm, BEGIN, BEGIN + SLOTS_MIN - 1)
    assert not is_explained(rhythm, BEGIN, BEGIN + SLOTS_MIN)


_SLOTS = st.sets(st.integers(0, 6 * WEEK_SLOTS), min_size=3, max_size=80).map(
    lambda found: [BEGIN, *(BEGIN + 1 + one for one in sorted(found)), BEGIN + 7 * WEEK_SLOTS]
)


@given(slots=_SLOTS, weeks=st.integers(1, 60), begin=st.integers(0, WEEK_SLOTS),
       lengths=st.lists(st.integers(0, 3 * WEEK_SLOTS), min_size=2, max_size=6))  # fmt: skip
def test_laws(slots: list[int], weeks: int, begin: int, lengths: list[int]) -> None:
    """Whole weeks later all is the same; a longer silence is never better explained."""
    rhythm, later = learn(slots), learn([one + weeks * WEEK_SLOTS for one in slots])
    assert (rhythm is None) == (later is None)
    if rhythm is None or later is None:
        return
    assert later.through == pytest.approx(rhythm.through)
    assert later.patience == pytest.approx(rhythm.patience, rel=1e-6)
    last = slots[-1] + begin
    sizes = [silence(rhythm, last, last + length) for length in sorted(lengths)]
    assert sizes == sorted(sizes)
    judged = [is_explained(rhythm, last, last + length) for length in sorted(lengths)]
    assert judged == sorted(judged, reverse=True)
    until = passed(rhythm, last, rhythm.patience)
    assert silence(rhythm, last, last + until) >= rhythm.patience * (1 - 1e-6)
    assert silence(rhythm, last, last + until - 1) <= rhythm.patience * (1 + 1e-6)


def test_simulated_sources_have_few_false_alarms_and_silences_are_found() -> None:
    """A month of each: at most one false alarm on average, and found within three usual gaps."""
    kinds = ("around the clock", "few in office hours", "twice a week", "monthly")
    outcomes = [judge(kind, 1, ("", "delivered", "opened")) for kind in kinds]
    assert mean(one for outcome in outcomes for one in outcome.false_alarms) <= 1
    for kind, outcome in zip(kinds, outcomes, strict=True):
        assert outcome.found, kind
        assert median(outcome.times_usual) <= 3, kind
    times = [one for outcome in outcomes for one in outcome.times_usual]
    assert sum(one <= 3 for one in times) >= 0.9 * len(times)


@pytest.mark.parametrize("kind", ["few in office hours", "campaigns at any time"])
def test_the_proof_looks_at_every_slot_in_which_something_can_be_told(kind: str) -> None:
    """What it tells by looking now and then is what looking each minute tells."""
    slots = simulate(kind, 3, WEEKS_LEARNED + 4, PROOF_BEGIN).slots
    begin = PROOF_BEGIN + WEEKS_LEARNED * WEEK_SLOTS
    end = begin + 13 * DAY
    # silent for some days, and one of its events for more
    kept = {name: [one for one in some if not begin + 3 * DAY < one < begin + 8 * DAY]
            for name, some in slots.items() if name in ("", "delivered", "opened")}  # fmt: skip
    kept["opened"] = [one for one in kept["opened"] if not begin < one < begin + 12 * DAY]
    told = Played(kept).records(begin, end)
    each_minute = Played(kept)
    wanted = []
    for minute in range(begin * 5, end * 5):
        wanted += each_minute.look(minute * 60_000_000)
    assert told == wanted
    assert {one["event_type"] for one in told} >= {"", "opened"}


def test_a_silence_is_never_explained_for_much_longer_than_the_usual_gap_by_the_clock() -> None:
    """Of a source that sends now and then at any time, whose activity says little."""
    for number in range(4):
        slots = simulate("campaigns at any time", number, WEEKS_LEARNED, PROOF_BEGIN).slots[""]
        rhythm = _known(slots)
        weeks = [slots[-1] - number * WEEK_SLOTS for number in range(9)]
        longest = [
            max(after - before for before, after in pairwise(slots)
                if after > first and before <= last)
            for last, first in pairwise(weeks)
        ]  # fmt: skip
        patience = passed(rhythm, slots[-1], rhythm.patience)
        usual = median(longest)
        assert not is_explained(rhythm, slots[-1], slots[-1] + int(CLOCK_MAX * usual) + 1)
        assert is_explained(
            rhythm, slots[-1], slots[-1] + min(patience, int(CLOCK_MAX * usual)) - 1
        )
