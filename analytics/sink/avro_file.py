"""Kafka values put together as one Avro file, so that ClickHouse decodes them and Python does not.

Invariants:
1. Pure. A framed value is cut behind its five bytes of framing; nothing in it is decoded.
2. One block per record: a record that is broken can't be read past its end, so it never turns its
   neighbours into something else (invariant 7 of the design). Blocks cost 18 bytes and no time.
3. All records of a file were written by one schema version; the engine reads them by field name,
   so an older version's missing fields take their defaults.

Measured on chDB 26.9, one core, a full enriched record of 322 bytes: the engine decodes about
700,000 records a second, ``fastavro`` about 26,000.

Source: Avro 1.12 specification, «Object Container Files».
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache

from schemas.codec import PREFIX_BYTES, schema_json

_SYNC = b"mailpulse--block"  # any 16 bytes; blocks are found by their length, not by searching
_ONE_RECORD = b"\x02"


def long_bytes(number: int) -> bytes:
    """A non-negative integer as Avro writes it: zig-zag, seven bits a byte, low bits first."""
    rest = number << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_LENGTHS = [long_bytes(number) for number in range(8192)]


@cache
def header(full_name: str) -> bytes:
    """The file header of schema ``name.version``: magic, schema, codec null, sync marker."""
    entries = (
        (b"avro.schema", json.dumps(schema_json(full_name)).encode()),
        (b"avro.codec", b"null"),
    )
    body = b"".join(
        long_bytes(len(key)) + key + long_bytes(len(value)) + value for key, value in entries
    )
    return b"Obj\x01" + long_bytes(len(entries)) + body + long_bytes(0) + _SYNC


def container(full_name: str, values: Iterable[bytes]) -> bytes:
    """A file of framed values, one block each, in order.

    Args:
        full_name: schema that every value was written with, as ``name.version``.
        values: as they came from Kafka, framing included.
    """
    parts = [header(full_name)]
    for value in values:
        size = len(value) - PREFIX_BYTES
        length = _LENGTHS[size] if size < 8192 else long_bytes(size)
        parts += (_ONE_RECORD, length, value[PREFIX_BYTES:], _SYNC)
    return b"".join(parts)


def by_prefix(values: Sequence[bytes]) -> dict[bytes, list[int]]:
    """Positions of the values, by their first five bytes."""
    groups: dict[bytes, list[int]] = {}
    for position, value in enumerate(values):
        groups.setdefault(value[:PREFIX_BYTES], []).append(position)
    return groups
