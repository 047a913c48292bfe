"""JSON Schemas of the bodies that ``mailpulse deliver`` sends, made from the Avro schemas.

``tests/asyncapi.py`` writes them into ``schemas/asyncapi.yaml``, and a test holds bodies against
them. Optional fields are always there, as null.
"""

from typing import Any

from schemas.codec import LATEST, schema_json
from schemas.topics import BY_NAME
from streams.deliver.bodies import KINDS

_PRIMITIVES = {"string": "string", "int": "integer", "long": "integer", "double": "number",
               "float": "number", "boolean": "boolean", "null": "null"}  # fmt: skip
_TIME = {"type": "string", "format": "date-time"}
LIFTED = {
    "type": "object",
    "description": "What was said of this address, or list of a source, before holds no longer.",
    "required": ["recipient", "source", "scope"],
    "properties": {
        "recipient": {"type": "string"},
        "source": {"type": "string", "description": "Empty unless a scope is given."},
        "scope": {"type": ["string", "null"], "description": "Null: all mail to the address."},
    },
}


def of_avro(node: Any) -> dict[str, Any]:
    """The JSON Schema of what becomes of an Avro type."""
    if isinstance(node, list):
        made = [of_avro(one) for one in node]
        return {"oneOf": made} if len(made) > 1 else made[0]
    if isinstance(node, str):
        return {"type": _PRIMITIVES[node]}
    if "logicalType" in node and node["logicalType"].startswith("timestamp"):
        return dict(_TIME)
    if node["type"] == "record":
        return _object(node)
    if node["type"] == "enum":
        return {"enum": list(node["symbols"])}
    if node["type"] == "array":
        return {"type": "array", "items": of_avro(node["items"])}
    if node["type"] == "map":
        return {"type": "object", "additionalProperties": of_avro(node["values"])}
    return of_avro(node["type"])


def _object(node: dict[str, Any]) -> dict[str, Any]:
    fields = [field for field in node["fields"] if field["name"] != "head"]
    made: dict[str, Any] = {"type": "object"}
    if node.get("doc"):
        made["description"] = node["doc"]
    made["required"] = [field["name"] for field in fields]
    made["properties"] = {
        field["name"]: of_avro(field["type"])
        | ({"description": field["doc"]} if field.get("doc") else {})
        for field in fields
    }
    return made


def body(topic: str) -> dict[str, Any]:
    """The JSON Schema of a topic's bodies."""
    kind = KINDS[topic]
    data = of_avro(schema_json(LATEST[BY_NAME[topic].schema]))
    types: dict[str, Any] = {"type": "string", "pattern": "^event\\.[a-z_]+$"}
    if kind.types:
        types = {"enum": list(kind.types)}
    if "suppression.lifted" in kind.types:
        data = {"anyOf": [data, LIFTED]}
    return {
        "type": "object",
        "required": ["id", "type", "timestamp", "data"],
        "properties": {
            "id": {"type": "string", "description": "As in header webhook-id; the same each time."},
            "type": types,
            "timestamp": _TIME | {"description": "When it happened."},
            "data": data,
        },
    }
