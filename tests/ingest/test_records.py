"""Parcels, frames and partitions: bytes that other processes read."""

import random

import pytest
from aiokafka.partitioner import murmur2 as their_murmur2
from hypothesis import given
from hypothesis import strategies as st

from ingest.parcel import Parcel, from_bytes, to_bytes
from ingest.spool_frames import frame, is_torn, next_frame, read_frames
from schemas.partition import murmur2, murmur2_all, partition_of, partitions_of

PAIRS = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=6)
TRACES = st.sampled_from((b"", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
PARCELS = st.builds(Parcel, st.integers(0, 2**53), PAIRS, PAIRS, TRACES)


@given(PARCELS)
def test_a_parcel_comes_back_from_its_bytes(parcel: Parcel) -> None:
    """Whole, and in order."""
    assert from_bytes(to_bytes(parcel)) == parcel


def test_a_parcel_that_an_older_version_spooled_is_read() -> None:
    """One event, one dead letter, no trace: the bytes that were written before there were any."""
    old = bytes.fromhex(
        "01" "0000000000000007" "00000001" "00000001"
        "00000001" "00000002" "6b" "7631" "00000002" "00000001" "6964" "78"
    )  # fmt: skip
    assert from_bytes(old) == Parcel(7, [(b"k", b"v1")], [(b"id", b"x")])
    assert to_bytes(from_bytes(old)) == old


@given(PARCELS, st.data())
def test_a_parcel_cut_anywhere_is_an_error(parcel: Parcel, data: st.DataObject) -> None:
    """Never a shorter parcel."""
    whole = to_bytes(parcel)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="parcel"):
        from_bytes(whole[:cut])
    with pytest.raises(ValueError, match="parcel"):
        from_bytes(whole + b"x")


@given(st.lists(st.binary(max_size=100), max_size=8), st.data())
def test_frames_before_a_tear_are_read_and_nothing_else(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """Cut at any byte: the whole frames in front of the cut, and the rest is known to be torn."""
    frames = [frame(payload) for payload in payloads]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    read = read_frames(whole[:cut])
    ends = [sum(map(len, frames[:n])) for n in range(len(frames) + 1)]
    expected = max(n for n, end in enumerate(ends) if end <= cut)
    assert (read.payloads, read.end) == (payloads[:expected], ends[expected])
    assert is_torn(whole[read.end : cut])


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=2, max_size=6), st.data())
def test_a_flipped_bit_is_seen_and_the_frames_behind_it_are_found(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """One damaged frame costs one frame."""
    frames = [frame(payload) for payload in payloads]
    victim = data.draw(st.integers(0, len(frames) - 2))
    at = data.draw(st.integers(12, len(frames[victim]) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    broken = bytearray(frames[victim])
    broken[at] ^= bit
    stream = b"".join([*frames[:victim], bytes(broken), *frames[victim + 1 :]])
    read = read_frames(stream)
    assert read.payloads == payloads[:victim]
    rest = stream[read.end :]
    assert read_frames(rest[next_frame(rest) :]).payloads == payloads[victim + 1 :]


@given(st.binary(max_size=200))
def test_the_hash_is_that_of_every_kafka_client(data: bytes) -> None:
    """aiokafka's, which is the Java client's."""
    assert murmur2(data) == their_murmur2(data)


@given(st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=124, max_size=140))))
def test_hashed_together_is_hashed_one_by_one(keys: list[bytes]) -> None:
    """In their order, whatever their lengths."""
    assert murmur2_all(keys) == [murmur2(key) for key in keys]


@pytest.mark.parametrize("count", [0, 1, 11, 12, 128, 129, 300])
def test_partitions_of_many_keys_of_one_length(count: int) -> None:
    """Where hashing together begins, and where one group ends."""
    for length in (0, 3, 4, 22, 24, 127, 128, 132):
        keys = [random.randbytes(length) for _ in range(count)] + [b"\xff" * length]
        assert partitions_of(keys, 7) == [partition_of(key, 7) for key in keys]


def test_partitions_of_known_keys() -> None:
    """From the test vectors of Kafka's own ``UtilsTest``."""
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for data, expected in vectors.items():
        assert murmur2(data) == expected & 0xFFFFFFFF
    assert {partition_of(random.randbytes(9), 7) for _ in range(500)} == set(range(7))
