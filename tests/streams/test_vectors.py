"""Stored vectors of counts: read back as they were, also under a glossary that has grown since."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.glossary import COUNTER_NAMES
from streams.campaigns.state import CampaignState
from streams.campaigns.windows import PartialKey, Series
from streams.enrich import minute_counts, vectors
from streams.enrich.contributions import MASK, SHIFT
from streams.enrich.message_bytes import StateError
from streams.enrich.minute_counts import MinuteTable, pack_key
from streams.enrich.vectors import WIDTH
from tests.streams.folding import Disk

COUNT = st.integers(-(2**31), 2**31 - 1)
SUM = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(COUNT, min_size=WIDTH, max_size=WIDTH), st.binary(max_size=9))
def test_counts_are_read_back(counts: list[int], before: bytes) -> None:
    """Whatever stands before them in the value."""
    assert vectors.unpack(before + vectors.pack(counts), len(before)) == counts


@given(st.lists(SUM, min_size=WIDTH, max_size=WIDTH))
def test_sums_are_read_back(sums: list[int]) -> None:
    """They have 64 bits."""
    assert vectors.unpack(vectors.pack_sums(sums)) == sums


def shorter(counts: list[int], form: str) -> bytes:
    """A vector as a version with fewer counters stored it."""
    return struct.pack(f"<BB{len(counts)}{form}", ord(form), len(counts), *counts)


@given(st.lists(COUNT, max_size=WIDTH - 1), st.sampled_from("iq"))
def test_a_longer_glossary_reads_a_shorter_vector(counts: list[int], form: str) -> None:
    """Counters that came since are 0."""
    assert vectors.unpack(shorter(counts, form)) == counts + [0] * (WIDTH - len(counts))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"i", bytes((0, WIDTH)), shorter([1] * (WIDTH + 1), "i"), shorter([1], "q")[:-1],
        vectors.pack([0] * WIDTH)[:-1],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    """Counts are not guessed: an unknown form, a longer glossary, and damage are errors."""
    with pytest.raises(StateError):
        vectors.unpack(data)


def test_minutes_go_on_from_a_shorter_vector() -> None:
    """The partition's table adds to what an earlier version stored."""
    key = ("spring", "gmail", 29_000_000)
    table = MinuteTable(Disk({pack_key(key): shorter([5, 6, 7], "i")}).get_many)
    table.add("spring", "gmail", [29_000_000 << SHIFT | WIDTH - 1, 29_000_000 << SHIFT], 1)
    table.complete()
    assert dict(table.changed()) == {key: [6, 6, 7, *[0] * (WIDTH - 4), 1]}


def test_campaigns_go_on_from_shorter_vectors() -> None:
    """Partials and sums of an earlier version are complete for this one."""
    disk = Disk()
    state = CampaignState(disk.get_many, disk.scan)
    key = PartialKey("spring", "gmail", 29_000_000, "log", 0)
    series = Series()
    series.first_minute = series.last_minute = 29_000_000
    state.put(key, (7, tuple([0] * WIDTH)))
    state.touch("spring", "gmail", series)
    disk.write(state.writes())
    state.saved()
    zeros = [0] * WIDTH
    for now, form in ((vectors.pack(zeros), "i"), (vectors.pack_sums(zeros), "q")):
        before = shorter([1, 2], form)
        disk.values = {name: value.replace(now, before) for name, value in disk.values.items()}
    assert state.get_many([key]) == [(7, (1, 2, *[0] * (WIDTH - 2)))]
    assert state.series_of("spring")["gmail"].total == [1, 2, *[0] * (WIDTH - 2)]


def test_a_partials_place_is_read_under_any_glossary() -> None:
    """Those that an earlier version published are found too when their counts are replaced."""
    key = ("spring", "gmail", 29_000_000)
    value = minute_counts.record(key, [1] * WIDTH, "log", 3, 7)
    for one in (value, value[:-5], value + b"\x02\x04"):
        assert minute_counts.read_place(b"....." + one, 5) == (key, "log", 3, 7)


def test_every_counter_has_a_place_in_a_contribution() -> None:
    """A contribution is the minute above ``SHIFT`` bits, and the counter's index in them."""
    assert len(COUNTER_NAMES) <= MASK + 1 == 1 << SHIFT
