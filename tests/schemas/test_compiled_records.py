"""The compiled functions that the product uses equal the general encoder and decoder."""

import io
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec as codecs
from schemas import compiled_build, enrichment, primitives
from schemas.codec import (
    HEAD,
    LATEST,
    PREFIX_BYTES,
    Codec,
    Position,
    framing_prefix,
    schema_json,
    without_logical_types,
)
from schemas.errors import BadInput, DecodeError
from schemas.event import Event
from schemas.raw_head import ID_SIZE, SIZE, of_event
from schemas.versions import FOLD_VERSION
from tests.builders import RECEIVED_AT, event
from tests.builders import enrichment as built_enrichment
from tests.builders import record as built
from tests.strategies import enrichments, events

CODEC = Codec()
PLAIN_RAW = without_logical_types(schema_json(LATEST["raw_event"]))
PLAIN_ENRICHED = without_logical_types(schema_json(LATEST["enriched_event"]))
DETAIL = st.one_of(st.none(), st.text("aé€", max_size=150))


def encoded(schema: Any, value: Any) -> bytes:
    """The general encoder's bytes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


@st.composite
def likely_events(draw: st.DrawFn) -> Event:
    """Events as providers send them: ids of 32 digits, times of our days, long foreign texts."""
    return event(
        event_id=draw(st.text("0123456789abcdef", min_size=32, max_size=32)),
        event_type=draw(st.sampled_from(["delivered", "opened", "clicked", "bounced", "unknown"])),
        occurred_at=draw(st.integers(946_684_800_000_000, 4_102_444_800_000_000)),
        received_at=draw(st.integers(946_684_800_000_000, 4_102_444_800_000_000)),
        time_suspect=draw(st.booleans()),
        message_id=draw(DETAIL), recipient=draw(DETAIL), campaign_id=draw(DETAIL),
        user_agent=draw(DETAIL), click_url=draw(DETAIL), diagnostic=draw(DETAIL), ip=draw(DETAIL),
        smtp_code=draw(st.one_of(st.none(), st.integers(100, 999))),
        enhanced_status=draw(st.sampled_from([None, "5.1.1"])),
        bounce_class=draw(st.sampled_from(["none", "hard"])),
        machine_kind=draw(st.sampled_from(["none", "scanner"])),
        rfc_message_id=draw(DETAIL), geo_country=draw(st.sampled_from([None, "CH"])),
        tags=draw(st.lists(st.text(max_size=80), max_size=3)),
        metadata=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=80), max_size=3)),
        provider_first=draw(st.sampled_from([None, True, False])),
        batch_id=draw(DETAIL), batch_index=draw(st.integers(0, 100_000)),
    )  # fmt: skip


NOT_OF_A_VERDICT = ("previous_campaign_id", "previous_message_key", "rules_version")


def of(head: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """What a head gives of everything that it may be asked for."""
    return {name: head[name] for name in (*of_event(event), *event)}


def without_its_head(value: bytes) -> bytes:
    """A raw record as other producers write it."""
    event = {**CODEC.decode(value, "raw_event"), HEAD: None}
    return value[:PREFIX_BYTES] + encoded(PLAIN_RAW, event)


@given(raw=st.one_of(events(), likely_events()))
def test_head_says_what_the_event_says(raw: Event) -> None:
    """Whatever the event, with and without a head in the record, and in whatever order asked."""
    value = CODEC.encode("raw_event", raw)
    meant = {**of_event(raw), **raw}
    for record in (value, without_its_head(value)):
        assert of(CODEC.raw_head(record), raw) == meant
        backwards = CODEC.raw_head(record)
        assert [backwards[name] for name in reversed(meant)] == list(reversed(meant.values()))
        assert CODEC.decode(record, "raw_event") == raw


@given(raw=likely_events(), other=likely_events())
def test_head_of_another_record_is_not_used(raw: Event, other: Event) -> None:
    """As after a change of the record by someone who kept its head."""
    value, begin = CODEC.encode("raw_event", raw), PREFIX_BYTES + ID_SIZE
    end = begin + 1 + SIZE
    changed = value[:begin] + CODEC.encode("raw_event", other)[begin:end] + value[end:]
    assert of(CODEC.raw_head(changed), raw) == {**of_event(raw), **raw}
    whole = {"event": raw, "enrichment": built_enrichment()}
    enriched = bytearray(CODEC.encode("enriched_event", whole))
    enriched[PREFIX_BYTES:end] = changed[PREFIX_BYTES:end]
    head, carried, _ = CODEC.split_enriched(bytes(enriched))
    assert (of(head, raw), carried) == ({**of_event(raw), **raw}, changed)


@given(raw=likely_events())
def test_what_each_event_is_asked_for_is_read_without_decoding(raw: Event) -> None:
    """Or the speed would be gone unnoticed."""
    head = CODEC.raw_head(CODEC.encode("raw_event", raw))
    head.decode = refuse
    names = ["campaign_id", "campaign_source", "recipient_domain", "event_type", "occurred_at"]
    if raw["event_type"] in ("opened", "clicked"):
        names += ["machine_kind", "user_agent", "ip", "click_url", "unsubscribe_link"]
        names += ["geo_country"]
    assert all(head[name] == raw[name] for name in names)  # type: ignore[literal-required]


def refuse(*_: object) -> Any:
    """In place of fastavro."""
    raise AssertionError("fastavro was asked")


@given(raw=likely_events())
def test_likely_events_are_read_and_written_without_fastavro(raw: Event) -> None:
    """What providers send is compiled for, or the speed would be gone unnoticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_decode_by_schema", refuse)
        patch.setattr(codecs, "_encode_by_schema", refuse)
        value = CODEC.encode("raw_event", raw)
        assert of(CODEC.raw_head(value), raw) == {**of_event(raw), **raw}
        assert CODEC.decode(value, "raw_event") == raw


def usual(document: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A record with times of our days and an id of mailpulse's, without head."""
    for field in document["fields"]:
        name, node = field["name"], field["type"]
        if isinstance(node, dict) and node.get("logicalType") == "timestamp-micros":
            record[name] = RECEIVED_AT
        elif name == "event_id":
            record[name] = f"{1:032x}"
        elif isinstance(node, dict) and node["type"] == "record":
            record[name] = usual(node, record[name])
    return record


@pytest.mark.skipif(
    compiled_build.state().compiled,
    reason="compiled functions call each other directly: none can be replaced",
)
@pytest.mark.parametrize("name", sorted(LATEST))
def test_usual_records_are_read_and_written_without_fastavro(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the schema."""
    monkeypatch.setattr(codecs, "_decode_by_schema", refuse)
    monkeypatch.setattr(codecs, "_encode_by_schema", refuse)
    wanted = usual(schema_json(LATEST[name]), built(name))
    assert CODEC.decode(CODEC.encode(name, wanted), name) == wanted


@settings(max_examples=400)
@given(raw=likely_events(), data=st.data())
def test_damaged_events_are_judged_as_by_the_general_decoder(
    raw: Event, data: st.DataObject
) -> None:
    """Cut, lengthened or changed anywhere: the same fields, or refused by both."""
    value = bytearray(CODEC.encode("raw_event", raw))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(PREFIX_BYTES, len(value) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(value[: data.draw(st.integers(PREFIX_BYTES, len(value)))])
    damaged += data.draw(st.binary(max_size=3))
    try:
        wanted = CODEC.decode(damaged, "raw_event")
    except DecodeError:
        with pytest.raises(DecodeError):
            CODEC.raw_head(damaged)
        return
    assert of(CODEC.raw_head(damaged), wanted) == {**of_event(wanted), **wanted}


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_are_those_of_the_general_encoder(value: int) -> None:
    """Every ``long``, written and read back."""
    assert primitives.integer(value) == encoded("long", value)
    assert primitives.read_integer(b"x" + encoded("long", value), 1)[0] == value


@given(st.lists(st.one_of(st.integers(0, 70), st.integers(-(2**40), 2**40)), min_size=1))
def test_integers_in_a_row_are_those_of_the_general_encoder(values: list[int]) -> None:
    """Small counts take a short cut."""
    assert primitives.integers(values) == b"".join(encoded("long", value) for value in values)


def with_null_head(whole: dict[str, Any]) -> bytes:
    """An enriched record whose enrichment or event is unusual."""
    event = {**whole["event"], HEAD: None}
    return CODEC.prefix("enriched_event") + encoded(PLAIN_ENRICHED, {**whole, "event": event})


@given(raw=events(), extra=enrichments(), key=st.binary(max_size=20))
def test_enrichments_are_those_of_the_general_encoder(
    raw: Event, extra: dict[str, Any], key: bytes
) -> None:
    """The parts, in order, are the record; and its coordinates are read back."""
    extra["message_key"] = key.hex()
    extra["fold_version"] = FOLD_VERSION
    parts = (
        enrichment.origin(extra["log_id"], extra["partition"]),
        enrichment.coordinates(
            extra["offset"], extra["version"], extra["revision"], extra["event_time"], key.hex()
        ),
        enrichment.campaign(
            extra["campaign_id"], extra["campaign_source"], extra["previous_campaign_id"],
            extra["previous_message_key"],
        ),
        enrichment.mailbox(extra["mailbox_provider"]),
        enrichment.verdict(
            extra["bounce_class"], extra["bounce_reason"], extra["actor"], extra["actor_reason"],
            extra["actor_certainty"], extra["rules_version"], extra["first_of_kind"],
            extra["first_human"], extra["unsubscribe_link"],
        ),
        enrichment.since(extra["seconds_since_delivery"]),
        enrichment.client(extra["device"], extra["os"], extra["client"], extra["country"]),
        enrichment.link(extra["click_url_group"]),
    )  # fmt: skip
    value = CODEC.encode("raw_event", raw)
    by_hand = CODEC.prefix("enriched_event") + value[PREFIX_BYTES:] + b"".join(parts)
    whole = {"event": raw, "enrichment": extra}
    begin = PREFIX_BYTES + ID_SIZE + 1
    has_head = value != without_its_head(value)
    head_bytes = value[begin : begin + SIZE] if has_head else None
    headed = {"event": {**raw, HEAD: head_bytes}, "enrichment": extra}
    assert by_hand[PREFIX_BYTES:] == encoded(PLAIN_ENRICHED, headed)
    assert CODEC.encode("enriched_event", whole) in (by_hand, with_null_head(whole))
    assert CODEC.decode(by_hand, "enriched_event") == whole
    head, carried, position = CODEC.split_enriched(by_hand)
    assert (head["event_id"], carried) == (raw["event_id"], value)
    assert position == tuple(extra[name] for name in Position._fields)
    place, verdict = CODEC.place_and_verdict(by_hand)
    assert place == {name: extra[name] for name in (*Position._fields, "revision")}
    assert CODEC.place_and_verdict(with_null_head(whole)) == (place, verdict)


@given(one=enrichments(), other=enrichments(), data=st.data())
def test_verdicts_are_alike_where_all_but_the_place_is(
    one: dict[str, Any], other: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever else differs is seen."""
    moved = {name: other[name] for name in (*Position._fields, "revision", *NOT_OF_A_VERDICT)}
    changed = data.draw(st.sets(st.sampled_from(sorted(one.keys() - moved.keys())), max_size=2))
    again = {**one, **moved, **{name: other[name] for name in changed}}
    first, second = (
        CODEC.place_and_verdict(
            CODEC.encode("enriched_event", {"event": event(), "enrichment": of})
        )
        for of in (one, again)
    )
    assert (first[1] == second[1]) == ({**one, **moved} == again)
    assert second[0] == {name: again[name] for name in second[0]}


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
        CODEC.encode("raw_event", event(**override))
    assert CODEC.decode(CODEC.encode("raw_event", event()), "raw_event") == event()


def test_an_enriched_record_of_another_schema_is_told() -> None:
    """A restore passes over what is not ours."""
    with pytest.raises(DecodeError, match="wrong_schema"):
        CODEC.split_enriched(CODEC.encode("raw_event", event()))
    broken = CODEC.prefix("enriched_event") + CODEC.encode("raw_event", event())[PREFIX_BYTES:]
    with pytest.raises(DecodeError, match="broken_avro"):
        CODEC.split_enriched(broken)
    with pytest.raises(DecodeError, match="wrong_schema"):
        CODEC.place_and_verdict(CODEC.encode("raw_event", event()))
    with pytest.raises(DecodeError, match="broken_avro"):
        CODEC.place_and_verdict(broken)


def test_framing_of_what_is_written_by_hand_is_the_codecs() -> None:
    """``prefix`` is the framing that ``encode`` writes, also with a registry's ids."""
    registered = Codec({full: 1000 + number for number, full in enumerate(CODEC.ids)})
    for name in LATEST:
        assert registered.encode(name, built(name)).startswith(registered.prefix(name))
        assert registered.prefix(name) == framing_prefix(registered.ids[LATEST[name]])
    assert without_logical_types({"type": "long", "logicalType": "x"}) == "long"
