"""Hypothesis strategies: anything that an Avro schema of this repository can hold.

Made from the schema documents themselves, so that a new field or schema is drawn without a change
here. Values are in-process ones: times as integers (``schemas.codec``, law 2).
"""

from typing import Any, cast

from hypothesis import strategies as st

from schemas.codec import LATEST, schema_json
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
    if kind == "array":
        return st.lists(avro_values(node["items"], named), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, avro_values(node["values"], named), max_size=3)
    return avro_values(kind, named)


def records(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Records of the newest version of schema ``name``, every field given."""
    return cast("st.SearchStrategy[dict[str, Any]]", avro_values(schema_json(LATEST[name])))


def events() -> st.SearchStrategy[Event]:
    """Raw events with any value in any field, sensible or not."""
    return cast("st.SearchStrategy[Event]", records("raw_event"))


def enrichments() -> st.SearchStrategy[dict[str, Any]]:
    """What the streams add to an event, with any value in any field."""
    document = schema_json(LATEST["enriched_event"])["fields"][1]["type"]
    return cast("st.SearchStrategy[dict[str, Any]]", avro_values(document))
