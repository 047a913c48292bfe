"""``tail``: as many records as were asked for, in order of time, however they are read."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.cli import tail
from streams.cli.tail import InOrder

Record = SimpleNamespace


def read(partitions: list[list[int]], order: list[int]) -> list[Any]:
    """Records as they are read: each partition in its order, the partitions mixed.

    Args:
        partitions: timestamps of each partition's records.
        order: which partition gives the next one; those that are empty are skipped.
    """
    left = [list(enumerate(times)) for times in partitions]
    found = []
    turns = iter(order)
    while any(left):
        number = next(turns, 0) % len(left)
        number = next(one for one in (number, *range(len(left))) if left[one])
        offset, at = left[number].pop(0)
        found.append(Record(timestamp=at, partition=number, offset=offset, value=b"x" * 10))
    return found


def shown(order: InOrder, records: list[Any]) -> list[tuple[int, int, int]]:
    """What is given out, in its order."""
    given_out = [one for record in records for one in order.add(record, record.offset)]
    given_out += order.rest()
    return [(one.timestamp, one.partition, one.offset) for one, _ in given_out]


PARTITIONS = st.lists(st.lists(st.integers(0, 50), max_size=12), min_size=1, max_size=4)


@given(PARTITIONS, st.lists(st.integers(0, 3), max_size=48), st.integers(1, 30))
def test_the_newest_are_shown_in_order(
    partitions: list[list[int]], order: list[int], last: int
) -> None:
    """Exactly so many, if there are so many: the newest by time, of all partitions."""
    records = read(partitions, order)
    everything = sorted((one.timestamp, one.partition, one.offset) for one in records)
    assert shown(InOrder(last), records) == everything[-last:]


@given(PARTITIONS, st.lists(st.integers(0, 3), max_size=48))
def test_without_a_number_all_are_shown_in_order(
    partitions: list[list[int]], order: list[int]
) -> None:
    """As long as they fit into what is held."""
    records = read(partitions, order)
    everything = sorted((one.timestamp, one.partition, one.offset) for one in records)
    assert shown(InOrder(None), records) == everything


def test_what_is_held_is_bounded(monkeypatch: Any) -> None:
    """By number and by bytes; nothing is lost, and what is read evenly stays in order."""
    records = read([list(range(0, 1_000, 2)), list(range(1, 1_000, 2))], [0, 1] * 500)
    for name, most in (("HELD_MAX", 7), ("HELD_BYTES_MAX", 70)):
        monkeypatch.setattr(tail, name, most)
        order = InOrder(None)
        most_held = 0
        out = []
        for record in records:
            out += list(order.add(record, None))
            most_held = max(most_held, len(order._held))
        out += list(order.rest())
        assert most_held <= 8
        assert [one.timestamp for one, _ in out] == list(range(1_000))
        monkeypatch.undo()
