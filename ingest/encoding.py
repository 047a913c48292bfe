"""Raw events as Avro, written out by hand: what ingress does once per event.

Laws of this file:
1. Pure. The bytes are those of ``Codec.encode("raw_event", event)``; a property test compares them.
2. The schema is checked at import: another field or type than what is written here is an error
   there and then, not a wrong byte later.
3. What does not fit raises ``BadInput``, as the codec does.
4. Memory for texts that come again (domains, campaigns, user agents) is bounded.

It exists because fastavro walks the schema for every event, at four times the cost.
Source: Apache Avro 1.12 specification, «Binary Encoding».
"""

from collections.abc import Callable
from typing import Any

from schemas.codec import LATEST, schema_json, without_logical_types
from schemas.errors import BadInput
from schemas.event import Event
from schemas.primitives import COUNTS, integer, text

_KNOWN_MAX = 20_000
_KNOWN_BYTES_MAX = 400
_INT_MAX, _LONG_MAX = 2**31 - 1, 2**63 - 1
_SHORT_SOME = tuple(b"\x02" + size for size in COUNTS[:64])
"""Length of a text of fewer than 64 bytes, behind the branch of an optional text that is there."""
_NULL, _FALSE, _TRUE = b"\x00", b"\x00", b"\x01"
_BOOLEANS = {False: _FALSE, True: _TRUE}
_MAYBE_BOOLEANS = {None: _NULL, False: b"\x02\x00", True: b"\x02\x01"}


def _whole(number: object, most: int) -> bytes:
    """An ``int`` or ``long``, checked."""
    if type(number) is not int or not -most - 1 <= number <= most:
        raise TypeError
    return integer(number)


def _int(number: object) -> bytes:
    """An ``int``."""
    return _whole(number, _INT_MAX)


def _some_int(number: object) -> bytes:
    """An optional ``int``."""
    return _NULL if number is None else b"\x02" + _int(number)


def _some_text(value: str | None) -> bytes:
    """An optional ``string``."""
    if value is None:
        return _NULL
    data = value.encode()
    size = len(data)
    return (_SHORT_SOME[size] if size < 64 else b"\x02" + integer(size)) + data


def _symbols(document: dict[str, Any], name: str) -> dict[str, bytes]:
    """Enum symbol -> its number, encoded."""
    [found] = [field["type"] for field in document["fields"] if field["name"] == name]
    return {symbol: _int(n) for n, symbol in enumerate(found["symbols"])}


_DOCUMENT: dict[str, Any] = schema_json(LATEST["raw_event"])
_ENUMS = {
    name: _symbols(_DOCUMENT, name)
    for name in (
        "event_type", "campaign_source", "bounce_class", "bounce_reason", "machine_kind",
        "dedupe_quality",
    )
}  # fmt: skip
"""Field -> symbol -> bytes."""
_TYPES, _CAMPAIGN_SOURCES, _BOUNCE_CLASSES, _BOUNCE_REASONS, _MACHINES, _QUALITIES = _ENUMS.values()

_LAYOUT = (
    "event_id=string event_type=enum occurred_at=long received_at=long time_suspect=boolean "
    "provider=string source=string message_id=string? recipient=string? recipient_domain=string "
    "recipient_certain=boolean campaign_id=string? campaign_source=enum bounce_class=enum "
    "bounce_reason=enum smtp_code=int? enhanced_status=string? diagnostic=string? "
    "machine_kind=enum user_agent=string? ip=string? click_url=string? native_type=string "
    "dedupe_quality=enum rfc_message_id=string? tags=[string] metadata={string} "
    "provider_first=boolean? geo_country=string? batch_id=string? batch_index=int"
)


def _shape(node: Any) -> str:
    """A type in the notation of ``_LAYOUT``."""
    if isinstance(node, list):
        return f"{_shape(node[1])}?"
    if isinstance(node, str):
        return node
    if node["type"] == "array":
        return f"[{_shape(node['items'])}]"
    return f"{{{_shape(node['values'])}}}" if node["type"] == "map" else str(node["type"])


def _check_layout() -> None:
    fields = without_logical_types(_DOCUMENT)["fields"]
    found = " ".join(f"{field['name']}={_shape(field['type'])}" for field in fields)
    if found != _LAYOUT:
        raise ImportError(f"ingest.encoding does not write {LATEST['raw_event']}: {found}")


_check_layout()


class _Known(dict[Any, bytes]):
    """Values that come again, encoded; what is not there yet is encoded and, if short, kept."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, value: Any) -> bytes:
        data = self._encode(value)
        if len(data) <= _KNOWN_BYTES_MAX:
            if len(self) >= _KNOWN_MAX:
                self.clear()
            self[value] = data
        return data


def _tags(tags: tuple[str, ...]) -> bytes:
    """An array of ``string``."""
    return integer(len(tags)) + b"".join(map(text, tags)) + _NULL


def _moment(moment: int) -> bytes:
    """A ``long``."""
    return _whole(moment, _LONG_MAX)


KINDS = dict(field.split("=") for field in _LAYOUT.split())
"""Field -> its type, in the order in which they follow one another."""
FRESH = frozenset(("event_id", "message_id", "recipient", "diagnostic", "ip", "rfc_message_id"))
"""Texts that hardly ever come again, and are not remembered."""


class RawEncoder:
    """Encodes raw events.

    Args:
        prefix: the five bytes of the schema's id, in front of every record.

    Attributes:
        writers: a field's name -> what writes one value of it; raises what ``encode`` catches.
        moments: writes a ``long``, for values that are known to be whole numbers.
    """

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._known = _Known(text)
        self._some_known = _Known(_some_text)
        self._tags_known = _Known(_tags)
        self._moments_known = _Known(_moment)
        self.moments = self._moments_known.__getitem__
        self.writers = {name: self._writer(name) for name in KINDS}

    def _writer(self, name: str) -> Callable[[Any], bytes]:
        """What writes one value of a field."""
        kind = KINDS[name]
        if name in _ENUMS:
            return _ENUMS[name].__getitem__
        if kind == "string":
            return text if name in FRESH else self._known.__getitem__
        if kind == "string?":
            return _some_text if name in FRESH else self._some_known.__getitem__
        written: dict[str, Callable[[Any], bytes]] = {
            "long": self._moment,
            "int": _int,
            "int?": _some_int,
            "boolean": _BOOLEANS.__getitem__,
            "boolean?": _MAYBE_BOOLEANS.__getitem__,
            "[string]": lambda tags: self._tags_known[tuple(tags)] if tags else _NULL,
            "{string}": lambda metadata: self._metadata(metadata) if metadata else _NULL,
        }
        return written[kind]

    def _moment(self, moment: int) -> bytes:
        if type(moment) is not int:  # 1.0 and True would be found where 1 is kept
            raise TypeError
        return self._moments_known[moment]

    def name(self, key: str) -> bytes:
        """A text that comes again and again, such as a key of metadata."""
        return self._known[key]

    def _metadata(self, metadata: dict[str, str]) -> bytes:
        known = self._known
        parts = [integer(len(metadata))]
        for key, value in metadata.items():
            data = value.encode()
            parts += (known[key], integer(len(data)), data)
        parts.append(_NULL)
        return b"".join(parts)

    def encode(self, event: Event) -> bytes:
        """An event as framed bytes.

        Raises:
            BadInput: ``not_encodable``, a value does not fit the schema.
        """
        try:
            return self._encode(event)
        except (TypeError, KeyError, AttributeError, UnicodeEncodeError) as error:
            raise BadInput("not_encodable", f"raw_event: {type(error).__name__}") from error

    def _encode(self, e: Event) -> bytes:
        known, some, moments = self._known, self._some_known, self._moments_known
        occurred, received, batch_index = e["occurred_at"], e["received_at"], e["batch_index"]
        # 1.0 and True would be found where 1 is kept
        if not (type(occurred) is type(received) is type(batch_index) is int):
            raise TypeError
        identity = e["event_id"].encode()
        smtp_code, diagnostic, ip = e["smtp_code"], e["diagnostic"], e["ip"]
        message_id, recipient, rfc_id = e["message_id"], e["recipient"], e["rfc_message_id"]
        tags, metadata = e["tags"], e["metadata"]
        return b"".join(
            (
                self.prefix,
                integer(len(identity)),
                identity,
                _TYPES[e["event_type"]],
                moments[occurred],
                moments[received],
                _BOOLEANS[e["time_suspect"]],
                known[e["provider"]],
                known[e["source"]],
                _NULL if message_id is None else _some_text(message_id),
                _NULL if recipient is None else _some_text(recipient),
                known[e["recipient_domain"]],
                _BOOLEANS[e["recipient_certain"]],
                some[e["campaign_id"]],
                _CAMPAIGN_SOURCES[e["campaign_source"]],
                _BOUNCE_CLASSES[e["bounce_class"]],
                _BOUNCE_REASONS[e["bounce_reason"]],
                _NULL if smtp_code is None else _some_int(smtp_code),
                some[e["enhanced_status"]],
                _NULL if diagnostic is None else _some_text(diagnostic),
                _MACHINES[e["machine_kind"]],
                some[e["user_agent"]],
                _NULL if ip is None else _some_text(ip),
                some[e["click_url"]],
                known[e["native_type"]],
                _QUALITIES[e["dedupe_quality"]],
                _NULL if rfc_id is None else _some_text(rfc_id),
                self._tags_known[tuple(tags)] if tags else _NULL,
                self._metadata(metadata) if metadata else _NULL,
                _MAYBE_BOOLEANS[e["provider_first"]],
                some[e["geo_country"]],
                some[e["batch_id"]],
                _int(batch_index),
            )
        )
