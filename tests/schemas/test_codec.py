"""The codec: what is written is read, carried bytes equal encoded ones, bad bytes are told."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import (
    FIXED_IDS,
    LATEST,
    Codec,
    frame_of,
    framing_prefix,
    schema_json,
)
from schemas.errors import BadInput, DecodeError
from schemas.event import Event
from tests.builders import event, record
from tests.strategies import events, records

CODEC = Codec()
NAMES = sorted(LATEST)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_written_records_are_read_back_unchanged(name: str, data: st.DataObject) -> None:
    """Encode then decode is the identity, for every schema and any value it can hold."""
    wanted = data.draw(records(name))
    value = CODEC.encode(name, wanted)
    assert frame_of(value) == FIXED_IDS[LATEST[name]]
    assert CODEC.name_of(value) == LATEST[name]
    assert CODEC.decode(value, name) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_absent_fields_take_their_defaults(name: str) -> None:
    """A record that gives only the fields without a default reads back with every default."""
    document = schema_json(LATEST[name])
    whole = record(name)
    optional = {field["name"] for field in document["fields"] if "default" in field}
    given_fields = {field: value for field, value in whole.items() if field not in optional}
    assert CODEC.decode(CODEC.encode(name, given_fields), name) == whole


@given(schema_id=st.integers(0, 2**32 - 1), rest=st.binary(max_size=8))
def test_framing_is_zero_then_four_bytes_big_endian(schema_id: int, rest: bytes) -> None:
    """Confluent's classic framing, as every standard client expects it."""
    prefix = framing_prefix(schema_id)
    assert prefix == b"\x00" + schema_id.to_bytes(4, "big")
    assert frame_of(prefix + rest) == schema_id


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x00"])
def test_short_values_are_bad_framing(value: bytes) -> None:
    """Fewer than five bytes can't hold a schema id."""
    with pytest.raises(DecodeError, match="bad_framing"):
        frame_of(value)


@given(magic=st.integers(1, 255))
def test_another_magic_byte_is_bad_framing(magic: int) -> None:
    """Only magic byte 0 is understood."""
    with pytest.raises(DecodeError, match="bad_framing"):
        frame_of(bytes([magic, 0, 0, 0, 1]) + b"rest")


def test_ids_of_a_registry_replace_the_fixed_ones() -> None:
    """With a registry's ids, values carry those, and the fixed ids are no longer known."""
    registered = Codec({full: 1000 + number for full, number in FIXED_IDS.items()})
    value = registered.encode("raw_event", event())
    assert frame_of(value) == 1001
    assert registered.decode(value, "raw_event") == event()
    with pytest.raises(DecodeError, match="unknown_schema_id"):
        registered.decode(CODEC.encode("raw_event", event()), "raw_event")


@given(raw=events(), cut=st.integers(1, 10_000))
def test_cut_values_are_decode_errors(raw: Event, cut: int) -> None:
    """Every proper front part of a value is refused, never read as something shorter."""
    value = CODEC.encode("raw_event", raw)
    with pytest.raises(DecodeError):
        CODEC.decode(value[: len(value) - 1 - cut % len(value)], "raw_event")


@given(raw=events(), more=st.binary(min_size=1, max_size=8))
def test_bytes_after_the_record_are_decode_errors(raw: Event, more: bytes) -> None:
    """A value with something behind its record is not silently cut."""
    with pytest.raises(DecodeError, match="broken_avro"):
        CODEC.decode(CODEC.encode("raw_event", raw) + more, "raw_event")


@pytest.mark.parametrize("name", NAMES)
@given(body=st.binary(max_size=300))
def test_any_bytes_give_a_record_or_a_decode_error(name: str, body: bytes) -> None:
    """Fuzz: no bytes on a topic make the decoder raise anything but ``DecodeError``."""
    for value in (body, framing_prefix(FIXED_IDS[LATEST[name]]) + body):
        try:
            decoded = CODEC.decode(value, name)
        except DecodeError:
            continue
        assert set(decoded) == {field["name"] for field in schema_json(LATEST[name])["fields"]}


@given(raw=events(), position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_gives_a_record_or_a_decode_error(
    raw: Event, position: int, flip: int
) -> None:
    """Fuzz near the truth: one damaged byte of a good value."""
    value = bytearray(CODEC.encode("raw_event", raw))
    value[position % len(value)] ^= flip
    with contextlib.suppress(DecodeError):
        assert set(CODEC.decode(bytes(value), "raw_event")) == set(raw)


def test_another_schemas_record_is_refused() -> None:
    """A record of one schema on another schema's topic is no record of that topic."""
    value = CODEC.encode("alert", record("alert"))
    with pytest.raises(DecodeError, match="wrong_schema"):
        CODEC.decode(value, "raw_event")


@given(flags=st.lists(st.booleans(), max_size=20))
def test_a_bad_value_costs_its_batch_nothing_but_itself(flags: list[bool]) -> None:
    """Positions of good and bad values together are all positions, each in order."""
    good, bad = CODEC.encode("raw_event", event()), b"\x00\x00\x00\x00\x01\xff"
    decoded, errors = CODEC.decode_batch([good if flag else bad for flag in flags], "raw_event")
    assert [position for position, _ in decoded] == [i for i, flag in enumerate(flags) if flag]
    assert [position for position, _ in errors] == [i for i, flag in enumerate(flags) if not flag]
    assert all(found == event() for _, found in decoded)


@pytest.mark.parametrize(
    "overrides",
    [
        {"event_type": "exploded"},
        {"recipient": "\ud800@example.com"},
        {"occurred_at": "yesterday"},
        {"occurred_at": 2**63},
        {"event_id": None},
        {"tags": [None]},
    ],
)
def test_values_outside_the_schema_are_bad_input(overrides: dict[str, Any]) -> None:
    """What the schema can't hold is refused, and the message does not repeat the value."""
    with pytest.raises(BadInput, match="not_encodable") as caught:
        CODEC.encode("raw_event", event(**overrides))
    assert "example.com" not in str(caught.value)
    assert "exploded" not in str(caught.value)
