"""Identity and key of an event, and that the Python and Avro descriptions of it agree."""

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.codec import HEAD, LATEST, schema_json
from schemas.event import (
    BounceClass,
    BounceReason,
    CampaignSource,
    DedupeQuality,
    Event,
    EventType,
    MachineKind,
    event_hash,
    event_id,
    message_key,
    new_event,
    recipient_identity,
)
from tests.builders import event
from tests.strategies import events

ANY_TEXT = st.text(max_size=12)  # surrogates too: a provider's JSON may hold "\ud800"
PARTS = st.lists(ANY_TEXT, max_size=4)


@given(provider=ANY_TEXT, account=ANY_TEXT, parts=PARTS)
def test_event_id_is_32_hexadecimal_digits_and_repeats(
    provider: str, account: str, parts: list[str]
) -> None:
    """The same parts give the same id on every retry."""
    first = event_id(provider, account, *parts)
    assert first == event_id(provider, account, *parts)
    assert len(first) == 32
    assert set(first) <= set("0123456789abcdef")


@given(one=st.tuples(ANY_TEXT, ANY_TEXT, PARTS), other=st.tuples(ANY_TEXT, ANY_TEXT, PARTS))
def test_different_parts_give_different_ids(
    one: tuple[str, str, list[str]], other: tuple[str, str, list[str]]
) -> None:
    """No two lists of parts share an id, wherever the texts are cut."""
    assume(one != other)
    assert event_id(one[0], one[1], *one[2]) != event_id(other[0], other[1], *other[2])


def test_moving_a_character_between_parts_changes_the_id() -> None:
    """Plain joining would give these two the same id."""
    assert event_id("p", "a", "xy", "z") != event_id("p", "a", "x", "yz")


def test_event_id_is_fixed_for_ever() -> None:
    """Stored ids must match after an upgrade; the value was made with ``sha256sum``."""
    assert event_id("generic", "", "42") == "27f70a76838e84260e07cb7f273394ba"


@given(st.sets(st.text("0123456789abcdefx_-", max_size=4), min_size=2))
def test_ids_of_other_producers_are_told_apart(numbers: set[str]) -> None:
    """Also short numbers, and ids that are a number and their message's id."""
    message = event_id("generic", "", "42")
    ids = numbers | {f"{number}{message}" for number in numbers}
    assert len({event_hash(one) for one in ids}) == len(ids)


@given(raw=events())
def test_key_is_the_recipient_then_the_message_then_the_event(raw: Event) -> None:
    """Everything about a certain recipient lies in one partition, whatever else differs."""
    key = message_key(raw)
    assert key
    identity = recipient_identity(raw)
    if identity and raw["recipient_certain"]:
        assert key == message_key(event(recipient_identity=identity))
    elif raw["message_id"]:
        assert key == message_key(
            {**raw, "event_id": "other", "recipient": None, "recipient_identity": None}
        )
    else:
        assert key == b"e:" + raw["event_id"].encode()


def test_key_ignores_the_case_of_a_recipient() -> None:
    """Providers differ in how they write one address."""
    assert message_key(event(recipient="Ada@Example.COM")) == message_key(event())


def test_key_takes_surrogates() -> None:
    """Text that has no UTF-8 form still gets a key."""
    assert message_key(event(recipient=None, message_id="\ud800"))


ENUMS: dict[str, type[StrEnum]] = {
    "event_type": EventType,
    "campaign_source": CampaignSource,
    "bounce_class": BounceClass,
    "bounce_reason": BounceReason,
    "machine_kind": MachineKind,
    "dedupe_quality": DedupeQuality,
}


@pytest.mark.parametrize("field", sorted(ENUMS))
def test_enums_have_the_symbols_of_the_schema(field: str) -> None:
    """Python's enum and Avro's list the same symbols in the same order."""
    fields = {item["name"]: item["type"] for item in schema_json(LATEST["raw_event"])["fields"]}
    assert [str(symbol) for symbol in ENUMS[field]] == fields[field]["symbols"]


def test_event_has_the_fields_of_the_schema_in_their_order() -> None:
    """``Event``, ``new_event`` and the Avro schema describe one record."""
    names = [field["name"] for field in schema_json(LATEST["raw_event"])["fields"]]
    names.remove(HEAD)
    assert list(Event.__annotations__) == names
    made = new_event(
        event_id="x", event_type="sent", occurred_at=1, received_at=2, provider="p", native_type="n"
    )
    assert list(made) == names


def test_new_event_has_the_defaults_of_the_schema() -> None:
    """A field that a provider does not give reads the same as one that an old record lacks."""
    made: dict[str, Any] = dict(
        new_event(
            event_id="x",
            event_type="sent",
            occurred_at=1,
            received_at=2,
            provider="p",
            native_type="n",
        )
    )
    for field in schema_json(LATEST["raw_event"])["fields"]:
        if "default" in field and field["name"] not in ("native_type", HEAD):
            assert made[field["name"]] == field["default"], field["name"]
