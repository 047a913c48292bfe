"""An ingress whose clock runs ahead hides no silence, and makes none."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.books.clocks import AHEAD_US, Clocks, of_requests
from streams.books.refusals import Kind, Requests
from streams.books.silence import SLOT_US, WHOLE, Key

MINUTE_US = 60_000_000
START_US = 1_790_000_000_000_000
KEY = Key("news", "opened")
AHEADS = st.integers(0, 36 * 60)


class Stored:
    """What is stored of a stream."""

    def __init__(self) -> None:
        self.stamps: set[int] = set()

    def tells(self, stamp: int) -> bool:
        """Whether it is the newest of its five minutes."""
        slot = stamp // SLOT_US
        return all(one < stamp for one in self.stamps if one // SLOT_US == slot)

    def newest(self) -> dict[Key, int]:
        """As the query gives it."""
        return {KEY: max(self.stamps)} if self.stamps else {}

    def came(self, since_s: int) -> Mapping[Key, int]:
        """As the query gives it."""
        newest: dict[int, int] = {}
        for one in self.stamps:
            if one >= since_s * 1_000_000:
                newest[one // SLOT_US] = max(newest.get(one // SLOT_US, 0), one)
        return {KEY: sum(newest.values())}


@given(
    events=st.lists(st.tuples(st.integers(0, 600), st.sampled_from("ab")), min_size=1),
    aheads=st.tuples(AHEADS, AHEADS),
    looks=st.integers(1, 30),
)
def test_what_came_is_known_to_a_look_whatever_the_clocks_say(
    events: list[tuple[int, str]], aheads: tuple[int, int], looks: int
) -> None:
    """Of two ingress processes, each with a clock of its own, until three days after: what is
    believed is not before the last arrival, nor after the look that first could know it. Not known
    is one whose five minutes have a later stamp already, of a clock that is further ahead. Clocks
    that are right are believed to the microsecond."""
    ahead = dict(zip("ab", aheads, strict=True))
    stored, clocks = Stored(), Clocks()
    left = sorted(events)
    arrived: int | None = None
    is_right = True
    for minute in range(0, 600 + 3 * 24 * 60, looks):
        now_us = START_US + minute * MINUTE_US
        while left and left[0][0] <= minute:
            at, ingress = left.pop(0)
            is_right = is_right and ahead[ingress] == 0
            stamp = START_US + (at + ahead[ingress]) * MINUTE_US
            if stored.tells(stamp):
                arrived = max(arrived or 0, at)
            stored.stamps.add(stamp)
        found = clocks.believed(stored.newest(), stored.came, {}, now_us).get(KEY)
        if arrived is None:
            assert found is None
            continue
        assert found is not None
        last_us = START_US + arrived * MINUTE_US
        if is_right:
            assert found == max(stored.stamps)
        if max(aheads) * MINUTE_US > AHEAD_US + looks * MINUTE_US and min(aheads) == max(aheads):
            assert last_us <= found < last_us + looks * MINUTE_US
        assert last_us <= found <= now_us + AHEAD_US


def test_a_silence_goes_on_when_the_time_of_a_stamp_has_come() -> None:
    """Three hours ahead: said to have come when it was first seen, and so ever after."""
    stored, clocks = Stored(), Clocks()
    stored.stamps.add(START_US + 180 * MINUTE_US)
    for minute in range(0, 600, 5):
        now_us = START_US + minute * MINUTE_US
        assert clocks.believed(stored.newest(), stored.came, {}, now_us) == {KEY: START_US}
        assert clocks.ahead == ["news"]
    stored.stamps.add(START_US + 601 * MINUTE_US)
    now_us = START_US + 602 * MINUTE_US
    assert clocks.believed(stored.newest(), stored.came, {}, now_us) == stored.newest()
    assert clocks.ahead == []


@pytest.mark.parametrize("key", [KEY, Key("news", WHOLE)])
def test_an_open_incident_goes_on_for_who_looks_for_the_first_time(key: Key) -> None:
    """A sink that starts anew does not close it by a stamp that is ahead; the next arrival does."""
    stored, clocks = Stored(), Clocks()
    stored.stamps.add(START_US + 180 * MINUTE_US)
    open_ = {key: START_US}
    for minute in range(60, 600, 20):
        now_us = START_US + minute * MINUTE_US
        assert clocks.believed(stored.newest(), stored.came, open_, now_us) == {KEY: START_US}
    stored.stamps.add(START_US + 790 * MINUTE_US)
    now_us = START_US + 610 * MINUTE_US
    assert clocks.believed(stored.newest(), stored.came, open_, now_us) == {KEY: now_us}


def kind(since: int, until: int) -> Kind:
    """Refusals from one minute to another."""
    return Kind("unauthorized", "bad_signature", 9, START_US + since * MINUTE_US,
                START_US + until * MINUTE_US, 5, 0)  # fmt: skip


@given(AHEADS.filter(lambda minutes: minutes > 1))
def test_refusals_by_a_clock_that_is_ahead_are_told_by_ours(ahead: int) -> None:
    """Accepted until a minute before, refused since then, the newest just now."""
    told = Requests(START_US + (ahead - 31) * MINUTE_US, (kind(ahead - 30, ahead),))
    ours = Requests(START_US - 31 * MINUTE_US, (kind(-30, 0),))
    assert of_requests(told, START_US) == ours
    assert of_requests(ours, START_US) == ours


@given(AHEADS.filter(lambda minutes: minutes > 1))
def test_nothing_is_said_of_what_may_be_hidden(ahead: int) -> None:
    """Accepted in a time to come, and nothing refused after that: not that requests come."""
    assert of_requests(Requests(START_US + ahead * MINUTE_US), START_US) is None
    assert of_requests(Requests(START_US), START_US) == Requests(START_US)
