"""How much is checked for expiry at a checkpoint follows what was folded since the last."""

from hypothesis import given
from hypothesis import strategies as st

from streams.enrich.shard import Shard

MOST = 1_000


def shard() -> Shard:
    """Without state."""
    one = Shard(0, lambda keys: [None] * len(keys))
    one.begin_log("log")
    return one


@given(st.lists(st.integers(0, 3_000), max_size=30))
def test_sweeping_costs_a_share_of_the_work(folded: list[int]) -> None:
    """Nothing while nothing is folded; never more than the limit, nor two for each record."""
    one, total = shard(), 0
    for records in folded:
        one.applied += records
        budget = one.sweep_budget(MOST)
        assert budget == min(MOST, 2 * records)
        assert one.sweep_budget(MOST) == 0
        total += budget
    assert total <= 2 * (one.applied + 1)


def test_a_new_log_begins_anew() -> None:
    """Its offsets start again: a round in between may be short, and the next is not."""
    one = shard()
    one.applied = 10_000
    assert one.sweep_budget(MOST) == MOST
    one.begin_log("another")
    one.applied = 9
    assert one.sweep_budget(MOST) == 0
    one.applied = 19
    assert one.sweep_budget(MOST) == 20
