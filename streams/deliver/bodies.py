"""The JSON bodies of requests, and what they are signed by.

Invariants:
1. Pure. A body is ``{"id", "type", "timestamp", "data"}`` (Standard Webhooks); of several records
   it is ``{"id", "type": "batch", "timestamp", "data": [bodies]}``.
2. ``data`` is the record as its Avro schema says, times as RFC 3339 in UTC. So a new field of a
   record is in the body by itself, and the JSON Schema is made from the Avro schema.
3. The id is the record's CloudEvents id if it can be a header's value and part of what is signed;
   else, and where there is none, a hash of it and of topic and key. It is the same on every try.
4. ``suppression.lifted`` and ``engagement.withdrawn`` have the key of what they take back, so they
   go out after it.

Source: Standard Webhooks 1.0.0, «Payload structure», «Signature scheme».
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from standardwebhooks import Webhook

from schemas import topics
from schemas.codec import LATEST, AvroRecord, schema_json
from schemas.errors import DecodeError
from schemas.scopes import parts_of

TEST = "test"
"""Type of a request that carries no record."""
BODY_BYTES_MAX = 900_000
"""Of one record; a larger one is parked."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Body(NamedTuple):
    """One record as it is sent.

    Attributes:
        id: see invariant 3.
        json: the bytes.
        at_us: the record's own time, microseconds since 1970.
    """

    id: str
    json: bytes
    at_us: int


def identity(ce_id: bytes | None, topic: str, key: bytes | None, value: bytes | None) -> str:
    """The id of a record (invariant 3)."""
    text = (ce_id or b"").decode("utf-8", "replace")
    if _ID.fullmatch(text):
        return text
    digest = sha256()
    for part in (topic.encode(), key or b"", ce_id or value or b""):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def identity_of(record: Any) -> str:
    """The id of a record as consumed from Kafka (invariant 3)."""
    ce_id = next((value for name, value in record.headers if name == "ce_id"), None)
    return identity(ce_id, record.topic, record.key, record.value)


def iso(micros: int) -> str:
    """Microseconds since 1970 as RFC 3339, UTC.

    Raises:
        DecodeError: not in the years 1 to 9999.
    """
    try:
        at = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise DecodeError("time_out_of_range", f"{micros} µs since 1970") from None
    return at.isoformat().replace("+00:00", "Z")


# --- from Avro ---

Convert = Callable[[Any], Any]


def _times(node: Any) -> Convert | None:
    """What turns the times in a value into text; ``None``: it has none."""
    if isinstance(node, list):
        found = [convert for convert in map(_times, node) if convert is not None]
        return (lambda value: None if value is None else found[0](value)) if found else None
    if not isinstance(node, dict):
        return None
    if logical := node.get("logicalType"):
        scale = {"timestamp-micros": 1, "timestamp-millis": 1_000}.get(logical)
        return None if scale is None else lambda value: iso(value * scale)
    if node["type"] == "record":
        return _record(node)
    inner = _times(node.get("items", node.get("values")))
    if inner is None:
        return None if not isinstance(node["type"], dict) else _times(node["type"])
    if node["type"] == "array":
        return lambda value: [inner(one) for one in value]
    return lambda value: {name: inner(one) for name, one in value.items()}


def _record(node: Mapping[str, Any]) -> Convert | None:
    found = {field["name"]: _times(field["type"]) for field in node["fields"]}
    changes = {name: change for name, change in found.items() if change is not None}

    def convert(value: AvroRecord) -> AvroRecord:
        changed = {name: change(value[name]) for name, change in changes.items()}
        return {**value, **changed}

    return convert if changes else None


_CONVERT: dict[str, Convert] = {
    name: _times(schema_json(LATEST[name])) or (lambda record: record)
    for name in (
        "engagement",
        "suppression",
        "alert",
        "source_alert",
        "campaign_rates",
        "enriched_event",
    )  # fmt: skip
}


class Kind(NamedTuple):
    """How records of a topic become bodies.

    Attributes:
        schema: of its values.
        type_of: the body's type.
        at: the record's own time, microseconds since 1970.
        types: every type there is, for documents.
    """

    schema: str
    type_of: Callable[[AvroRecord], str]
    at: Callable[[AvroRecord], int]
    types: tuple[str, ...]


ENGAGED = {"open": "opened", "click": "clicked"}
"""``kind`` of an engagement -> the event type that it is the first of."""


def _engagement(record: AvroRecord) -> str:
    kind = ENGAGED.get(record["kind"], record["kind"])
    return "engagement.withdrawn" if record["withdrawn"] else f"engagement.{kind}"


_SUPPRESSION = Kind(
    "suppression", lambda _: "suppression.set", lambda record: int(record["since"]),
    ("suppression.set", "suppression.lifted"),
)  # fmt: skip
KINDS: Mapping[str, Kind] = {
    topics.ENGAGEMENT: Kind(
        "engagement", _engagement, lambda record: int(record["occurred_at"]),
        ("engagement.opened", "engagement.clicked", "engagement.withdrawn"),
    ),
    topics.SUPPRESSIONS: _SUPPRESSION,
    topics.SCOPED_SUPPRESSIONS: _SUPPRESSION,
    topics.ALERTS: Kind(
        "alert", lambda record: f"incident.{record['state']}",
        lambda record: int(record["changed_at"]),
        ("incident.opened", "incident.escalated", "incident.eased", "incident.closed"),
    ),
    topics.SOURCE_ALERTS: Kind(
        "source_alert", lambda record: f"silence.{record['state']}",
        lambda record: int(record["changed_at"]),
        ("silence.opened", "silence.changed", "silence.closed"),
    ),
    topics.RATES: Kind(
        "campaign_rates", lambda _: "rates.updated", lambda record: int(record["as_of"]),
        ("rates.updated",),
    ),
    topics.ENRICHED: Kind(
        "enriched_event", lambda record: f"event.{record['event']['event_type']}",
        lambda record: int(record["event"]["occurred_at"]), (),
    ),
}  # fmt: skip
"""Topic -> how its records become bodies."""


def of_record(topic: str, body_id: str, record: AvroRecord) -> Body:
    """The body of a decoded record.

    Raises:
        DecodeError: a time of it can't be written.
    """
    kind = KINDS[topic]
    data = _CONVERT[kind.schema](record)
    return _body(body_id, kind.type_of(record), kind.at(record), data)


def of_lifted(body_id: str, key: bytes, timestamp_ms: int) -> Body:
    """The body of a tombstone: what was said of this key before holds no longer.

    Raises:
        DecodeError: its time can't be written.
    """
    recipient, source, scope = parts_of(key.decode("utf-8", "replace"))
    data = {"recipient": recipient, "source": source, "scope": scope or None}
    return _body(body_id, "suppression.lifted", timestamp_ms * 1000, data)


def of_test(body_id: str, now_us: int) -> Body:
    """The body of ``mailpulse deliver test``."""
    return _body(body_id, TEST, now_us, {"message": "sent by mailpulse deliver test"})


def of_own(body_id: str, kind: str, at_us: int, data: Any) -> Body:
    """The body of what ``deliver`` itself tells people."""
    return _body(body_id, kind, at_us, data)


def _body(body_id: str, kind: str, at_us: int, data: Any) -> Body:
    document = {"id": body_id, "type": kind, "timestamp": iso(at_us), "data": data}
    return Body(body_id, orjson.dumps(document), at_us)


def together(bodies: Sequence[Body]) -> Body:
    """The body of a request: of one record its own, of several a batch.

    Its id and time are made of theirs, so it is the same for the same records.
    """
    if len(bodies) == 1:
        return bodies[0]
    batch_id = sha256(".".join(body.id for body in bodies).encode()).hexdigest()[:32]
    at_us = max(body.at_us for body in bodies)
    head = orjson.dumps({"id": batch_id, "type": "batch", "timestamp": iso(at_us)})
    data = b",".join(body.json for body in bodies)
    return Body(batch_id, head[:-1] + b',"data":[' + data + b"]}", at_us)


# --- signature ---


def signed_headers(body: Body, secrets: Sequence[Webhook], now_s: float) -> dict[str, str]:
    """``webhook-id``, ``webhook-timestamp`` and, with secrets, ``webhook-signature``.

    Args:
        secrets: one signature for each, in this order.
        now_s: of this try, seconds since 1970.
    """
    at = datetime.fromtimestamp(int(now_s), UTC)
    headers = {"webhook-id": body.id, "webhook-timestamp": str(int(now_s))}
    if secrets:
        text = body.json.decode()
        headers["webhook-signature"] = " ".join(one.sign(body.id, at, text) for one in secrets)
    return headers
