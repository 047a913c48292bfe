"""An ingress whose clock runs ahead hides no silence, and makes none."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from streams.books.clocks import AHEAD_US, Clocks, of_requests
from streams.books.refusals import Kind, Requests
from streams.books.silence import Key

MINUTE_US = 60_000_000
START_US = 1_790_000_000_000_000
KEY = Key("news", "opened")
AHEADS = st.integers(0, 36 * 60)


class Stored:
    """What is stored of a stream."""

    def __init__(self) -> None:
        self.stamps: set[int] = set()

    def newest(self) -> dict[Key, int]:
        """As the query gives it."""
        return {KEY: max(self.stamps)} if self.stamps else {}

    def came(self, since_s: int) -> Mapping[Key, int]:
        """As the query gives it."""
        return {KEY: sum(one for one in self.stamps if one >= since_s * 1_000_000)}


@given(
    events=st.lists(st.tuples(st.integers(0, 600), st.sampled_from("ab")), min_size=1),
    aheads=st.tuples(AHEADS, AHEADS),
    looks=st.integers(1, 30),
)
def test_what_came_is_known_to_a_look_whatever_the_clocks_say(
    events: list[tuple[int, str]], aheads: tuple[int, int], looks: int
) -> None:
    """Of two ingress processes, each with a clock of its own, until three days after: what is
    believed is never before the last arrival by more than a margin, nor after the look that first
    could know it. Clocks that are right are believed to the microsecond."""
    ahead = dict(zip("ab", aheads, strict=True))
    stored, clocks = Stored(), Clocks()
    left = sorted(events)
    arrived: int | None = None
    is_right = True
    for minute in range(0, 600 + 3 * 24 * 60, looks):
        now_us = START_US + minute * MINUTE_US
        while left and left[0][0] <= minute:
            at, ingress = left.pop(0)
            arrived = max(arrived or 0, at)
            is_right = is_right and ahead[ingress] == 0
            stored.stamps.add(START_US + (at + ahead[ingress]) * MINUTE_US)
        found = clocks.believed(stored.newest(), stored.came, now_us).get(KEY)
        if arrived is None:
            assert found is None
            continue
        assert found is not None
        last_us = START_US + arrived * MINUTE_US
        if is_right:
            assert found == last_us
        if max(aheads) * MINUTE_US > AHEAD_US + looks * MINUTE_US and min(aheads) == max(aheads):
            assert last_us <= found < last_us + looks * MINUTE_US
        assert last_us <= found <= now_us + AHEAD_US


def test_a_silence_goes_on_when_the_time_of_a_stamp_has_come() -> None:
    """Three hours ahead: said to have come when it was first seen, and so ever after."""
    stored, clocks = Stored(), Clocks()
    stored.stamps.add(START_US + 180 * MINUTE_US)
    for minute in range(0, 600, 5):
        now_us = START_US + minute * MINUTE_US
        assert clocks.believed(stored.newest(), stored.came, now_us) == {KEY: START_US}
        assert clocks.ahead == ["news"]
    stored.stamps.add(START_US + 601 * MINUTE_US)
    now_us = START_US + 602 * MINUTE_US
    assert clocks.believed(stored.newest(), stored.came, now_us) == stored.newest()
    assert clocks.ahead == []


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
