"""A parcel: the encoded records of one request, kept or refused as a whole.

Invariants:
1. Pure.
2. The unit of acknowledgement is the parcel: ingress answers 200 when Kafka has every record of
   it, or the spool has it as one frame. No parcel is answered 200 when only part of it is kept.
3. ``from_bytes(to_bytes(parcel))`` equals the parcel. The bytes of one without a trace are those of
   the version before traces.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

Pair = tuple[bytes, bytes]
"""Key and value of a record."""

_HEAD = struct.Struct(">BqII")
_SIZES = struct.Struct(">II")
_TRACE_SIZE = struct.Struct(">B")
_UNTRACED, _TRACED = 1, 2
"""Versions of the encoding on the spool."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """The records of one request, in their order.

    Attributes:
        timestamp_ms: when the request was received, milliseconds since 1970; the records' time.
        events: records for the raw topic.
        dead_letters: records for the dead-letter topic.
        trace: ``traceparent`` of the request, for every record's headers; empty if it had none.
    """

    timestamp_ms: int
    events: Sequence[Pair] = ()
    dead_letters: Sequence[Pair] = ()
    trace: bytes = b""

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.events) + len(self.dead_letters)

    @property
    def size(self) -> int:
        """Bytes of keys and values together."""
        return sum(map(len, chain.from_iterable((*self.events, *self.dead_letters))))


def to_bytes(parcel: Parcel) -> bytes:
    """A parcel as bytes, for the spool."""
    version = _TRACED if parcel.trace else _UNTRACED
    parts = [_HEAD.pack(version, parcel.timestamp_ms, len(parcel.events), len(parcel.dead_letters))]
    if parcel.trace:
        parts += (_TRACE_SIZE.pack(len(parcel.trace)), parcel.trace)
    for pairs in (parcel.events, parcel.dead_letters):
        for key, value in pairs:
            parts += (_SIZES.pack(len(key), len(value)), key, value)
    return b"".join(parts)


def from_bytes(data: bytes) -> Parcel:
    """The parcel that ``to_bytes`` encoded as ``data``.

    Raises:
        ValueError: not a parcel, or one of a version that this program does not know.
    """
    try:
        version, timestamp_ms, events, dead_letters = _HEAD.unpack_from(data)
        at, trace = _HEAD.size, b""
        if version == _TRACED:
            (size,) = _TRACE_SIZE.unpack_from(data, at)
            at += _TRACE_SIZE.size + size
            trace = data[at - size : at]
        elif version != _UNTRACED:
            raise ValueError(f"parcel version {version}")
        pairs: list[Pair] = []
        for _ in range(events + dead_letters):
            key_size, value_size = _SIZES.unpack_from(data, at)
            at += _SIZES.size
            middle, end = at + key_size, at + key_size + value_size
            if end > len(data):
                raise ValueError("parcel is cut short")
            pairs.append((data[at:middle], data[middle:end]))
            at = end
    except struct.error as error:
        raise ValueError("parcel is cut short") from error
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes after the parcel")
    return Parcel(timestamp_ms, pairs[:events], pairs[events:], trace)
