"""Record batches written by hand against those of aiokafka's builder."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import INGEST, WireHeaders, by_leading_text
from schemas.codec import Codec
from schemas.record_batch import RecordBatch, bodies
from schemas.trace import TRACEPARENT, with_trace
from tests.builders import event

NOW_MS = 1_790_000_000_123
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = WireHeaders("raw_event", INGEST)
HEADERS_OF = by_leading_text("raw_event", INGEST)
VALUES = st.one_of(
    st.binary(max_size=80),  # also what is too short to have an id
    st.text("0123456789abcdef", min_size=1, max_size=40).map(
        lambda identity: Codec().encode("raw_event", event(event_id=identity))
    ),
    st.integers(0, 3).map(lambda n: b"\x00" * 5 + b"\x40" + b"e" * 32 + b"x" * (8_190 * n)),
)
PAIRS = st.lists(st.tuples(st.binary(max_size=70), VALUES), min_size=1, max_size=12)
PARCELS = st.lists(
    st.tuples(PAIRS, st.integers(-5_000, 5_000), st.sampled_from([b"", TRACE])),
    min_size=1, max_size=4,
)  # fmt: skip


def by_hand(parcels: list[tuple[list[tuple[bytes, bytes]], int, bytes]]) -> RecordBatch:
    """A batch of the parcels' records; a parcel is its pairs, its time and its trace."""
    batch = RecordBatch(10_000_000, calc_crc32c)
    for pairs, shift, trace in parcels:
        keys, values = zip(*pairs, strict=True)
        last = (TRACEPARENT, trace) if trace else None
        records = bodies(keys, values, HEADERS.columns(values, NOW_MS + shift, last))
        assert batch.extend(records, NOW_MS + shift) == len(pairs)
    return batch


@given(PARCELS, st.sampled_from([None, (7, 3, 2_000_000_000)]))
def test_the_bytes_are_those_of_aiokafka(
    parcels: list[tuple[list[tuple[bytes, bytes]], int, bytes]],
    producer: tuple[int, int, int] | None,
) -> None:
    """With times that go back and forth, with traces, from idempotent producers and others."""
    theirs = BatchBuilder(10_000_000, 0)
    for pairs, shift, trace in parcels:
        for key, value in pairs:
            headers = HEADERS_OF(value, NOW_MS + shift)
            headers = with_trace(headers, trace) if trace else headers
            assert theirs.append(timestamp=NOW_MS + shift, key=key, value=value, headers=headers)
    ours = by_hand(parcels)
    if producer is not None:
        theirs._set_producer_state(*producer)
        ours._set_producer_state(*producer)
    assert ours.record_count() == theirs.record_count()
    assert ours._build() == bytes(theirs._build())
    assert ours.size() == len(ours._build())


def test_more_records_than_numbers_are_kept_for() -> None:
    """Record numbers are encoded correctly beyond the table of small ones."""
    count = 9_000
    keys = [b"%d" % n for n in range(count)]
    batch = RecordBatch(10_000_000, calc_crc32c)
    records = bodies(keys, keys, (b"\x00", [b""] * count, b""))
    assert batch.extend(records, NOW_MS) == count
    read = MemoryRecords(batch._build()).next_batch()
    assert read is not None
    assert read.validate_crc()
    assert [(record.offset, record.key) for record in read] == list(enumerate(keys))


@pytest.mark.parametrize("size", [200, 500, 1_000])
def test_a_full_batch_takes_no_more(size: int) -> None:
    """Never above the limit, except for a first record that is larger; nothing is omitted."""
    records = bodies([b"k"] * 10, [bytes(size)] * 10, (b"\x00", [b""] * 10, b""))
    left, batches = records, []
    while left:
        batch = RecordBatch(900, calc_crc32c)
        taken = batch.extend(left, NOW_MS)
        assert taken == batch.record_count() > 0
        assert len(batch._build()) <= 900 or taken == 1
        left = left[taken:]
        batches.append(batch)
    assert sum(batch.record_count() for batch in batches) == 10


def test_a_batch_that_is_sent_again_is_the_same() -> None:
    """Brokers recognise a repeated batch by its sequence number: it is not built again."""
    batch = by_hand([([(b"k", b"v")], 0, b"")])
    batch._set_producer_state(1, 2, 3)
    assert batch._build() is batch._build()
