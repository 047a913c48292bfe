"""SendGrid's quick way against the one that takes anything: never another event."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import REGISTRY, fields, items
from ingest.providers.base import post
from ingest.providers.sendgrid_events import EVENTS, OWN_FIELDS, build
from ingest.providers.sendgrid_plain import Reader, is_plain
from schemas.errors import BadInput
from schemas.settings import Source
from tests.bench.sendgrid_load import sendgrid_event

NOW = 1_790_000_000
RECEIVED = NOW * 1_000_000
IDENTITY = items.native_ids("sendgrid", "acme")
BELIEVED = fields.believable_seconds(RECEIVED)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, NOW + 5), st.floats(allow_nan=False), PRINTABLE,
    st.sampled_from(["", " ", "<", ">", "<>", "<<a>>", "< a>", "a@b", " a@b", "A <a@B.example>"]),
    st.sampled_from(["550 5.1.1 no", "250 2.0.0 OK", "421-4.7.0.1 x", "5.0.0", "x" * 3000]),
    st.lists(st.one_of(PRINTABLE, st.none(), st.integers()), max_size=3),
    st.dictionaries(PRINTABLE, PRINTABLE, max_size=2),
)  # fmt: skip
CHANGES = st.dictionaries(
    st.one_of(st.sampled_from(sorted(OWN_FIELDS)), PRINTABLE), ODD, max_size=4
)
PRECEDENCES = st.lists(
    st.sampled_from(["metadata.campaign_id", "metadata.customer", "tag", "tag.1", "provider",
                     "header.x"]), max_size=4,
)  # fmt: skip


def either(item: dict[str, Any], source: Source) -> tuple[object, object]:
    """What the quick way says, and the other one (or its refusal)."""
    quick = Reader(source, RECEIVED, IDENTITY, BELIEVED).read(item)
    try:
        return quick, build(item, source, RECEIVED, IDENTITY, BELIEVED)
    except BadInput as error:
        return quick, error.reason


@given(
    number=st.integers(0, 50), native=st.sampled_from(sorted(EVENTS)), changes=CHANGES,
    dropped=st.sets(st.sampled_from(sorted(OWN_FIELDS)), max_size=2), precedence=PRECEDENCES,
)  # fmt: skip
def test_it_makes_the_same_event_or_none(
    number: int, native: str, changes: dict[str, Any], dropped: set[str], precedence: list[str]
) -> None:
    """Usual items with some fields changed to anything, and some left out."""
    item = sendgrid_event(number, NOW) | {"event": native} | changes
    item = {name: value for name, value in item.items() if name not in dropped}
    source = Source(
        name="s", provider="sendgrid", account="acme", campaign_from=tuple(precedence)
    )  # fmt: skip
    if not is_plain(orjson.dumps(item)):
        return
    quick, careful = either(item, source)
    assert quick is None or quick == careful


def test_it_is_what_reads_the_usual_events() -> None:
    """Or it would be of no use: every kind of the benchmark's events goes through it."""
    source = Source(name="s", provider="sendgrid", account="acme")
    for number in range(12):
        quick, careful = either(sendgrid_event(number, NOW), source)
        assert quick is not None
        assert quick == careful


def test_events_of_a_batch_share_nothing_that_changes() -> None:
    """Lists and maps are each event's own."""
    bare = {k: v for k, v in sendgrid_event(0, NOW).items() if k != "category"}
    read = Reader(Source(name="s", provider="sendgrid"), RECEIVED, IDENTITY, BELIEVED).read
    first, second = read(bare), read(bare)
    assert first is not None
    assert second is not None
    first["tags"].append("x")
    first["metadata"]["x"] = "y"
    assert (second["tags"], "x" in second["metadata"]) == ([], False)


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_a_plain_body_holds_clean_texts_only(text: str) -> None:
    """What JSON can say of a text that is not clean, it says with an escape or beyond ASCII."""
    for body in (orjson.dumps([text]), orjson.dumps({text: 1})):
        if is_plain(body):
            assert text.isascii()
            assert all(ord(character) >= 32 for character in text)


def test_one_odd_text_changes_nothing_for_the_others() -> None:
    """A body that is not plain gives the same events."""
    source = Source(name="s", provider="sendgrid", account="acme")
    batch = [sendgrid_event(number, NOW) for number in range(6)]
    odd = sendgrid_event(6, NOW) | {"customer": "Jürgen"}
    provider = REGISTRY["sendgrid"]
    plain = provider.parse(post(orjson.dumps(batch)), source, RECEIVED)
    mixed = provider.parse(post(orjson.dumps([*batch, odd])), source, RECEIVED)
    assert mixed.events[:6] == plain.events
    assert mixed.events[6]["metadata"]["customer"] == "Jürgen"
