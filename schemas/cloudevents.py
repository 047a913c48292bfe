"""CloudEvents 1.0 headers of Kafka records (binary mode of the Kafka protocol binding).

Invariants:
1. Pure. Headers that are the same for all records of a kind are made once, and the time once per
   second; only the id is made per record, since this runs for every event received and sent.
2. ``ce_id`` is the same when the same thing is written again, and different for everything else of
   the same source, so consumers can deduplicate by it.
3. Returned lists may be shared: callers do not change them.

Source: CloudEvents 1.0.2, «Required Attributes»; Kafka protocol binding 1.0.2, §3.2.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256

from schemas.primitives import integer, read_integer

Header = tuple[str, bytes]
Headers = list[Header]

SOURCES = INGEST, ENRICH, CAMPAIGNS, SINK, DELIVER, CLI, BOOKS = (
    "/mailpulse/ingest",
    "/mailpulse/enrich",
    "/mailpulse/campaigns",
    "/mailpulse/sink",
    "/mailpulse/deliver",
    "/mailpulse/cli",
    "/mailpulse/books",
)
"""``ce_source`` of each stage."""

_FRAME = 5
_ID_LENGTH = 32 << 1
"""Length, as encoded by Avro, of mailpulse's own ids."""
_ID_END = _FRAME + 1 + 32


@lru_cache(maxsize=64)
def _static(kind: str, source: str) -> tuple[Header, ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", f"io.mailpulse.{kind}.v1".encode()),
        ("ce_source", source.encode()),
        ("content-type", b"application/avro"),
    )


@lru_cache(maxsize=4096)
def _time_of(second: int) -> Header:
    return "ce_time", f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}".encode()


def cloud_event(kind: str, source: str, identity: str, time_us: int) -> Headers:
    """Headers of one record.

    Args:
        kind: schema name of its value, such as ``alert``; makes ``ce_type``.
        source: the stage that writes it; one of the constants above.
        identity: see invariant 2.
        time_us: microseconds since 1970; written to the second.
    """
    return [
        *_static(kind, source),
        ("ce_id", identity.encode("utf-8", "replace")),
        _time_of(time_us // 1_000_000),
    ]


def by_identity(kind: str, source: str, time_us: int) -> Callable[[bytes], Headers]:
    """``cloud_event`` for many records of one time: a function of the identity."""
    version, kind_header, source_header, content = _static(kind, source)
    at = _time_of(time_us // 1_000_000)

    def headers(identity: bytes) -> Headers:
        return [version, kind_header, source_header, content, ("ce_id", identity), at]

    return headers


def leading_text(value: bytes) -> bytes:
    """The first field, a text, of a framed record: the id of events and dead letters.

    A record without one gets a hash of its bytes: headers must not block a record.
    """
    try:
        if value[_FRAME] == _ID_LENGTH:
            return value[_FRAME + 1 : _FRAME + 33]
        size, at = read_integer(value, _FRAME)
    except IndexError:
        size, at = 0, 0
    return value[at : at + size] if size > 0 else sha256(value).hexdigest()[:32].encode()


def by_leading_text(kind: str, source: str) -> Callable[[bytes, int], Headers]:
    """For hot paths: a function from framed value and timestamp (ms) to the headers."""
    version, kind_header, source_header, content = _static(kind, source)

    def headers(value: bytes, timestamp_ms: int) -> Headers:
        return [
            version, kind_header, source_header, content,
            ("ce_id", leading_text(value)), _time_of(timestamp_ms // 1000),
        ]  # fmt: skip

    return headers


def _wire(name: str, value: bytes) -> bytes:
    """A header as encoded in a record."""
    key = name.encode()
    return integer(len(key)) + key + integer(len(value)) + value


@lru_cache(maxsize=4096)
def _wire_time(second: int) -> bytes:
    return _wire(*_time_of(second))


def _wire_ids(values: Sequence[bytes]) -> list[bytes]:
    """``leading_text`` of each, after its length as encoded in records.

    Avro and Kafka encode integers alike, so both can be copied from the value.
    """
    if all([len(value) > _ID_END and value[_FRAME] == _ID_LENGTH for value in values]):
        return [value[_FRAME:_ID_END] for value in values]
    return [integer(len(text)) + text for text in map(leading_text, values)]


class WireHeaders:
    """``by_leading_text`` for many records of the same time, as bytes.

    Args:
        kind: schema name of the values.
        source: the stage that writes them.
    """

    def __init__(self, kind: str, source: str) -> None:
        static = b"".join(_wire(*header) for header in _static(kind, source))
        id_name = integer(5) + b"ce_id"
        self._starts = [integer(count) + static + id_name for count in (6, 7)]

    def columns(
        self, values: Sequence[bytes], timestamp_ms: int, last: Header | None = None
    ) -> tuple[bytes, list[bytes], bytes]:
        """The common beginning of all records' headers, the part that differs, and the common end.

        Args:
            values: framed records.
            timestamp_ms: milliseconds since 1970.
            last: one more header, after the others.
        """
        end = _wire_time(timestamp_ms // 1000)
        if last is not None:
            end += _wire(*last)
        return self._starts[last is not None], _wire_ids(values), end
