"""Events by column: what they mean, and that they are encoded as they would be one by one."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.column_encoding import encode_columns
from ingest.columns import Columns
from schemas.codec import WRITERS, Codec
from schemas.errors import BadInput
from schemas.event import Event, message_key
from tests.builders import event
from tests.strategies import events

CODEC = Codec()
PREFIX = CODEC.prefix("raw_event")
FIELDS = WRITERS["raw_event"].kinds.keys()


IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@st.composite
def with_ids(draw: st.DrawFn) -> Event:
    """Events with ids such as mailpulse's."""
    return {**draw(events()), "event_id": draw(IDS)}


def by_column(many: Sequence[Event], names: Sequence[str], keys: Sequence[str]) -> Columns:
    """Columns of those fields; all else is the first event's."""
    fields: dict[str, Any] = {
        name: [one[name] for one in many]  # type: ignore[literal-required]
        for name in names
    }
    fields["batch_index"] = list(range(len(many)))
    metadata: dict[str, Sequence[str]] = {key: [one["native_type"] for one in many] for key in keys}
    return Columns(many[0], fields, metadata)


@given(
    many=st.lists(with_ids(), min_size=1, max_size=6),
    names=st.sets(st.sampled_from(sorted(FIELDS - {"metadata", "batch_index"}))),
    keys=st.lists(st.text("ab", max_size=3), max_size=3, unique=True),
)
def test_columns_are_encoded_as_their_events_are(
    many: list[Event], names: set[str], keys: list[str]
) -> None:
    """Whatever differs and whatever is the same; keys too."""
    columns = by_column(many, sorted(names), keys)
    meant = columns.events()
    assert len(meant) == len(columns) == len(many)
    assert encode_columns(columns, PREFIX) == [CODEC.encode("raw_event", one) for one in meant]
    assert columns.keys() == [message_key(one) for one in meant]


def test_events_share_nothing_that_changes() -> None:
    """Lists and maps are each event's own."""
    tags = ["spring"]
    columns = Columns(event(tags=tags, metadata={"a": "b"}), {"batch_index": [0, 1]})
    first, second = columns.events()
    first["tags"].append("x")
    first["metadata"]["x"] = "y"
    assert (second["tags"], second["metadata"], tags) == (["spring"], {"a": "b"}, ["spring"])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("event_id", ["0" * 32, "another producer's"]),
        ("event_type", ["opened", "no such type"]),
        ("occurred_at", [1, True]),
        ("occurred_at", [1, 2**63]),
        ("smtp_code", [250, 2**31]),
        ("message_id", ["a", 7]),
        ("message_id", ["a", "\ud800"]),
        ("recipient_domain", ["a", None]),
        ("tags", [["a"], [None]]),
        ("batch_index", [0, 1.0]),
    ],
)
def test_what_does_not_fit_is_bad_input(name: str, column: list[Any]) -> None:
    """For all of them together; who asked takes them one by one then."""
    columns = Columns(event(), {"batch_index": [0, 1], name: column})
    with pytest.raises(BadInput, match="not_encodable"):
        encode_columns(columns, PREFIX)


def test_keys_are_the_identities() -> None:
    """In order; and those of the events where one has none."""
    fields: dict[str, Any] = {
        "batch_index": [0, 1],
        "recipient_identity": ["a\nb@x.example", "c@y.example"],
    }
    columns = Columns(event(), fields)
    assert columns.keys() == [b"a\nb@x.example", b"c@y.example"]
    fields["recipient_identity"] = [None, "c@y.example"]
    assert columns.keys() == [message_key(one) for one in columns.events()]
