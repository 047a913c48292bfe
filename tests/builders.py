"""Builders of valid records; a test names only the fields that it is about."""

from typing import Any, cast

from schemas.codec import LATEST, Codec, schema_json
from schemas.event import Event, new_event
from schemas.identity import address_identity
from tests.strategies import without_head

RECEIVED_AT = 1_790_000_000_000_000
"""A moment in September 2026, microseconds; no test depends on today."""

_EMPTY: dict[str, Any] = {"string": "", "long": 0, "int": 0, "double": 0.0, "boolean": False}


def event(**overrides: Any) -> Event:
    """A delivered event of campaign ``spring`` to ``ada@example.com``.

    Raises:
        TypeError: an override that is no field of an event.
    """
    built: dict[str, Any] = {
        **new_event(
            event_id="0" * 31 + "1",
            event_type="delivered",
            occurred_at=RECEIVED_AT - 1_000_000,
            received_at=RECEIVED_AT,
            provider="generic",
            native_type="delivered",
        ),
        "source": "news",
        "message_id": "message-1",
        "recipient": "ada@example.com",
        "recipient_domain": "example.com",
        "campaign_id": "spring",
        "campaign_source": "metadata",
    }
    _refuse_unknown(built, overrides)
    built |= overrides
    if "recipient_identity" not in overrides and built["recipient"]:
        built["recipient_identity"] = address_identity(built["recipient"])
    return cast("Event", built)


def record(name: str, **overrides: Any) -> dict[str, Any]:
    """A record of the newest version of schema ``name``: defaults, else zero or empty.

    Raises:
        TypeError: an override that is no field of the schema.
    """
    built = without_head(_empty(schema_json(LATEST[name])))
    _refuse_unknown(built, overrides)
    return {**built, **overrides}


def enrichment(**overrides: Any) -> dict[str, Any]:
    """What the streams add to an event: coordinates of offset 0 on partition 0 of log ``log``.

    Raises:
        TypeError: an override that is no field of the enrichment.
    """
    built = _empty(schema_json(LATEST["enriched_event"])["fields"][1]["type"]) | {"log_id": "log"}
    _refuse_unknown(built, overrides)
    return {**built, **overrides}


def raw_value(**overrides: Any) -> bytes:
    """``event(**overrides)`` as bytes on the raw topic, with the fixed schema id."""
    return Codec().encode("raw_event", event(**overrides))


def _empty(node: dict[str, Any]) -> dict[str, Any]:
    return {
        field["name"]: field["default"] if "default" in field else _zero(field["type"])
        for field in node["fields"]
    }


def _zero(node: Any) -> Any:
    if isinstance(node, list):
        return _zero(node[0])
    if isinstance(node, str):
        return {**_EMPTY, "null": None, "bytes": b""}[node]
    kind = node["type"]
    if kind == "record":
        return _empty(node)
    if kind == "enum":
        return node["default"]
    return {"array": [], "map": {}}[kind] if kind in ("array", "map") else _zero(kind)


def _refuse_unknown(built: dict[str, Any], overrides: dict[str, Any]) -> None:
    unknown = set(overrides) - set(built)
    if unknown:
        raise TypeError(f"no such field: {sorted(unknown)}")
