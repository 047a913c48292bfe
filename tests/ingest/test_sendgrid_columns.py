"""SendGrid's events by column against the way that takes anything: never another event."""

import contextlib
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import REGISTRY, fields, items
from ingest.providers.base import post
from ingest.providers.sendgrid_columns import TOGETHER_MIN, ColumnReader, is_plain
from ingest.providers.sendgrid_events import EVENTS, OWN_FIELDS, build
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source
from tests.bench.sendgrid_load import sendgrid_event

NOW = 1_790_000_000
RECEIVED = NOW * 1_000_000
IDENTITIES = items.native_ids("sendgrid", "acme")
PROVIDER = REGISTRY["sendgrid"]
BELIEVED = fields.believable_seconds(RECEIVED)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, NOW + 5), st.floats(allow_nan=False), PRINTABLE,
    st.sampled_from(["", " ", "<", ">", "<>", "<<a>>", "< a>", "a@b", " a@b", "A <a@B.example>"]),
    st.sampled_from(["550 5.1.1 no", "250 2.0.0 OK", "421-4.7.0.1 x", "5.0.0", "x" * 3000]),
    st.lists(st.one_of(PRINTABLE, st.none(), st.integers(-(2**60), 2**60)), max_size=3),
    st.dictionaries(PRINTABLE, PRINTABLE, max_size=2),
)  # fmt: skip
CHANGES = st.dictionaries(
    st.one_of(st.sampled_from(sorted(OWN_FIELDS)), PRINTABLE), ODD, max_size=4
)
PRECEDENCES = st.lists(
    st.sampled_from(["metadata.campaign_id", "metadata.customer", "tag", "tag.1", "provider",
                     "header.x"]), max_size=4,
)  # fmt: skip


def careful(batch: list[dict[str, Any]], source: Source) -> list[Event]:
    """What the way that takes anything makes of the items that are events."""
    made = []
    for position, item in enumerate(batch):
        with contextlib.suppress(BadInput):
            one = build(item, source, RECEIVED, IDENTITIES, BELIEVED)
            one["batch_index"] = position
            made.append(one)
    return made


ITEMS = st.tuples(
    st.integers(0, 50), st.sampled_from(sorted(EVENTS)), CHANGES,
    st.sets(st.sampled_from(sorted(OWN_FIELDS)), max_size=2),
)  # fmt: skip
"""Number and kind of a usual item, what is changed in it to anything, and what is left out."""


@given(
    usual=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(sorted(EVENTS))), max_size=24),
    odd=st.lists(ITEMS, max_size=3), order=st.randoms(use_true_random=False),
    precedence=PRECEDENCES,
)  # fmt: skip
def test_batches_give_the_events_of_their_items(
    usual: list[tuple[int, str]], odd: list[Any], order: Random, precedence: list[str]
) -> None:
    """Usual items with odd ones among them, in any order: never another event, and none lost."""
    batch = [sendgrid_event(number, NOW) | {"event": native} for number, native in usual]
    for number, native, changes, dropped in odd:
        item = sendgrid_event(number, NOW) | {"event": native} | changes
        batch.append({name: value for name, value in item.items() if name not in dropped})
    order.shuffle(batch)
    source = Source(
        name="s", provider="sendgrid", account="acme", campaign_from=tuple(precedence)
    )  # fmt: skip
    body = orjson.dumps(batch)
    parsed = PROVIDER.parse_alike(post(body), source, RECEIVED)
    assert parsed.count == len(batch)
    assert parsed.one_by_one().events == careful(orjson.loads(body), source)


@given(one=ITEMS, precedence=PRECEDENCES)
def test_what_is_read_by_column_is_what_is_built(one: Any, precedence: list[str]) -> None:
    """Items with the same thing odd in all of them, so that nothing usual hides it."""
    number, native, changes, dropped = one
    batch = []
    for n in range(TOGETHER_MIN):
        item = sendgrid_event(number + 6 * n, NOW) | {"event": native} | changes
        batch.append({name: value for name, value in item.items() if name not in dropped})
    body = orjson.dumps(batch)
    if not is_plain(body):
        return
    source = Source(
        name="s", provider="sendgrid", account="acme", campaign_from=tuple(precedence)
    )  # fmt: skip
    for columns in ColumnReader(source, RECEIVED, IDENTITIES, BELIEVED).read_all(
        orjson.loads(body)
    ):
        assert columns.events() == careful(orjson.loads(body), source)


def test_it_is_what_reads_the_usual_events() -> None:
    """Or it would be of no use: all of the benchmark's events are read by column."""
    source = Source(name="s", provider="sendgrid", account="acme")
    batch = [sendgrid_event(number, NOW) for number in range(60)]
    parsed = PROVIDER.parse_alike(post(orjson.dumps(batch)), source, RECEIVED)
    assert (parsed.events, len(parsed.alike)) == ([], 2)  # of readers, and of servers


def test_one_odd_item_costs_its_own_kind_the_columns() -> None:
    """The others are still read by column, and nothing is another event for it."""
    source = Source(name="s", provider="sendgrid", account="acme")
    batch = [sendgrid_event(number, NOW) for number in range(60)]
    batch[0]["response"] = None
    batch[6]["email"] = "no address"
    parsed = PROVIDER.parse_alike(post(orjson.dumps(batch)), source, RECEIVED)
    assert {one["native_type"] for one in parsed.events} == {batch[6]["event"]}
    assert parsed.one_by_one().events == careful(batch, source)


@pytest.mark.parametrize(
    "email",
    ['"ada"@x.example', "Ada@x.example.", "Ada@[192.0.2.1]", "a\nb@x.example", " Ada@x.example"],
)
def test_addresses_whose_identity_is_not_their_lower_case(email: str) -> None:
    """They are not read by column, in whichever place they stand."""
    source = Source(name="s", provider="sendgrid", account="acme")
    for place in (0, 7, 59):
        batch = [sendgrid_event(number, NOW) for number in range(60)]
        batch[place]["email"] = email
        parsed = PROVIDER.parse_alike(post(orjson.dumps(batch)), source, RECEIVED)
        assert parsed.one_by_one().events == careful(batch, source)


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
    plain = PROVIDER.parse(post(orjson.dumps(batch)), source, RECEIVED)
    mixed = PROVIDER.parse(post(orjson.dumps([*batch, odd])), source, RECEIVED)
    assert mixed.events[:6] == plain.events
    assert mixed.events[6]["metadata"]["customer"] == "Jürgen"
