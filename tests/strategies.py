"""Hypothesis strategies for anything that an Avro schema of this repository can contain.

They are derived from the schemas themselves, so new fields and schemas need no change here. Values
are as in the process: times are integers (``schemas.codec``, invariant 2).
"""

from itertools import count
from typing import Any, cast

from hypothesis import strategies as st

from schemas.codec import HEAD, LATEST, schema_json
from schemas.event import Event

_INT = st.integers(-(2**31), 2**31 - 1)
_LONG = st.integers(-(2**63), 2**63 - 1)

texts = st.text(st.characters(codec="utf-8"), max_size=24)
"""Any text that has a UTF-8 form: surrogates have none."""

_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": _INT,
    "long": _LONG,
    "double": st.floats(allow_nan=False),
    "float": st.floats(width=32, allow_nan=False),
    "string": texts,
    "bytes": st.binary(max_size=24),
}


def avro_values(node: Any, named: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Values of an Avro schema, given as its JSON document.

    Raises:
        KeyError: an Avro type that no schema of this repository uses yet.
    """
    named = {} if named is None else named
    if isinstance(node, str):
        return _PRIMITIVES[node] if node in _PRIMITIVES else avro_values(named[node], named)
    if isinstance(node, list):
        return st.one_of([avro_values(branch, named) for branch in node])
    kind = node["type"]
    if kind == "record":
        named[node["name"]] = node
        fields = {field["name"]: avro_values(field["type"], named) for field in node["fields"]}
        return st.fixed_dictionaries(fields)
    if kind == "enum":
        named[node["name"]] = node
        return st.sampled_from(node["symbols"])
    if kind == "fixed":
        return st.binary(min_size=node["size"], max_size=node["size"])
    if kind == "array":
        return st.lists(avro_values(node["items"], named), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, avro_values(node["values"], named), max_size=3)
    return avro_values(kind, named)


_TIME = {"type": "long", "logicalType": "timestamp-micros"}


@st.composite
def avro_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas of a record with fields of any type, records in it included."""
    serial = count()

    def types(depth: int) -> st.SearchStrategy[Any]:
        plain = st.sampled_from([*_PRIMITIVES.keys() - {"null"}, _TIME]) | st.builds(
            lambda size: {"type": "fixed", "name": f"F{next(serial)}", "size": size},
            st.integers(1, 9),
        ) | st.builds(
            lambda many: {
                "type": "enum", "name": f"E{next(serial)}",
                "symbols": [f"s{number}" for number in range(many)],
            },
            st.sampled_from([1, 2, 64, 65]),
        )  # fmt: skip
        some = st.builds(lambda one: ["null", one], plain) | st.builds(
            lambda one: [one, "null"], plain
        )
        if not depth:
            return plain | some
        inner = types(depth - 1)
        return (
            plain
            | some
            | st.builds(lambda items: {"type": "array", "items": items}, inner)
            | st.builds(lambda values: {"type": "map", "values": values}, inner)
            | record_types(depth - 1)
            | st.just(["null", "long", "string", "double"])
        )

    def record_types(depth: int) -> st.SearchStrategy[dict[str, Any]]:
        return st.builds(
            lambda nodes: {
                "type": "record", "name": f"R{next(serial)}",
                "fields": [{"name": f"f{n}", "type": node} for n, node in enumerate(nodes)],
            },
            st.lists(types(depth), min_size=1, max_size=8),
        )  # fmt: skip

    return draw(record_types(2))


def records(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Records of the newest version of schema ``name``, every field given but a raw head."""
    whole = cast("st.SearchStrategy[dict[str, Any]]", avro_values(schema_json(LATEST[name])))
    return whole.map(without_head)


def without_head(record: dict[str, Any]) -> dict[str, Any]:
    """A record as the codec returns it."""
    if isinstance(record.get("event"), dict):
        record = {**record, "event": without_head(record["event"])}
    return {name: value for name, value in record.items() if name != HEAD}


def events() -> st.SearchStrategy[Event]:
    """Raw events with any value in any field, sensible or not."""
    return cast("st.SearchStrategy[Event]", records("raw_event"))


def enrichments() -> st.SearchStrategy[dict[str, Any]]:
    """What the streams add to an event, with any value in any field."""
    document = schema_json(LATEST["enriched_event"])["fields"][1]["type"]
    return cast("st.SearchStrategy[dict[str, Any]]", avro_values(document))
