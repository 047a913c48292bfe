"""Raw events written by hand against the codec that walks the schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import encoding
from ingest.encoding import RawEncoder
from schemas.codec import LATEST, Codec, framing_prefix
from schemas.errors import BadInput
from schemas.event import Event
from tests.builders import event
from tests.strategies import events

CODEC = Codec()
PREFIX = framing_prefix(CODEC.ids[LATEST["raw_event"]])
ENCODER = RawEncoder(PREFIX)


@given(events())
def test_the_bytes_are_those_of_the_codec(one: Event) -> None:
    """Also the second time, when texts are remembered."""
    expected = CODEC.encode("raw_event", one)
    assert ENCODER.encode(one) == expected
    assert ENCODER.encode(one) == expected
    assert RawEncoder(PREFIX).encode(one) == expected


NUMBERS = [0, 63, 64, 8191, 8192, 16383, 16384, 2**21, 2**31 - 1, 2**42, 2**56, 2**63 - 1]


@pytest.mark.parametrize("number", [*NUMBERS, *[-n - 1 for n in NUMBERS]])
def test_numbers_at_the_edges(number: int) -> None:
    """Where another byte begins, and the ends of the types."""
    values: dict[str, Any] = {"occurred_at": number, "received_at": number}
    if -(2**31) <= number < 2**31:
        values |= {"smtp_code": number, "batch_index": number}
    one = event(**values)
    assert ENCODER.encode(one) == CODEC.encode("raw_event", one)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 8191, 8192, 20_000])
def test_texts_at_the_edges(size: int) -> None:
    """Where another byte of length begins, counted in bytes and not in characters."""
    for text in ("x" * size, "ü" * (size // 2)):
        one = event(message_id=text, provider=text, user_agent=text, tags=[text] * 3)
        assert ENCODER.encode(one) == CODEC.encode("raw_event", one)


@pytest.mark.parametrize(
    "override",
    [
        {"event_id": None},
        {"event_type": "no such type"},
        {"occurred_at": 2**63},
        {"received_at": "now"},
        {"smtp_code": 2**31},
        {"smtp_code": True},
        {"batch_index": None},
        {"message_id": 7},
        {"message_id": "\ud800"},
        {"recipient_domain": None},
        {"provider_first": "yes"},
        {"tags": [None]},
        {"tags": 5},
        {"metadata": {"a": 1}},
        {"metadata": {1: "a"}},
        {"metadata": [1]},
    ],
)
def test_what_does_not_fit_is_bad_input(override: dict[str, Any]) -> None:
    """For the event, never a wrong byte, and what comes next is written right."""
    with pytest.raises(BadInput, match="not_encodable"):
        ENCODER.encode(event(**override))
    assert ENCODER.encode(event()) == CODEC.encode("raw_event", event())


@given(st.lists(events(), min_size=2, max_size=6))
def test_forgetting_changes_no_byte(many: list[Event]) -> None:
    """What is remembered is bounded; events on both sides of the bound are the codec's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_KNOWN_MAX", 3)
        small = RawEncoder(PREFIX)
        for one in many:
            assert small.encode(one) == CODEC.encode("raw_event", one)
        assert len(small._known) <= 3
        assert len(small._some_known) <= 4


def test_another_schema_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is not written here is an error at start."""
    monkeypatch.setattr(encoding, "_LAYOUT", encoding._LAYOUT + " more=string")
    with pytest.raises(ImportError, match=r"raw_event\.v1"):
        encoding._check_layout()
