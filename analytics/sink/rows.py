"""Maps the records of each topic to rows of ClickHouse.

Invariants:
1. Pure. A row is a function of one record and its coordinates in Kafka.
2. Records of the busy topics (enriched events, campaign minutes, raw events) are decoded by
   ClickHouse from an Avro file, with the statements below. Those of the quiet topics are decoded
   in Python and inserted as columns.
3. A row's identity is its sorting key and its version comes from the record, so writing it again
   changes nothing (invariants 3 and 4 of the design).
4. An event whose campaign or message key changed gives two rows in one insert: the event, and a
   tombstone under the previous ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from schemas import topics
from schemas.codec import LATEST, AvroRecord, schema_json, without_logical_types
from schemas.glossary import COUNTER_NAMES
from schemas.primitives import read_integer
from schemas.scopes import parts_of
from schemas.versions import ROW_OFFSET_BITS

Columns = dict[str, list[Any]]
NO_EVENT = UUID(int=0)
FRAME_BYTES = 5
"""Magic byte and schema id before the Avro of a record."""


class Polled(Protocol):
    """A record from Kafka: the part of aiokafka's ``ConsumerRecord`` that is used.

    Attributes:
        topic: topic name.
        partition: partition number.
        offset: offset.
        timestamp: the record's timestamp, milliseconds since 1970-01-01 UTC.
        key: the record's key.
        value: framed Avro; ``None`` for a tombstone.
        headers: in order.
    """

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


# --- the busy topics: statements ------------------------------------------------------------------


def _ms(field: str) -> str:
    return f"fromUnixTimestamp64Milli(intDiv(`{field}`, 1000), 'UTC')"


_EVENT: dict[str, str] = {
    # column: expression over fields of the record; ` quotes a field's path
    "campaign_id": (
        "if(is_deleted = 1, coalesce(`enrichment.previous_campaign_id`,"
        " `enrichment.campaign_id`, ''), ifNull(`enrichment.campaign_id`, ''))"
    ),
    "message_key": (
        "toUUID(if(is_deleted = 1, ifNull(`enrichment.previous_message_key`,"
        " `enrichment.message_key`), `enrichment.message_key`))"
    ),
    "event_time": _ms("enrichment.event_time"),
    "event_id": "toUUID(`event.event_id`)",
    "event_type": "`event.event_type`",
    "occurred_at": _ms("event.occurred_at"),
    "received_at": _ms("event.received_at"),
    "time_suspect": "`event.time_suspect`",
    "provider": "`event.provider`",
    "source": "`event.source`",
    "received_by": "`event.received_by`",
    "message_id": "ifNull(`event.message_id`, '')",
    "recipient": "ifNull(`event.recipient`, '')",
    "recipient_identity": "coalesce(`event.recipient_identity`, lowerUTF8(`event.recipient`), '')",
    "recipient_domain": "`event.recipient_domain`",
    "recipient_certain": "`event.recipient_certain`",
    "mailbox_provider": "`enrichment.mailbox_provider`",
    "campaign_source": "`enrichment.campaign_source`",
    "bounce_class": "`enrichment.bounce_class`",
    "bounce_reason": "`enrichment.bounce_reason`",
    "smtp_code": "toUInt16(ifNull(`event.smtp_code`, 0))",
    "enhanced_status": "ifNull(`event.enhanced_status`, '')",
    "diagnostic": "ifNull(`event.diagnostic`, '')",
    "suppression_scope": "ifNull(`event.suppression_scope`, '')",
    "actor": "`enrichment.actor`",
    "actor_reason": "`enrichment.actor_reason`",
    "actor_certainty": "`enrichment.actor_certainty`",
    "machine_kind": "`event.machine_kind`",
    "rules_version": "`enrichment.rules_version`",
    "first_of_kind": "`enrichment.first_of_kind`",
    "first_human": "`enrichment.first_human`",
    "unsubscribe_link": "`enrichment.unsubscribe_link`",
    "seconds_since_delivery": "`enrichment.seconds_since_delivery`",
    "user_agent": "ifNull(`event.user_agent`, '')",
    "device": "`enrichment.device`",
    "os": "`enrichment.os`",
    "client": "`enrichment.client`",
    "ip": "ifNull(`event.ip`, '')",
    "country": "`enrichment.country`",
    "click_url": "ifNull(`event.click_url`, '')",
    "click_url_group": "`enrichment.click_url_group`",
    "tags": "`event.tags`",
    "metadata": "`event.metadata`",
    "native_type": "`event.native_type`",
    "dedupe_quality": "`event.dedupe_quality`",
    "rfc_message_id": "ifNull(`event.rfc_message_id`, '')",
    "log_id": "`enrichment.log_id`",
    "partition": "`enrichment.partition`",
    "offset": "`enrichment.offset`",
    "revision": "`enrichment.revision`",
    "version": f"bitShiftLeft(toUInt64(`enrichment.revision`), {ROW_OFFSET_BITS})"
    " + toUInt64(`enrichment.version`)",
    "is_deleted": "is_deleted",
}
# a second row, the tombstone, if the campaign or the message key changed
_EVENT_COPIES = """
ARRAY JOIN if(
    ifNull(`enrichment.previous_campaign_id` != ifNull(`enrichment.campaign_id`, ''), 0)
        OR ifNull(`enrichment.previous_message_key` != `enrichment.message_key`, 0),
    [0, 1], [0]
) AS is_deleted"""

_MINUTE: dict[str, str] = {
    "campaign_id": "`campaign_id`",
    "mailbox_provider": "`mailbox_provider`",
    "minute": "toDateTime(intDiv(`minute`, 1000), 'UTC')",
    "log_id": "`log_id`",
    "partition": "`partition`",
    "offset": "`offset`",
    **{name: f"`{name}`" for name in COUNTER_NAMES},
}

_ACCEPTED: dict[str, str] = {
    # as stored_from_events in 0013_reconciliation.sql: both sides must give an event one minute
    "minute": f"toStartOfMinute({_ms('received_at')})",
    "source": "`source`",
    "event_id": "toUUID(`event_id`)",
}

_TYPES = {
    "string": "String", "long": "Int64", "int": "Int32", "boolean": "Bool", "double": "Float64",
}  # fmt: skip


def clickhouse_type(avro: Any) -> str:
    """The ClickHouse type for an Avro type.

    Raises:
        ValueError: a type that no busy topic uses.
    """
    if isinstance(avro, str) and avro in _TYPES:
        return _TYPES[avro]
    if isinstance(avro, list) and len(avro) == 2 and avro[0] == "null":
        return f"Nullable({clickhouse_type(avro[1])})"
    if isinstance(avro, dict):
        if avro["type"] == "enum":
            return "String"
        if avro["type"] == "array":
            return f"Array({clickhouse_type(avro['items'])})"
        if avro["type"] == "map":
            return f"Map(String, {clickhouse_type(avro['values'])})"
        return clickhouse_type(avro["type"])
    raise ValueError(f"no ClickHouse type for {avro!r}")


def fields_of(document: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Path -> Avro type of every field; paths of nested records' fields are joined by dots."""
    found: dict[str, Any] = {}
    for field in document["fields"]:
        name = f"{path}{field['name']}"
        if isinstance(field["type"], dict) and field["type"]["type"] == "record":
            found |= fields_of(field["type"], f"{name}.")
        else:
            found[name] = field["type"]
    return found


def _statement(table: str, schema: str, columns: Mapping[str, str], copies: str = "") -> str:
    fields = fields_of(without_logical_types(schema_json(LATEST[schema])))
    text = "\n".join(columns.values()) + copies
    structure = ", ".join(
        f"`{path}` {clickhouse_type(kind)}" for path, kind in fields.items() if f"`{path}`" in text
    )
    names = ", ".join(columns)
    # columns are matched by position: an alias would shadow the field of the same name
    select = ", ".join(columns.values())
    source = f"input('{structure}')"
    return f"INSERT INTO {table} ({names}) SELECT {select} FROM {source}{copies}"


_EVENTS = _statement("events", "enriched_event", _EVENT, _EVENT_COPIES)
STATEMENTS: dict[str, str] = {
    topics.ENRICHED: _EVENTS,
    topics.HISTORY: _EVENTS,
    topics.MINUTES: _statement("campaign_minutes", "campaign_minute", _MINUTE),
    topics.RAW: _statement("accepted", "raw_event", _ACCEPTED),
}
"""Topic -> the INSERT that reads an Avro file of its records."""

# --- the quiet topics: columns --------------------------------------------------------------------

Builder = Callable[[Sequence[AvroRecord], Sequence[Polled]], Columns]


def _plain(records: Sequence[AvroRecord], names: Sequence[str], empty: Any = "") -> Columns:
    """Columns named as their fields, with ``empty`` for null."""
    return {
        name: [empty if record[name] is None else record[name] for record in records]
        for name in names
    }


def _campaign_rates(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    pairs = [(record, window) for record in records for window in record["windows"]]
    columns: Columns = {
        name: [record[name] for record, _ in pairs]
        for name in ("campaign_id", "as_of", "complete_through", "revision")
    }
    for name in ("window", "starts_at", "ends_at", "settled"):
        columns[name] = [window[name] for _, window in pairs]
    for name in COUNTER_NAMES:
        columns[name] = [window["counts"][name] for _, window in pairs]
    for name in ("name", "basis", "numerator", "denominator", "value", "low", "high"):
        columns[f"rates.{name}"] = [[rate[name] for rate in window["rates"]] for _, window in pairs]
    return columns


def _campaign_rates_history(records: Sequence[AvroRecord], places: Sequence[Polled]) -> Columns:
    columns = _campaign_rates(records, places)
    columns["published_minute"] = [as_of // 60_000_000 * 60 for as_of in columns["as_of"]]
    return columns


def _incident_changes(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    columns = _plain(
        records,
        (
            "incident_id", "sequence", "state", "campaign_id", "rate", "level", "worst_level",
            "mailbox_provider", "line", "window", "numerator", "denominator", "value",
            "opened_numerator", "opened_denominator", "opened_value", "opened_at", "changed_at",
            "as_of", "number", "cause", "cause_name", "cause_share", "advice",
        ),
    )  # fmt: skip
    for name in ("mailbox_provider", "level", "line", "numerator", "denominator", "value"):
        columns[f"places.{name}"] = [[one[name] for one in record["places"]] for record in records]
    return columns


def _source_incident_changes(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    columns = _plain(
        records,
        (
            "incident_id", "sequence", "state", "source", "event_type", "level", "silent_since",
            "usual_gap_s", "explained_s", "opened_at", "changed_at", "as_of", "advice", "cause",
            "refused", "refusal",
        ),
    )  # fmt: skip
    for name in ("resumed_at", "accepted_until", "refused_since", "refused_until"):
        columns[name] = [record[name] for record in records]
    return columns


def _source_requests(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    pairs = [(record, one) for record in records for one in record["results"]]
    columns: Columns = {
        name: [record[name] for record, _ in pairs]
        for name in ("source", "ingress", "sequence", "began_at", "ended_at")
    }
    for name in ("result", "reason", "requests", "first_at", "last_at"):
        columns[name] = [one[name] for _, one in pairs]
    return columns


def _suppressions(records: Sequence[AvroRecord], places: Sequence[Polled]) -> Columns:
    columns = _plain(
        records,
        (
            "recipient", "reason", "evidence_event_id", "provider", "source", "campaign_id",
            "mailbox_provider", "diagnostic", "log_id", "partition", "offset",
        ),
    )  # fmt: skip
    columns["since"] = [record["since"] // 1000 for record in records]
    columns["until"] = [_ms_or_none(record["until"]) for record in records]
    columns["version"] = [place.timestamp << 20 | place.offset & 0xFFFFF for place in places]
    columns["is_deleted"] = [int(record.get("tombstone", False)) for record in records]
    return columns


def _scoped_suppressions(records: Sequence[AvroRecord], places: Sequence[Polled]) -> Columns:
    return {**_suppressions(records, places), **_plain(records, ("scope",))}


def _campaigns(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    columns = _plain(records, ("campaign_id", "name", "owner", "tags", "updated_at"))
    columns["started_at"] = [_ms_or_none(record["started_at"]) for record in records]
    columns["expected_recipients"] = [record["expected_recipients"] for record in records]
    columns["is_deleted"] = [int(record.get("tombstone", False)) for record in records]
    return columns


def _dead_letters(records: Sequence[AvroRecord], _places: Sequence[Polled]) -> Columns:
    columns = _plain(
        records,
        ("dead_letter_id", "stage", "reason", "detail", "source", "provider", "topic", "log_id"),
    )
    columns |= _plain(records, ("partition", "offset"), empty=-1)
    columns["occurred_at"] = [record["occurred_at"] // 1000 for record in records]
    columns["event_id"] = [_event_of(record["topic"], record["content"]) for record in records]
    columns["content_bytes"] = [len(record["content"]) for record in records]
    return columns


def _event_of(topic: str | None, content: bytes) -> UUID:
    """The event that a dead letter's record holds; zero if it is none or can't be read.

    Its id comes first in raw and enriched records, so it is readable in many that are not.
    """
    if topic not in (topics.RAW, topics.ENRICHED, topics.HISTORY):
        return NO_EVENT
    try:
        # no further than a short length: an endless one would take the square of its bytes
        size, at = read_integer(content[: FRAME_BYTES + 2], FRAME_BYTES)
        return UUID(content[at : at + size].decode())
    except (IndexError, ValueError):
        return NO_EVENT


def _ms_or_none(micros: int | None) -> int | None:
    return None if micros is None else micros // 1000


BUILDERS: dict[str, tuple[tuple[str, Builder], ...]] = {
    topics.RATES: (
        ("campaign_rates", _campaign_rates),
        ("campaign_rates_history", _campaign_rates_history),
    ),
    topics.ALERTS: (("incident_changes", _incident_changes),),
    topics.SOURCE_ALERTS: (("source_incident_changes", _source_incident_changes),),
    topics.SOURCE_REQUESTS: (("source_requests", _source_requests),),
    topics.SUPPRESSIONS: (("suppressions", _suppressions),),
    topics.SCOPED_SUPPRESSIONS: (("scoped_suppressions", _scoped_suppressions),),
    topics.CAMPAIGNS: (("campaigns", _campaigns),),
    topics.DEAD_LETTERS: (("dead_letters", _dead_letters),),
}
"""Topic -> its tables, each with the function that builds its columns from decoded records."""

_NO_SUPPRESSION: AvroRecord = {
    "reason": "", "scope": None, "since": 0, "until": None, "evidence_event_id": "",
    "provider": "", "source": "", "campaign_id": None, "mailbox_provider": "", "diagnostic": None,
    "log_id": "", "partition": 0, "offset": 0,
}  # fmt: skip
_LIFTED: dict[str, AvroRecord] = {
    topics.SUPPRESSIONS: _NO_SUPPRESSION,
    topics.SCOPED_SUPPRESSIONS: _NO_SUPPRESSION,
    topics.CAMPAIGNS: {
        "name": "", "owner": "", "started_at": None, "expected_recipients": None, "tags": [],
    },
}  # fmt: skip


def tombstone(place: Polled) -> AvroRecord | None:
    """The substitute record for a Kafka tombstone (a null value); ``None``: nothing to store.

    A tombstone lifts a suppression or withdraws a campaign's facts. Those of minutes and rates only
    free space in Kafka; ClickHouse keeps its rows.
    """
    blank = _LIFTED.get(place.topic)
    if blank is None or place.key is None:
        return None
    key = place.key.decode("utf-8", "replace")
    if place.topic == topics.CAMPAIGNS:
        lifted = {**blank, "campaign_id": key, "updated_at": place.timestamp * 1000}
    else:
        identity, source, scope = parts_of(key)
        lifted = {**blank, "recipient": identity, "source": source, "scope": scope}
    return {**lifted, "tombstone": True}
