"""Avro in Confluent framing: ``0x00``, 4-byte big-endian schema id, Avro bytes.

Invariants:
1. Pure: no I/O after import; a registry's ids are an argument.
2. Times are integers in the process (the logical types are for other consumers): no ``datetime``
   objects are made.
3. Every schema version that was ever released stays in ``avro/`` and can be read.
4. An enriched record's ``event`` is the raw record's Avro bytes, untouched.
5. A raw record's head (``schemas.raw_head``) is made and read here; decoded records have none.
6. Records of the newest versions are read and written by functions compiled from their schemas;
   data that these can't handle goes to fastavro.

Sources: Confluent wire format (docs.confluent.io, «Schema Registry serializers»); Avro 1.12
specification, «Data Serialization»: record fields follow one another without framing.
"""

import io
import json
import struct
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, Final, NamedTuple

import fastavro
from fastavro.types import Schema

from schemas.compiled_reader import Read, reader, skimmer
from schemas.compiled_writer import Usual, Writers
from schemas.errors import BadInput, DecodeError
from schemas.raw_head import Head, end_of, headed, of_event, read

AvroRecord = dict[str, Any]

FIXED_IDS: dict[str, int] = {
    "raw_event.v1": 1,
    "enriched_event.v1": 2,
    "campaign_minute.v1": 3,
    "campaign_rates.v1": 4,
    "dead_letter.v1": 5,
    "suppression.v1": 6,
    "engagement.v1": 7,
    "alert.v1": 8,
    "campaign.v1": 9,
    "rules.v1": 10,
    "destination.v1": 11,
    "source_alert.v1": 12,
    "erasure.v1": 13,
    "source_requests.v1": 14,
    "rules.v2": 15,
}
"""``name.version`` of every released schema -> its id while no registry is configured."""

LATEST: dict[str, str] = {full.rsplit(".", 1)[0]: full for full in FIXED_IDS}
"""Schema name -> newest ``name.version`` (``FIXED_IDS`` lists versions in order)."""


class Position(NamedTuple):
    """Where an enriched record comes from; the first fields of its enrichment."""

    log_id: str
    partition: int
    fold_version: int
    offset: int
    version: int


PREFIX_BYTES: Final = 5
UNKNOWN_SCHEMA: Final = "unknown_schema_id"
"""Reason of records of a schema that this release does not know."""
_PREFIX: Final = struct.Struct(">bI")


def schema_json(full_name: str) -> dict[str, Any]:
    """The schema document of ``name.version`` as released, docs and logical types included."""
    text = files("schemas").joinpath("avro", f"{full_name}.avsc").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def without_logical_types(node: Any) -> Any:
    """The schema with times as plain integers."""
    if isinstance(node, dict):
        if set(node) == {"type", "logicalType"}:
            return node["type"]
        return {k: without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [without_logical_types(item) for item in node]
    return node


_PLAIN: dict[str, Schema] = {
    full: fastavro.parse_schema(without_logical_types(schema_json(full))) for full in FIXED_IDS
}
_NEWEST: dict[str, dict[str, Any]] = {name: schema_json(full) for name, full in LATEST.items()}
_ENRICHMENT_JSON: dict[str, Any] = _NEWEST["enriched_event"]["fields"][1]["type"]
_ENRICHMENT: Schema = fastavro.parse_schema(without_logical_types(_ENRICHMENT_JSON))

FRESH: Final = frozenset(
    (
        "event_id", "message_id", "recipient", "recipient_identity", "diagnostic", "ip",
        "rfc_message_id", "message_key", "evidence_event_id", "dead_letter_id",
    )
)  # fmt: skip
"""Texts that rarely repeat."""
HEAD: Final = "head"
_RAW: dict[str, Any] = _NEWEST["raw_event"]
_HEADLESS: dict[str, Any] = {
    **_RAW, "fields": [field for field in _RAW["fields"] if field["name"] != HEAD]
}  # fmt: skip

_USUAL: Final = {"raw_event": Usual(FRESH, moments=frozenset(("occurred_at", "received_at")))}
WRITERS: dict[str, Writers] = {
    name: Writers(_HEADLESS if name == "raw_event" else document, _USUAL.get(name, Usual(FRESH)))
    for name, document in _NEWEST.items()
}
"""Schema name -> writers of records of its newest version, of raw ones without head."""
_WRITE: Final = {name: writers.record() for name, writers in WRITERS.items()}
_WRITE_ENRICHMENT: Final = Writers(_ENRICHMENT_JSON, Usual(FRESH)).record()
_READ: dict[str, Read] = {name: reader(each) for name, each in _NEWEST.items()}
_READ_ATTRIBUTION: Final = reader(_HEADLESS, first="campaign_id", last="recipient_domain")
"""What the streams need of every event, beside the head."""
_READ_READER: Final = reader(_HEADLESS, first="machine_kind", last="geo_country")
"""What they need of opens and clicks too; these fields follow."""
_READ_POSITION: Final = reader(_ENRICHMENT_JSON, last="version")
_READ_ENRICHMENT: Final = reader(_ENRICHMENT_JSON)
_PLACE: Final = ("log_id", "partition", "fold_version", "offset", "version", "revision")
_APART: Final = {
    **dict.fromkeys(_PLACE, True),
    **dict.fromkeys(("previous_campaign_id", "previous_message_key", "rules_version"), False),
}
_SKIM_ENRICHMENT: Final = skimmer(_ENRICHMENT_JSON, apart=_APART)
_REST: Schema = fastavro.parse_schema(
    without_logical_types(
        {
            **_ENRICHMENT_JSON,
            "fields": [one for one in _ENRICHMENT_JSON["fields"] if one["name"] not in _APART],
        }
    )
)


def framing_prefix(schema_id: int) -> bytes:
    """The five bytes in front of every Avro value."""
    return _PREFIX.pack(0, schema_id)


def frame_of(value: bytes) -> int:
    """The schema id of a framed value.

    Raises:
        DecodeError: shorter than the prefix, or the first byte is not 0.
    """
    if len(value) < PREFIX_BYTES:
        raise DecodeError("bad_framing", f"{len(value)} bytes, shorter than the 5-byte prefix")
    magic, schema_id = _PREFIX.unpack_from(value)
    if magic != 0:
        raise DecodeError("bad_framing", f"magic byte is {magic}, not 0")
    return int(schema_id)


class Codec:
    """Encodes and decodes framed values.

    Args:
        ids: ``name.version`` -> schema id; by default the fixed ids of this repository.
    """

    def __init__(self, ids: Mapping[str, int] = FIXED_IDS) -> None:
        self.ids = dict(ids)
        self._names = {schema_id: full for full, schema_id in self.ids.items()}
        self._prefixes = {full: framing_prefix(schema_id) for full, schema_id in self.ids.items()}
        self._raw_prefix = self.prefix("raw_event")

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """One record as framed bytes, by the newest version of schema ``name``.

        Raises:
            BadInput: a value does not fit the schema.
        """
        prefix = self.prefix(name)
        try:
            if name == "raw_event":
                return prefix + headed(record, _WRITE[name](record))
            if name == "enriched_event":
                event = record["event"]
                raw = headed(event, _WRITE["raw_event"](event))
                return prefix + raw + _WRITE_ENRICHMENT(record["enrichment"])
            return _WRITE[name](record, prefix)
        except Exception:  # unusual, or it does not fit: fastavro decides
            return prefix + _encode_by_schema(name, record)

    def name_of(self, value: bytes) -> str:
        """``name.version`` of the schema that a framed value was written with.

        Raises:
            DecodeError: bad framing, or an id that is not known.
        """
        schema_id = frame_of(value)
        try:
            return self._names[schema_id]
        except KeyError:
            raise DecodeError(
                UNKNOWN_SCHEMA, f"schema id {schema_id} unknown: upgrade this mailpulse"
            ) from None

    def prefix(self, name: str) -> bytes:
        """Framing of the newest version of schema ``name``."""
        return self._prefixes[LATEST[name]]

    def raw_head(self, value: bytes) -> Head:
        """A framed raw event, of which only what the streams need of every event is decoded.

        The whole record is checked: by the head's checksum, or by decoding it.

        Raises:
            DecodeError: as ``decode``.
        """
        head = Head(value, self._decode_raw)
        if value.startswith(self._raw_prefix):
            try:
                if _read_head(value, head) == len(value):
                    return head
            except Exception:  # no head, or broken: decoding decides
                pass
        event = self.decode(value, "raw_event")
        head.update(event)
        head.update(of_event(event))
        return head

    def _decode_raw(self, value: bytes) -> AvroRecord:
        return self.decode(value, "raw_event")

    def decode(self, value: bytes, name: str) -> AvroRecord:
        """One framed value as a record of the newest version of schema ``name``.

        Raises:
            DecodeError: bad framing, unknown id, another schema's record, or broken Avro.
        """
        full = self.name_of(value)
        if full.rsplit(".", 1)[0] != name:
            raise DecodeError("wrong_schema", f"{full} instead of {name}")
        record, end = None, 0
        if full == LATEST[name]:
            try:
                record, end = _READ[name](value, PREFIX_BYTES)
            except Exception:  # unusual, or broken: fastavro decides
                pass
        if record is None or end != len(value):
            record = _decode_by_schema(value, full, name)
        return _without_head(record, name)

    def decode_batch(
        self, values: Iterable[bytes], name: str
    ) -> tuple[list[tuple[int, AvroRecord]], list[tuple[int, DecodeError]]]:
        """Decodes each value on its own, so that a bad one does not affect the others.

        Returns:
            ``(position, record)`` of the good ones and ``(position, error)`` of the bad ones.
        """
        records: list[tuple[int, AvroRecord]] = []
        errors: list[tuple[int, DecodeError]] = []
        for position, value in enumerate(values):
            try:
                records.append((position, self.decode(value, name)))
            except DecodeError as error:
                errors.append((position, error))
        return records, errors

    def _check_enriched(self, value: bytes) -> None:
        if not value.startswith(self.prefix("enriched_event")):
            raise DecodeError("wrong_schema", f"{self.name_of(value)} instead of enriched_event")

    def split_enriched(self, value: bytes) -> tuple[Head, bytes, Position]:
        """The parts of an enriched record of the newest version.

        Returns:
            The raw event (as by ``raw_head``), its framed bytes as they were on the raw topic, and
            its coordinates.

        Raises:
            DecodeError: another schema's record, or broken Avro.
        """
        self._check_enriched(value)
        head = Head(value, self._decode_raw)
        try:
            end = _read_head(value, head)
            at, _ = _READ_POSITION(value, end)
        except Exception:  # no head, unusual, or broken: fastavro decides
            event, end, at = _split_by_schema(value)
            head.update(event)
            head.update(of_event(event))
        head.value = self._raw_prefix + value[PREFIX_BYTES:end]
        return head, head.value, Position(*(at[name] for name in Position._fields))

    def enrichment_of(self, value: bytes) -> tuple[int, AvroRecord]:
        """Where the enrichment of an enriched record of the newest version begins, and its fields.

        Raises:
            DecodeError: another schema's record, or broken Avro.
        """
        self._check_enriched(value)
        try:
            end = end_of(value, PREFIX_BYTES)
            fields, _ = _READ_ENRICHMENT(value, end)
        except Exception:  # no head, unusual, or broken: fastavro decides
            _, end, fields = _split_by_schema(value)
        return end, fields

    def place_and_verdict(self, value: bytes) -> tuple[AvroRecord, bytes]:
        """What an enriched record of the newest version says of an event, to be compared.

        Returns:
            Its coordinates, from ``log_id`` to ``revision``; and all the rest of its enrichment as
            bytes, without where the event was before, and without the version of the rules.

        Raises:
            DecodeError: another schema's record, or broken Avro.
        """
        self._check_enriched(value)
        try:
            return _SKIM_ENRICHMENT(value, end_of(value, PREFIX_BYTES))
        except Exception:  # no head, unusual, or broken: fastavro decides
            _, _, fields = _split_by_schema(value)
            return {name: fields[name] for name in _PLACE}, _rest_by_schema(fields)


def _read_head(value: bytes, head: Head) -> int:
    """Reads a framed record's head, and those other fields of it that the streams need.

    Returns:
        Where the raw record ends.

    Raises:
        Exception: of any kind, if there is no head that belongs to the record.
    """
    at, end = read(value, PREFIX_BYTES, head)
    fields, at = _READ_ATTRIBUTION(value, at)
    head.update(fields)
    if head["event_type"] in ("opened", "clicked"):
        fields, at = _READ_READER(value, at)
        head.update(fields)
    return end


def _without_head(record: AvroRecord, name: str) -> AvroRecord:
    if name == "raw_event":
        del record[HEAD]
    elif name == "enriched_event":
        del record["event"][HEAD]
    return record


def _encode_by_schema(name: str, record: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    try:
        if name == "raw_event":  # a head belongs to other bytes
            record = {**record, HEAD: None}
        elif name == "enriched_event":
            record = {**record, "event": {**record["event"], HEAD: None}}
        fastavro.schemaless_writer(out, _PLAIN[LATEST[name]], dict(record))
    except Exception as error:  # fastavro raises a dozen kinds for a value that does not fit
        raise BadInput("not_encodable", f"{name}: {type(error).__name__}") from error
    return out.getvalue()


def _decode_by_schema(value: bytes, full: str, name: str) -> AvroRecord:
    newest = None if full == LATEST[name] else _PLAIN[LATEST[name]]
    stream = io.BytesIO(value)
    stream.seek(PREFIX_BYTES)
    try:
        record: Any = fastavro.schemaless_reader(stream, _PLAIN[full], newest)
    except Exception as error:  # broken bytes surface as many kinds: struct, index, unicode…
        raise DecodeError("broken_avro", f"{name}: {type(error).__name__}") from error
    if stream.tell() != len(value):
        raise DecodeError("broken_avro", f"{name}: {len(value) - stream.tell()} bytes too many")
    return record  # type: ignore[no-any-return]


def _split_by_schema(value: bytes) -> tuple[AvroRecord, int, AvroRecord]:
    stream = io.BytesIO(value)
    stream.seek(PREFIX_BYTES)
    try:
        event: Any = fastavro.schemaless_reader(stream, _PLAIN[LATEST["raw_event"]], None)
        end = stream.tell()
        at: Any = fastavro.schemaless_reader(stream, _ENRICHMENT, None)
    except Exception as error:  # broken bytes surface as many kinds: struct, index, unicode…
        raise DecodeError("broken_avro", f"enriched_event: {type(error).__name__}") from error
    return _without_head(event, "raw_event"), end, at


def _rest_by_schema(enrichment: AvroRecord) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _REST, enrichment)
    return out.getvalue()
