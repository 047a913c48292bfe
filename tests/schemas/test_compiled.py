"""Compiled readers and writers against fastavro: any schema, any record, damaged and odd ones."""

import io
import linecache
import traceback
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import fastavro
import pytest
from fastavro.schema import expand_schema, parse_schema
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas import compiled_writer
from schemas.codec import FIXED_IDS, schema_json, without_logical_types
from schemas.compiled import Unusual, checked
from schemas.compiled_reader import reader, skimmer
from schemas.compiled_writer import Known, Usual, Writers
from schemas.primitives import text
from tests.strategies import avro_schemas, avro_values

RELEASED = {full: schema_json(full) for full in FIXED_IDS}
WRITE = {full: Writers(document).record() for full, document in RELEASED.items()}
READ = {full: reader(document) for full, document in RELEASED.items()}
SKIM = {full: skimmer(document, apart={}) for full, document in RELEASED.items()}
PLAIN = {full: parse_schema(without_logical_types(each)) for full, each in RELEASED.items()}
ODD = st.sampled_from(
    [
        None, True, False, 0, 1.0, float("inf"), 2**31, 2**63, -(2**63) - 1, 2**70, "", "text",
        "\ud800", "x" * 8192, b"bytes", bytearray(b"x"), [], ["a"], [1], ("a",), {}, {"a": "b"},
        {"a": 1}, {1: "a"}, {"a"}, object(), Ellipsis,
    ]
)  # fmt: skip
"""Values of which most fit no field, and some any."""


def encoded(schema: Any, record: Any) -> bytes:
    """fastavro's bytes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def decoded(schema: Any, value: bytes) -> tuple[Any, int]:
    """fastavro's record, and the position behind it."""
    stream = io.BytesIO(value)
    return fastavro.schemaless_reader(stream, schema, None), stream.tell()


def result(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives; None when it raises."""
    try:
        return function(*arguments)
    except Exception:
        return None


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A released schema or one of its own."""
    return draw(st.one_of(st.sampled_from(list(RELEASED.values())), avro_schemas()))


@given(st.data())
def test_released_records_are_written_as_by_fastavro(data: st.DataObject) -> None:
    """Every record of every version, without asking fastavro; the second time from memory."""
    name = data.draw(st.sampled_from(list(RELEASED)))
    record = data.draw(avro_values(RELEASED[name]))
    wanted = encoded(PLAIN[name], record)
    assert WRITE[name](record) == wanted
    assert WRITE[name](record, b"prefix") == b"prefix" + wanted


@given(st.data())
def test_released_records_are_read_as_by_fastavro(data: st.DataObject) -> None:
    """Every record of every version; what is unusual (long texts, huge numbers) may be left."""
    name = data.draw(st.sampled_from(list(RELEASED)))
    record = data.draw(avro_values(RELEASED[name]))
    value = encoded(PLAIN[name], record)
    found = result(READ[name], b"before" + value, 6)
    assert found is None or found == (record, 6 + len(value))


@given(documents(), st.data())
def test_fields_that_are_not_read_are_left_as_bytes(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """The fields that are returned are fastavro's; the rest is fastavro's bytes."""
    record = data.draw(avro_values(document))
    names = [field["name"] for field in document["fields"]]
    apart = data.draw(st.dictionaries(st.sampled_from(names), st.booleans()))
    value = encoded(parse_schema(without_logical_types(document)), record)
    found = result(skimmer(document, apart=apart), b"before" + value, 6)
    assume(found is not None)
    fields, rest = found
    assert fields == {name: record[name] for name in names if apart.get(name)}
    assert rest == b"".join(
        encoded(one_field(document, name), {name: record[name]})
        for name in names
        if name not in apart
    )


def one_field(document: dict[str, Any], name: str) -> Any:
    """A schema of one field of another schema."""
    whole: Any = expand_schema(document)
    fields = [field for field in whole["fields"] if field["name"] == name]
    return parse_schema(without_logical_types({**whole, "fields": fields}))


@given(st.data())
def test_released_records_are_skimmed_without_fastavro(data: st.DataObject) -> None:
    """Nearly every record: long texts and huge numbers may be left."""
    name = data.draw(st.sampled_from(list(RELEASED)))
    value = encoded(PLAIN[name], data.draw(avro_values(RELEASED[name])))
    read = result(READ[name], value, 0)
    assert (read is None) == (result(SKIM[name], value, 0) is None)


@given(documents(), st.data())
def test_any_schema_is_compiled(document: dict[str, Any], data: st.DataObject) -> None:
    """Records of any schema: the same bytes and values, or left to fastavro."""
    record = data.draw(avro_values(document))
    schema = parse_schema(without_logical_types(document))
    value = encoded(schema, record)
    usual = Usual(fresh=frozenset(data.draw(names_of(document))))
    assert result(Writers(document, usual).record(), record) in (None, value)
    found = result(reader(document), value, 0)
    assert found is None or repr(found) == repr(decoded(schema, value))


def names_of(document: dict[str, Any]) -> st.SearchStrategy[set[str]]:
    """Some fields of a record."""
    return st.sets(st.sampled_from([field["name"] for field in document["fields"]]))


@given(documents(), st.data())
def test_some_fields_are_read_as_of_all(document: dict[str, Any], data: st.DataObject) -> None:
    """Wherever it begins and ends."""
    record = data.draw(avro_values(document))
    schema = parse_schema(without_logical_types(document))
    names = [field["name"] for field in document["fields"]]
    begin, end = sorted(data.draw(st.lists(st.integers(0, len(names) - 1), min_size=2, max_size=2)))
    value = encoded(schema, record)
    whole, _ = decoded(schema, value)

    def size(fields: int) -> int:
        """Bytes of the first fields."""
        front = {**document, "fields": document["fields"][:fields]}
        return len(encoded(parse_schema(without_logical_types(front)), record))

    found = result(reader(document, first=names[begin], last=names[end]), value, size(begin))
    some = {name: whole[name] for name in names[begin : end + 1]}
    assert found is None or repr(found) == repr((some, size(end + 1)))


@given(documents(), st.data())
def test_damaged_records_are_never_read_otherwise(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """Cut, lengthened or changed anywhere: what is read, fastavro reads alike, or some of it."""
    schema = parse_schema(without_logical_types(document))
    value = bytearray(encoded(schema, data.draw(avro_values(document))))
    assume(value)
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(value[: data.draw(st.integers(0, len(value)))]) + data.draw(
        st.binary(max_size=3)
    )
    found = result(reader(document), damaged, 0)
    if found is not None and found[1] == len(damaged):
        assert repr(found) == repr(decoded(schema, damaged))


@given(documents(), st.data())
def test_odd_values_are_never_written_otherwise(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """What is written, fastavro writes alike; what it refuses is refused."""
    schema = parse_schema(without_logical_types(document))
    record = data.draw(avro_values(document))
    names = [field["name"] for field in document["fields"]]
    usual = Usual(
        fresh=frozenset(data.draw(names_of(document))),
        moments=frozenset(data.draw(names_of(document))),
        same={data.draw(st.sampled_from(names)): data.draw(st.sampled_from(names))},
    )
    record[data.draw(st.sampled_from(names))] = data.draw(ODD)
    written = result(Writers(document, usual).record(), record)
    assert written is None or written == result(encoded, schema, record)


@given(documents(), st.data())
def test_parts_are_the_record(document: dict[str, Any], data: st.DataObject) -> None:
    """However it is cut; a part takes its fields' values in order. A field is written alone too."""
    record = data.draw(avro_values(document))
    names = [field["name"] for field in document["fields"]]
    firsts = [name for name in names if name == names[0] or data.draw(st.booleans())]
    writers = Writers(document)
    wanted = result(writers.record(), record)
    assume(wanted is not None)
    bounds = [*map(names.index, firsts), len(names)]
    values = [[record[name] for name in names[a:b]] for a, b in pairwise(bounds)]
    parts = writers.parts(*firsts)
    assert b"".join(part(*each) for part, each in zip(parts, values, strict=True)) == wanted
    assert b"".join(writers.field(name)(record[name]) for name in names) == wanted


def test_parts_are_told_in_order_and_whole() -> None:
    """A field that belongs to no part would be missing from what they make."""
    writers = Writers(
        {"type": "record", "name": "R", "fields": [NUMBER | {"name": n} for n in "abc"]}
    )
    for firsts in (("b",), ("a", "c", "b"), ("a", "a"), ("a", "d"), ()):
        with pytest.raises(ValueError, match=r"R does not come|is not in list"):
            writers.parts(*firsts)


NUMBER: dict[str, Any] = {"name": "a", "type": "long"}


@pytest.mark.parametrize("number", [0, 1, 63, 64, 8191, 8192, 2**27, 2**31 - 1, 2**55, 2**63 - 1])
def test_numbers_at_the_edges(number: int) -> None:
    """Where another byte begins, and the ends of the types; beyond them there is no number."""
    fields = [NUMBER | {"name": name} for name in "abcdefghi"]
    for document in (
        {"type": "record", "name": "R", "fields": fields[:1]},
        {"type": "record", "name": "R", "fields": fields},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "long"]}]},
    ):
        schema = parse_schema(dict(document))
        for value in (number, -number - 1):
            record = dict.fromkeys("abcdefghi", value)
            assert Writers(document).record()(record) == encoded(schema, record)
        for value in (2**63 + number, -(2**63) - 1 - number):
            with pytest.raises((OverflowError, Unusual)):
                Writers(document).record()(dict.fromkeys("abcdefghi", value))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 8191, 8192, 20_000])
@pytest.mark.parametrize("kind", ["string", "bytes", ["null", "string"]])
def test_texts_at_the_edges(size: int, kind: Any) -> None:
    """Where another byte of length begins, counted in bytes and not in characters."""
    document = {"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}]}
    schema = parse_schema(dict(document))
    for value in ("x" * size, "ü" * (size // 2)):
        record = {"a": value.encode() if kind == "bytes" else value}
        wanted = encoded(schema, record)
        for usual in (Usual(), Usual(fresh=frozenset("a"))):
            written = result(Writers(document, usual).record(), record)
            assert written == wanted or (written is None and size > 8191)
        found = result(reader(document), wanted, 0)
        assert found == (record, len(wanted)) or (found is None and size > 8191)


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_enums_and_unions_at_the_edges(count: int) -> None:
    """One of more than 64 may take two bytes, which must not be read as one."""
    symbols = [f"s{number}" for number in range(count)]
    enum = {"type": "enum", "name": "E", "symbols": symbols}
    fixed = [{"type": "fixed", "name": f"F{size}", "size": size} for size in range(1, count + 1)]
    for node, values in ((enum, symbols), (fixed, [b"x" * size for size in range(1, count + 1)])):
        document = {"type": "record", "name": "R", "fields": [{"name": "a", "type": node}]}
        schema = parse_schema(dict(document))
        read, write = reader(document), Writers(document).record()
        for number, value in enumerate(values):
            wanted = encoded(schema, {"a": value})
            assert result(write, {"a": value}) == (wanted if node is enum else None)
            found = result(read, wanted, 0)
            assert found == (({"a": value}, len(wanted)) if number < 64 else None)


@given(st.lists(st.text(max_size=3), max_size=20))
def test_forgetting_changes_no_byte(texts: list[str]) -> None:
    """What is remembered is bounded, in number and in size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_writer, "KNOWN_MAX", 3)
        patch.setattr(compiled_writer, "KNOWN_BYTES_MAX", 5)
        known = Known(text)
        for one in texts:
            assert known[one] == text(one)
        assert len(known) <= 3
        assert all(len(data) <= 5 for data in known.values())


BAD_NAMES = ["class", "_hidden", "1a", "a-b", "a b", "a\nb", "é", "", "a']+[print('", "__import__"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_no_identifiers_are_not_compiled(name: str) -> None:
    """They would become source text."""
    inner = {"type": "record", "name": "I", "fields": [NUMBER | {"name": name}]}
    found = [
        {"type": "record", "name": "R", "fields": [NUMBER | {"name": name}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": inner}]},
    ]
    if not f"write_{name}".isidentifier():
        found.append({"type": "record", "name": name, "fields": [NUMBER]})
    for document in found:
        for make in (lambda d: Writers(d).record(), reader):
            with pytest.raises(ValueError, match=r"cannot be compiled|name|Schema"):
                make(document)
    with pytest.raises(ValueError, match="cannot be compiled"):
        checked(name)


def source_of(function: Callable[..., Any]) -> str:
    """What was compiled, as ``linecache`` has it."""
    return "".join(linecache.getlines(function.__code__.co_filename))


def test_nothing_but_names_is_source() -> None:
    """Symbols, docs, defaults and properties of a schema stay out of it."""
    enum = {"type": "enum", "name": "E", "symbols": ["evil_symbol"], "default": "evil_symbol"}
    field = {"name": "good", "type": enum, "doc": "evil_doc", "default": "evil_symbol", "evil": 1}
    document = {"type": "record", "name": "R", "fields": [field], "doc": "evil_doc"}
    for made in (Writers(document).record(), reader(document)):
        assert "good" in source_of(made)
        assert "evil" not in source_of(made)


def test_a_traceback_shows_the_compiled_line() -> None:
    """Compiled functions can be debugged like others: by name, with their source."""
    with pytest.raises(KeyError) as caught:
        WRITE["raw_event.v1"]({"event_id": "x"})
    shown = "".join(traceback.format_exception(caught.value))
    assert "in write_RawEvent" in shown
    assert "_record['head']" in shown
    with pytest.raises(IndexError) as broken:
        READ["suppression.v1"](b"\x02", 0)
    assert "in read_Suppression" in "".join(traceback.format_exception(broken.value))
