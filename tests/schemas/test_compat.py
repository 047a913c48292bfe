"""Schema evolution: every released version reads every other, by the rules of its topic.

Invariants that these tests hold:
1. A released schema version stays in the repository, unchanged (``released.json``).
2. Derived topics are FULL_TRANSITIVE: each version reads data of each other one.
3. The raw topic is BACKWARD_TRANSITIVE: newer versions read older data.
Rules: Avro 1.12 specification, «Schema Resolution»; Confluent, «Schema Evolution».
"""

import io
from importlib.resources import files
from itertools import permutations
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import FIXED_IDS, LATEST, schema_json, without_logical_types
from schemas.topics import TOPICS
from tests.schemas.released import canonical, released
from tests.strategies import avro_values

BACKWARD_ONLY = {topic.schema for topic in TOPICS if topic.compatibility == "BACKWARD_TRANSITIVE"}


def versions(name: str) -> list[str]:
    """Every ``name.version`` of a schema, oldest first."""
    return [full for full in FIXED_IDS if full.rsplit(".", 1)[0] == name]


def readings() -> list[tuple[str, str]]:
    """Every (writer, reader) pair that must work, a version with itself included."""
    pairs = []
    for name in LATEST:
        known = versions(name)
        pairs += [(full, full) for full in known]
        for writer, reader in permutations(known, 2):
            if name not in BACKWARD_ONLY or known.index(writer) < known.index(reader):
                pairs.append((writer, reader))
    return pairs


def reads(writer: dict[str, Any], reader: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """``record`` written by one schema and read by another.

    Raises:
        Exception: fastavro's, when they do not resolve.
    """
    writing = fastavro.parse_schema(without_logical_types(writer))
    reading = fastavro.parse_schema(without_logical_types(reader))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writing, record)
    found: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(out.getvalue()), writing, reading)  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(("writer", "reader"), readings())
@given(data=st.data())
def test_each_version_reads_what_the_rules_promise(
    writer: str, reader: str, data: st.DataObject
) -> None:
    """Any record of one version is read by the other, shared fields unchanged."""
    written = data.draw(avro_values(schema_json(writer)))
    found = reads(schema_json(writer), schema_json(reader), written)
    assert set(found) == {field["name"] for field in schema_json(reader)["fields"]}
    if writer == reader:
        assert found == written


def test_every_schema_file_has_a_fixed_id_and_every_id_a_file() -> None:
    """No version is on disk without being known, or known without being there."""
    on_disk = {
        item.name.removesuffix(".avsc")
        for item in files("schemas").joinpath("avro").iterdir()
        if item.name.endswith(".avsc")
    }
    assert on_disk == set(FIXED_IDS)
    assert len(set(FIXED_IDS.values())) == len(FIXED_IDS)


@pytest.mark.parametrize("full", sorted(FIXED_IDS))
def test_released_versions_never_change(full: str) -> None:
    """What readers rely on stays as it was; docs may be mended (they are not canonical form).

    Not released yet? ``python -m tests.schemas.released --unreleased NAME.VERSION`` takes it again.
    """
    assert canonical(full) == released()[full]


def every_node(node: Any) -> list[dict[str, Any]]:
    """Every JSON object of a schema document."""
    if isinstance(node, list):
        return [found for item in node for found in every_node(item)]
    if isinstance(node, dict):
        return [node] + [found for item in node.values() for found in every_node(item)]
    return []


@pytest.mark.parametrize("full", sorted(FIXED_IDS))
def test_schemas_are_made_to_evolve(full: str) -> None:
    """A doc on every record, enum and field; a default on every enum and every nullable field."""
    for node in every_node(schema_json(full)):
        if node.get("type") in ("record", "enum"):
            assert node["doc"], node["name"]
        if node.get("type") == "enum":
            assert node["default"] in node["symbols"], node["name"]
        for field in node.get("fields", []):
            assert field["doc"].endswith("."), field["name"]
            if isinstance(field["type"], list):
                assert field["type"][0] == "null", field["name"]
                assert field["default"] is None, field["name"]


@pytest.mark.parametrize("full", sorted(FIXED_IDS))
def test_times_carry_a_logical_type(full: str) -> None:
    """Other consumers read a field named for a moment as a timestamp, not as a number."""
    for node in every_node(schema_json(full)):
        for field in node.get("fields", []):
            if field["name"].endswith("_at") or field["name"] in ("minute", "as_of"):
                assert "logicalType" in str(field["type"]), field["name"]


BASE = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "a", "type": "string"}],
}


def with_field(**field: Any) -> dict[str, Any]:
    """``BASE`` with one field more."""
    return {**BASE, "fields": [*BASE["fields"], field]}


def test_rules_tell_compatible_from_incompatible_changes() -> None:
    """The check used above can fail: it refuses what a registry would refuse."""
    defaulted = with_field(name="b", type="long", default=0)
    required = with_field(name="b", type="long")
    assert reads(BASE, defaulted, {"a": "x"}) == {"a": "x", "b": 0}
    assert reads(defaulted, BASE, {"a": "x", "b": 1}) == {"a": "x"}
    assert reads(required, BASE, {"a": "x", "b": 1}) == {"a": "x"}
    with pytest.raises(Exception, match="default"):
        reads(BASE, required, {"a": "x"})


def test_an_unknown_symbol_reads_as_the_enums_default() -> None:
    """A new symbol written by a newer version does not stop an older reader."""
    enum = {"type": "enum", "name": "E", "symbols": ["unknown", "old"], "default": "unknown"}
    newer = {**enum, "symbols": ["unknown", "old", "new"]}
    older_record = with_field(name="e", type=enum)
    newer_record = with_field(name="e", type=newer)
    assert reads(newer_record, older_record, {"a": "x", "e": "new"}) == {"a": "x", "e": "unknown"}
