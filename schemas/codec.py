"""Avro in Confluent framing: ``0x00``, 4-byte big-endian schema id, Avro bytes.

Invariants:
1. Pure: no I/O after import; a registry's ids are an argument.
2. Times are integers in the process (the logical types are for other consumers): no ``datetime``
   objects are made.
3. Every schema version that was ever released stays in ``avro/`` and can be read.
4. An enriched record's ``event`` is the raw record's Avro bytes, untouched; the streams read
   the raw fields before ``HEAD_END`` and check the rest.
5. Records of the newest versions are read and written by functions compiled from their schemas;
   data that these can't handle goes to fastavro.

Sources: Confluent wire format (docs.confluent.io, «Schema Registry serializers»); Avro 1.12
specification, «Data Serialization»: record fields follow one another without framing.
"""

import io
import json
import struct
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.types import Schema

from schemas.compiled_reader import Read, reader
from schemas.compiled_writer import Usual, Writers
from schemas.errors import BadInput, DecodeError

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
}
"""``name.version`` of every released schema -> its id while no registry is configured."""

LATEST: dict[str, str] = {full.rsplit(".", 1)[0]: full for full in FIXED_IDS}
"""Schema name -> newest ``name.version`` (``FIXED_IDS`` lists versions in order)."""

HEAD_END = "native_type"
"""First raw field that the streams do not read, except ``geo_country``."""

_POSITION = ("log_id", "partition", "offset", "version")
Position = tuple[str, int, int, int]
"""Those fields of an enrichment."""

PREFIX_BYTES = 5
_PREFIX = struct.Struct(">bI")


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

FRESH = frozenset(
    (
        "event_id", "message_id", "recipient", "diagnostic", "ip", "rfc_message_id", "message_key",
        "evidence_event_id", "dead_letter_id",
    )
)  # fmt: skip
"""Texts that rarely repeat."""
_USUAL = {"raw_event": Usual(FRESH, moments=frozenset(("occurred_at", "received_at")))}
WRITERS: dict[str, Writers] = {
    name: Writers(document, _USUAL.get(name, Usual(FRESH))) for name, document in _NEWEST.items()
}
"""Schema name -> writers of records of its newest version."""
_WRITE = {name: writers.record() for name, writers in WRITERS.items()}
_READ: dict[str, Read] = {name: reader(each) for name, each in _NEWEST.items()}


def _head_names() -> list[str]:
    """The raw fields that the streams read."""
    names = [field["name"] for field in _NEWEST["raw_event"]["fields"]]
    return [*names[: names.index(HEAD_END)], "geo_country"]


_READ_HEAD = reader(_NEWEST["raw_event"], _head_names())
_READ_POSITION = reader(_ENRICHMENT_JSON, _POSITION, last=_POSITION[-1])


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
                "unknown_schema_id", f"schema id {schema_id} unknown: upgrade this mailpulse"
            ) from None

    def prefix(self, name: str) -> bytes:
        """Framing of the newest version of schema ``name``."""
        return self._prefixes[LATEST[name]]

    def raw_head(self, value: bytes) -> AvroRecord:
        """A framed raw event's fields that the streams read: at least those before ``HEAD_END``.

        The whole record is checked, as by ``decode``; this is only faster.

        Raises:
            DecodeError: as ``decode``.
        """
        if value.startswith(self._raw_prefix):
            try:
                head, end = _READ_HEAD(value, PREFIX_BYTES)
            except Exception:  # unusual, or broken: fastavro decides
                return _decode_by_schema(value, LATEST["raw_event"], "raw_event")
            if end == len(value):
                return head
        return self.decode(value, "raw_event")

    def decode(self, value: bytes, name: str) -> AvroRecord:
        """One framed value as a record of the newest version of schema ``name``.

        Raises:
            DecodeError: bad framing, unknown id, another schema's record, or broken Avro.
        """
        full = self.name_of(value)
        if full.rsplit(".", 1)[0] != name:
            raise DecodeError("wrong_schema", f"{full} instead of {name}")
        if full == LATEST[name]:
            try:
                record, end = _READ[name](value, PREFIX_BYTES)
            except Exception:  # unusual, or broken: fastavro decides
                return _decode_by_schema(value, full, name)
            if end == len(value):
                return record
        return _decode_by_schema(value, full, name)

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

    def split_enriched(self, value: bytes) -> tuple[AvroRecord, bytes, Position]:
        """The parts of an enriched record of the newest version.

        Returns:
            The raw event's head (``raw_head``), its framed bytes as they were on the raw topic, and
            its coordinates.

        Raises:
            DecodeError: another schema's record, or broken Avro.
        """
        if not value.startswith(self.prefix("enriched_event")):
            raise DecodeError("wrong_schema", f"{self.name_of(value)} instead of enriched_event")
        try:
            event, end = _READ_HEAD(value, PREFIX_BYTES)
            at, _ = _READ_POSITION(value, end)
            position: Any = tuple(at.values())
        except Exception:  # unusual, or broken: fastavro decides
            event, end, position = _split_by_schema(value)
        return event, self._raw_prefix + value[PREFIX_BYTES:end], position


def _encode_by_schema(name: str, record: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    try:
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


def _split_by_schema(value: bytes) -> tuple[AvroRecord, int, Position]:
    stream = io.BytesIO(value)
    stream.seek(PREFIX_BYTES)
    try:
        event: Any = fastavro.schemaless_reader(stream, _PLAIN[LATEST["raw_event"]], None)
        end = stream.tell()
        at: Any = fastavro.schemaless_reader(stream, _ENRICHMENT, None)
    except Exception as error:  # broken bytes surface as many kinds: struct, index, unicode…
        raise DecodeError("broken_avro", f"enriched_event: {type(error).__name__}") from error
    return event, end, tuple(at[name] for name in _POSITION)
