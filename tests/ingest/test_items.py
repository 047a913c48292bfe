"""The frame of ``parse``: bodies are read, items kept apart, ids made."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import items
from schemas.errors import BadInput
from schemas.event import Event, event_id, new_event
from schemas.settings import Source

SOURCE = Source(name="s", provider="generic", account="acme")
TEXT = st.text(st.characters(codec=None), max_size=30)


def event(name: str) -> Event:
    return new_event(
        event_id=name,
        event_type="sent",
        occurred_at=0,
        received_at=0,
        provider="p",
        native_type="n",
    )


@given(TEXT, TEXT, st.lists(TEXT))
def test_native_ids_are_event_ids(provider: str, account: str, parts: list[str]) -> None:
    """The short way gives the identities that ``schemas.event`` defines."""
    wanted = [event_id(provider, account, part) for part in parts]
    assert items.native_ids(provider, account)(parts) == wanted


def test_items_keep_their_neighbours_and_their_places() -> None:
    """A refused item, one of another kind and one that nobody foresaw cost themselves only."""

    def build(item: items.Item) -> Event | list[Event]:
        if item["kind"] == "bad":
            raise BadInput("because", "detail")
        if item["kind"] == "two":
            return [event("a"), event("b")]
        return event(item["name"])

    batch: list[object] = [
        {"kind": "one", "name": "x"}, {"kind": "bad"}, 7, {"kind": "two"}, {},
        {"kind": "one", "name": "y"},
    ]  # fmt: skip
    parsed = items.parse_items(batch, build)
    assert [(e["event_id"], e["batch_index"]) for e in parsed.events] == [
        ("x", 0), ("a", 3), ("b", 3), ("y", 5),
    ]  # fmt: skip
    assert [(r.reason, r.detail, r.content) for r in parsed.rejects] == [
        ("because", "detail", b'{"kind":"bad"}'),
        ("not_an_object", "item is a int", b"7"),
        ("unforeseen", "KeyError", b"{}"),
    ]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}\r\n', {"a": 1}),
        (b'"\\ud800"', "\ud800"),
        (b'"\xff"', "\ufffd"),
    ],
)
def test_json_is_read_leniently_where_strictly_it_is_none(body: bytes, value: object) -> None:
    """One odd character must not cost the other events of its batch."""
    assert items.read_json(body) == value
    assert items.read_json(b'[NaN, "%s"]' % (b"x" * 5))[1] == "xxxxx"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_body"),
        (b"{", "not_json"),
        (b"event=x", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "not_json"),
    ],
)
def test_bodies_that_are_no_json_are_refused_whole(body: bytes, reason: str) -> None:
    """Empty, broken, a form, or nested a hundred thousand deep."""
    with pytest.raises(BadInput, match=reason):
        items.read_json(body)


@given(st.binary(max_size=100))
def test_reading_raises_nothing_but_bad_input(body: bytes) -> None:
    """JSON and forms alike."""
    reasons: list[str] = []
    for read in (items.read_json, items.read_form):
        try:
            read(body)
        except BadInput as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"empty_body", "not_json", "not_a_form"}


def test_forms_keep_blank_and_repeated_fields_and_have_a_limit() -> None:
    """What is signed must be seen whole."""
    assert items.read_form(b"a=1&b=&a=%32") == {"a": ["1", "2"], "b": [""]}
    with pytest.raises(BadInput, match="not_a_form"):
        items.read_form(b"a&" * 2000)


@pytest.mark.parametrize(
    ("explicit", "said", "wanted"),
    [
        ("5.1.1", "550 5.7.1 no", (550, "5.1.1")),
        ("5.0.0", "550 5.7.1 no", (550, "5.7.1")),
        ("5.0.0", "no", (None, "5.0.0")),
        (None, "421 4.4.1 later", (421, "4.4.1")),
        (None, None, (None, None)),
    ],
)
def test_an_explicit_status_wins_unless_it_says_nothing(
    explicit: str | None, said: str | None, wanted: tuple[int | None, str | None]
) -> None:
    """SendGrid gives 5.0.0 for what its own text says better."""
    made = event("x")
    items.set_reply(made, diagnostic=said, enhanced_status=explicit)
    assert (made["smtp_code"], made["enhanced_status"]) == wanted


def test_an_event_carries_its_source_and_nothing_it_was_not_given() -> None:
    """Defaults are those of the schema."""
    made = items.make_event(
        SOURCE, 1_795_521_600_000_000, event_type="sent", native_type="Sent",
        id_parts=("a", None, 7), native_id=False, time=1_795_521_600,
    )  # fmt: skip
    bare = new_event(
        event_id=event_id("generic", "acme", "a", "", "7"),
        event_type="sent",
        occurred_at=1_795_521_600_000_000,
        received_at=1_795_521_600_000_000,
        provider="generic",
        native_type="Sent",
    )
    assert made == {**bare, "source": "s", "dedupe_quality": "composite"}
    assert orjson.loads(items.content_of({"b": 1, "a": 2})) == {"a": 2, "b": 1}
