"""Accepted requests are all logged while there are few; of many a sample, and every one counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.accepted_lines import LINES_PER_S, AcceptedLines

REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")), st.integers(0, 500), st.floats(0, 3), st.booleans()
    ),
    max_size=300,
)  # fmt: skip


@given(REQUESTS, st.integers(1, 50))
def test_every_request_is_logged_or_counted(
    requests: list[tuple[str, int, float, bool]], every: int
) -> None:
    """Of each source; what is odd is logged whatever the rate."""
    lines, logged, told = AcceptedLines(every), [0, 0], [0, 0]
    for source, events, at, odd in sorted(requests, key=lambda one: one[2]):
        line = lines.line(source, events, at, always=odd)
        assert not (odd and line is None)
        if line is None:
            continue
        logged = [logged[0] + 1, logged[1] + events]
        told = [told[0] + line.get("unlogged_requests", 0),
                told[1] + line.get("unlogged_events", 0)]  # fmt: skip
    for _, rest in lines.rest():
        told = [told[0] + rest["unlogged_requests"], told[1] + rest["unlogged_events"]]
    assert logged[0] + told[0] == len(requests)
    assert logged[1] + told[1] == sum(events for _, events, _, _ in requests)


@pytest.mark.parametrize(
    ("per_s", "every", "written"),
    [(LINES_PER_S, 100, 30), (1_000, 100, 57), (1_000, 1, 3_000)],
)
def test_few_are_all_logged_and_many_are_sampled(per_s: int, every: int, written: int) -> None:
    """In three seconds; one in 100 of 990 are 9."""
    lines = AcceptedLines(every)
    found = [lines.line("a", 1, 5.0 + number / per_s, always=False) for number in range(3 * per_s)]
    assert sum(line is not None for line in found) == written
