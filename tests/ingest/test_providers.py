"""What each provider's payloads become, and that nothing breaks ``parse``."""

import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.providers import REGISTRY
from ingest.providers.base import Parsed, Provider, Request, post
from ingest.providers.items import read_form
from schemas.codec import Codec
from schemas.errors import BadInput
from schemas.event import EventType
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT

PROVIDERS = sorted(REGISTRY)
CASES = all_cases()
CODEC = Codec()


def parse(provider: Provider, body: bytes, request: Request | None = None) -> Parsed:
    """The body parsed as if it came from an example source."""
    headers = request.headers if request else ()
    source = example(provider.name).source
    return provider.parse(post(body, *headers), source, RECEIVED_AT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_payload_becomes_what_is_written_beside_it(case: Case) -> None:
    """Every field of every event, the rejects and the notes."""
    assert case.expected, f"no {case.expected_path.name}"
    assert case.outcome() == case.expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_event_of_a_payload_fits_the_schema(case: Case) -> None:
    """Written as Avro and read back, an event is what it was."""
    if "bad_input" in case.expected:
        return
    headers = tuple(case.expected.get("headers", {}).items())
    request = Request("POST", case.expected.get("query", ""), headers, case.path.read_bytes(), "")
    source = example(case.provider, **case.expected.get("source", {})).source
    for event in REGISTRY[case.provider].parse(request, source, RECEIVED_AT).events:
        assert CODEC.decode(CODEC.encode("raw_event", event), "raw_event") == event


@pytest.mark.parametrize("name", [name for name in PROVIDERS if ":" not in name])
def test_every_native_event_has_a_payload(name: str) -> None:
    """Each native name of the provider's table comes out of some payload, as the type it says."""
    seen = {
        (event["native_type"], event["event_type"])
        for case in CASES
        if case.provider == name
        for event in case.outcome().get("events", [])
    }
    missing = [
        (native, normalised)
        for native, normalised in REGISTRY[name].events.items()
        if not any(
            (full == native or full.startswith(f"{native}.")) and got == normalised
            for full, got in seen
        )
    ]
    assert missing == []


@pytest.mark.parametrize("name", PROVIDERS)
def test_event_tables_name_real_types(name: str) -> None:
    """What a table maps to is one of the normalised types."""
    assert set(REGISTRY[name].events.values()) <= {str(one) for one in EventType}


# --- properties ----------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["", "\x00", "\ud800", "Name <a@B.c>", "2026-11-24T10:00:00Z", "1e400"])
)


def _keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for one in value.values() for key in _keys_of(one)}
    if isinstance(value, list):
        return {key for one in value for key in _keys_of(one)}
    return set()


FORM_FIELDS = {"mandrill": "mandrill_events"}
"""Providers that send JSON as a field of a form -> its name."""


def _json_of(case: Case) -> Any:
    """The JSON of a payload, ``None`` when it has none."""
    body = case.path.read_bytes()
    if case.path.suffix == ".form":
        body = read_form(body).get(FORM_FIELDS.get(case.provider, ""), [""])[0].encode()
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def wrapped(name: str, body: bytes) -> bytes:
    """JSON as the provider would post it."""
    return urlencode({FORM_FIELDS[name]: body}).encode() if name in FORM_FIELDS else body


KNOWN_KEYS = {
    name: sorted(
        {key for case in CASES if case.provider == name for key in _keys_of(_json_of(case))}
    )
    for name in PROVIDERS
}


def json_values(keys: list[str]) -> st.SearchStrategy[Any]:
    """JSON whose objects mostly use keys that the provider's payloads use."""
    names = st.sampled_from(keys) | st.text(max_size=5) if keys else st.text(max_size=5)
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=25,
    )


def dumped(value: Any) -> bytes:
    """JSON that may hold what strict JSON does not: ``NaN`` and lone surrogates."""
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_bad_input(name: str, body: bytes) -> None:
    """Whatever a verified body holds, it is read or refused whole."""
    try:
        parsed = parse(REGISTRY[name], body)
    except BadInput:
        return
    assert_sound(parsed)


def assert_sound(parsed: Parsed) -> None:
    """No reject was unforeseen, and every event fits the schema."""
    assert [one for one in parsed.rejects if one.reason == "unforeseen"] == []
    for event in parsed.events:
        assert CODEC.decode(CODEC.encode("raw_event", event), "raw_event") == event
        assert (event["occurred_at"] == RECEIVED_AT) or not event["time_suspect"]


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_arbitrary_json_raises_nothing_but_bad_input(name: str, data: st.DataObject) -> None:
    """Also in the provider's own keys, with values of every kind in the wrong places."""
    body = wrapped(name, dumped(data.draw(json_values(KNOWN_KEYS[name]))))
    try:
        parsed = parse(REGISTRY[name], body)
    except BadInput:
        return
    assert_sound(parsed)


def _mutated(value: Any, data: st.DataObject) -> Any:
    """The value with one place in it replaced by something of another kind."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: _mutated(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], _mutated(value[place], data), *value[place + 1 :]]
    return data.draw(SCALARS | st.just([]) | st.just({}) | st.just([1, {"a": None}]))


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_payload_with_one_value_replaced_raises_nothing_but_bad_input(
    name: str, data: st.DataObject
) -> None:
    """The provider's own payloads, each with one value turned into something else."""
    own = [(c, v) for c in CASES if c.provider == name for v in [_json_of(c)] if v is not None]
    if not own:
        return  # query parameters only: the provider's own tests cover them
    case, value = data.draw(st.sampled_from(own))
    headers = tuple(case.expected.get("headers", {}).items())
    try:
        body = wrapped(name, dumped(_mutated(value, data)))
        parsed = parse(REGISTRY[name], body, post(b"", *headers))
    except BadInput:
        return
    assert_sound(parsed)


LISTS = ("sendgrid", "mandrill", "generic", "standard_webhooks")
"""Providers whose body is a plain list of items, each one event."""


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_item_becomes_an_event_or_a_reject(name: str, data: st.DataObject) -> None:
    """Good items among arbitrary ones: nothing is lost, and each keeps its place."""
    own = [v for c in CASES if c.provider == name for v in [_json_of(c)]]
    good = [one for value in own if isinstance(value, list) for one in value]
    batch = data.draw(st.lists(st.sampled_from(good) | json_values(KNOWN_KEYS[name]), min_size=1))
    parsed = parse(REGISTRY[name], wrapped(name, dumped(batch)))
    assert len(parsed.events) + len(parsed.rejects) == len(batch)
    alone = [parse(REGISTRY[name], wrapped(name, dumped([one]))) for one in batch]
    assert [e["event_id"] for e in parsed.events] == [
        e["event_id"] for p in alone for e in p.events
    ]
    places = [place for place, p in enumerate(alone) if p.events]
    assert [event["batch_index"] for event in parsed.events] == places


def _shuffled(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, dict):
        order = data.draw(st.permutations(sorted(value)))
        return {key: _shuffled(value[key], data) for key in order}
    return [_shuffled(one, data) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_ids_do_not_depend_on_key_order_or_white_space(name: str, data: st.DataObject) -> None:
    """The same JSON written another way gives the same events."""
    own = [
        (c, v)
        for c in CASES
        if c.provider == name and "bad_input" not in c.expected
        for v in [_json_of(c)]
        if v is not None
    ]
    if not own:
        return  # query parameters only
    case, value = data.draw(st.sampled_from(own))
    headers = tuple(case.expected.get("headers", {}).items())
    again = wrapped(name, orjson.dumps(_shuffled(value, data), option=orjson.OPT_INDENT_2))
    source = example(name, **case.expected.get("source", {})).source
    first = REGISTRY[name].parse(post(case.path.read_bytes(), *headers), source, RECEIVED_AT)
    other = REGISTRY[name].parse(post(again, *headers), source, RECEIVED_AT + 1_000_000)
    assert [e["event_id"] for e in first.events] == [e["event_id"] for e in other.events]


def test_ids_differ_between_the_events_of_all_payloads() -> None:
    """Two payloads of a provider are two events, unless the files say that they are one."""
    for name in PROVIDERS:
        ids: dict[str, str] = {}
        for case in CASES:
            if case.provider == name and not case.path.stem.startswith("same_"):
                for event in case.outcome().get("events", []):
                    assert ids.setdefault(event["event_id"], str(case)) == str(case)
