"""Records of topics as bytes, and where they are written again."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.backup.chunks import CHUNK_OFFSETS, Copied, packed, placed, shifted, spans, unpacked

texts = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=8), texts), max_size=3).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> list[Copied]:
    """Records of one partition, with gaps between their offsets."""
    offset = draw(st.integers(0, 1 << 40))
    out = []
    for gap in draw(st.lists(st.integers(0, 3) | st.integers(0, 100_000), max_size=12)):
        offset += gap
        time_ms = draw(st.integers(0, 1 << 42))
        out.append(Copied(offset, time_ms, draw(texts), draw(texts), draw(headers)))
        offset += 1
    return out


@given(records())
def test_records_come_back_as_they_were(some: list[Copied]) -> None:
    """An empty key is not a missing one, nor is a tombstone an empty value."""
    assert list(unpacked(packed(some))) == some


@given(records())
def test_the_same_records_are_the_same_bytes(some: list[Copied]) -> None:
    """So they are the same object in every backup."""
    assert packed(some) == packed([one._replace() for one in some])


@given(records(), st.data())
def test_what_is_cut_or_no_chunk_is_refused(some: list[Copied], data: st.DataObject) -> None:
    """Never read as fewer records."""
    whole = zlib.decompress(packed(some))
    if not whole:
        return
    cut = data.draw(st.integers(1, len(whole) - 1)) if len(whole) > 1 else 0
    try:
        found = list(unpacked(zlib.compress(whole[:cut])))
    except ValueError:
        return
    assert found == some[: len(found)]  # it was cut between two records


def test_bytes_that_are_no_chunk_are_refused() -> None:
    """Their checksum fits, so somebody wrote them so."""
    with pytest.raises(ValueError, match="no records"):
        list(unpacked(b"something else"))


@given(st.integers(0, 1 << 40), st.integers(0, 5 * CHUNK_OFFSETS))
def test_spans_cover_a_partition_and_end_where_chunks_always_end(begin: int, size: int) -> None:
    """So a full chunk is the same in the next backup, wherever retention has come to meanwhile."""
    found = list(spans(begin, begin + size))
    assert sum(end - first for first, end in found) == size
    assert all(first < end for first, end in found)
    assert [first for first, _ in found[1:]] == [end for _, end in found[:-1]]
    assert all(end % CHUNK_OFFSETS == 0 for _, end in found[:-1])
    assert all(end - first <= CHUNK_OFFSETS for first, end in found)


@given(records())
def test_every_record_gets_its_own_offset_again(some: list[Copied]) -> None:
    """Kafka numbers what is written: a broker that counts is the reference."""
    next_offset, log = 0, {}
    for skip, record in placed(some, 0):
        next_offset += skip
        log[next_offset] = record
        next_offset += 1
    assert log == {one.offset: one for one in some}


def test_records_that_are_not_in_order_are_refused() -> None:
    """They would get offsets of others."""
    one = Copied(5, 0, None, None, ())
    with pytest.raises(ValueError, match="offset 5"):
        list(placed([one, one], 0))


@given(records(), st.integers(0, 50), st.data())
def test_who_read_a_compacted_topic_misses_nothing_after_it_moved(
    some: list[Copied], behind: int, data: st.DataObject
) -> None:
    """Whatever offset a group had committed, what it had not read is still behind that."""
    end = (some[-1].offset + 1 if some else 0) + behind
    moved = list(shifted(some, end, len(some)))
    assert [one._replace(offset=0) for one in moved] == [one._replace(offset=0) for one in some]
    assert [one.offset for one in moved] == list(range(end - len(some), end))
    committed = data.draw(st.integers(0, end))
    unread = [one.offset for one in some if one.offset >= committed]
    assert len([one for one in moved if one.offset >= committed]) >= len(unread)
