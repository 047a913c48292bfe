"""Joins Kafka values into one Avro file, so that ClickHouse decodes them instead of Python.

Invariants:
1. Pure. The five bytes of framing are removed from each value; nothing is decoded.
2. One block per record: a corrupt record can't be read past its end, so it never changes its
   neighbours (invariant 7 of the design). A block costs 18 bytes and no measurable time.
3. All records of a file have one schema version; ClickHouse reads them by field name, so fields
   that are missing in an older version get their defaults.

Measured on chDB 26.9, one core, a full enriched record of 322 bytes: ClickHouse decodes about
700,000 records a second, ``fastavro`` about 26,000.

Source: Avro 1.12 specification, «Object Container Files».
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache

from schemas.codec import PREFIX_BYTES, schema_json

_SYNC = b"mailpulse--block"  # any 16 bytes; readers find blocks by their length
_ONE_RECORD = b"\x02"


def long_bytes(number: int) -> bytes:
    """A non-negative integer in Avro's encoding: zig-zag, seven bits a byte, low bits first."""
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
        full_name: writer's schema of every value, as ``name.version``.
        values: from Kafka, with framing.
    """
    parts = [header(full_name)]
    for value in values:
        size = len(value) - PREFIX_BYTES
        length = _LENGTHS[size] if size < 8192 else long_bytes(size)
        parts += (_ONE_RECORD, length, value[PREFIX_BYTES:], _SYNC)
    return b"".join(parts)


def by_prefix(values: Sequence[bytes]) -> dict[bytes, list[int]]:
    """Framing (the first five bytes) -> positions of the values that have it."""
    groups: dict[bytes, list[int]] = {}
    for position, value in enumerate(values):
        groups.setdefault(value[:PREFIX_BYTES], []).append(position)
    return groups
