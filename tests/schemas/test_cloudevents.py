"""CloudEvents headers: what they say, and that the hot path says the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import ENRICH, INGEST, by_leading_text, cloud_event, leading_text
from schemas.codec import Codec
from tests.builders import event, record


def test_headers_are_those_of_the_kafka_protocol_binding() -> None:
    """Binary mode: attributes with ``ce_`` before them, the content type without."""
    assert dict(cloud_event("alert", ENRICH, "a-1", 1_790_000_000_999_999)) == {
        "ce_specversion": b"1.0",
        "ce_type": b"io.mailpulse.alert.v1",
        "ce_source": b"/mailpulse/enrich",
        "content-type": b"application/avro",
        "ce_id": b"a-1",
        "ce_time": b"2026-09-21T14:13:20Z",
    }


@given(st.text(min_size=1, max_size=300))
def test_id_is_read_off_the_record(identity: str) -> None:
    """Whatever its length, the first text of a raw event is found without decoding the rest."""
    value = Codec().encode("raw_event", {**event(), "event_id": identity})
    assert leading_text(value) == identity.encode()


@pytest.mark.parametrize("name", ["raw_event", "dead_letter"])
def test_hot_path_says_the_same(name: str) -> None:
    """Headers made from bytes equal those made from an id and a time."""
    identity = "0123456789abcdef0123456789abcdef"
    given_record = (
        {**event(), "event_id": identity}
        if name == "raw_event"
        else record(name, dead_letter_id=identity)
    )
    value = Codec().encode(name, given_record)
    made = by_leading_text(name, INGEST)(value, 1_790_000_000_123)
    assert dict(made) == dict(cloud_event(name, INGEST, identity, 1_790_000_000_123_000))


@pytest.mark.parametrize("value", [b"", b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x01\x00"])
def test_record_without_an_id_is_known_by_its_bytes(value: bytes) -> None:
    """Headers keep nothing back: the hash of the bytes stands in, the same each time."""
    assert len(leading_text(value)) == 32
    assert leading_text(value) == leading_text(bytes(value))
    assert leading_text(value) != leading_text(value + b"x")
