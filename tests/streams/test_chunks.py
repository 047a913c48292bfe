"""Splitting fetches into chunks, and what a session delivers."""

from hypothesis import given
from hypothesis import strategies as st

from streams.transport.chunks import TP, Session, Taken, take
from tests.streams.rig import TOPIC, FakeRecord

P0 = TP(TOPIC, 0)

# --- cutting -------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 3_000), max_size=60),
    records_max=st.integers(1, 20),
    bytes_max=st.integers(1, 5_000),
)
def test_slices_keep_every_record_in_order_and_stay_within_limits(
    sizes: list[int], records_max: int, bytes_max: int
) -> None:
    """However it is split, the slices joined are the fetch; a single record may exceed the
    bytes."""
    records = [FakeRecord(i, b"v" * size) for i, size in enumerate(sizes)]
    source, slices, ended = iter(records), [], False
    while not ended:
        got, ended = take(source, records_max, bytes_max)
        slices.append(got)
    assert [r for got in slices for r in got] == records
    for got in slices:
        assert len(got) <= records_max
        assert sum(len(r.value or b"") for r in got[:-1]) < bytes_max
    assert all(slices[:-1])


# --- sessions ------------------------------------------------------------------------------------


def taken(session: int, first: int, following: int) -> Taken:
    return Taken(session, [FakeRecord(first)], first, following, 100)


def test_what_was_taken_for_an_earlier_session_is_not_delivered() -> None:
    """A fetch that crosses a seek is dropped."""
    session = Session(P0, number=2, position=5)
    assert session.accept(taken(1, 0, 5), 1) is None
    assert session.accept(taken(2, 5, 6), 1) is not None


def test_closing_withdraws_queued_chunks() -> None:
    """Faust's stream skips a message whose generation is not the present one."""
    session = Session(P0, number=1, position=0)
    message = session.accept(taken(1, 0, 5), 7)
    assert message is not None
    assert message.generation_id == 7
    session.close()
    assert message.generation_id != 7
    assert session.accept(taken(1, 5, 6), 7) is None


def test_a_lost_chunk_takes_the_ones_behind_it_along() -> None:
    """They would be delivered twice and out of order after reading again."""
    session = Session(P0, number=1, position=0)
    messages = [session.accept(taken(1, i, i + 1), 7) for i in range(3)]
    assert messages[1] is not None
    messages[1].lost()
    assert session.lost_from == 1
    assert [m.generation_id == 7 for m in messages if m] == [True, False, False]
    assert session.accept(taken(1, 3, 4), 7) is None
