"""Writes a table as a Parquet file: one row group, plain encoding, not compressed.

Invariants:
1. Pure. A column is of 64-bit integers, of 64-bit floats, or of UTF-8 texts; a cell may be null.
2. Texts are as they are, without the apostrophes of ``csv_tables``: nothing executes them.

Written by hand from the format's specification (Apache Parquet 2.11, «Thrift compact protocol»):
pyarrow is 45 MB and belongs to chDB, which the dashboard of a cluster does not need. Tests read the
files back with pyarrow and with ClickHouse.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

MAGIC = b"PAR1"
INT64, DOUBLE, BYTE_ARRAY = 2, 5, 6
_OPTIONAL, _UTF8, _PLAIN, _RLE, _UNCOMPRESSED, _DATA_PAGE = 1, 0, 0, 3, 0, 0
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12

Field = tuple[int, int, Any]
"""Number of a Thrift field, its type, and its value: a number, bytes, a list, or fields."""


def parquet(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The file.

    Args:
        names: of the columns.
        rows: as many cells each; ``None`` and, in columns of numbers, empty texts are null.
    """
    cells = list(rows)
    columns = [[row[place] for row in cells] for place in range(len(names))]
    out, chunks = bytearray(MAGIC), []
    for name, values in zip(names, columns, strict=True):
        kind = _kind(values)
        known = [_null(value, kind) for value in values]
        page = _levels(known) + b"".join(
            _plain(value, kind) for value in known if value is not None
        )
        header = _struct(
            [(1, _I32, _DATA_PAGE), (2, _I32, len(page)), (3, _I32, len(page)),
             (5, _STRUCT, [(1, _I32, len(known)), (2, _I32, _PLAIN), (3, _I32, _RLE),
                           (4, _I32, _RLE)])]
        )  # fmt: skip
        chunks.append((name, kind, len(out), len(header) + len(page)))
        out += header + page
    footer = _struct(_metadata(chunks, len(cells)))
    return bytes(out) + footer + struct.pack("<i", len(footer)) + MAGIC


def _kind(values: Sequence[Any]) -> int:
    """Type of a column by its cells."""
    known = [value for value in values if value is not None and value != ""]
    if known and all(isinstance(value, int) for value in known):
        return INT64
    if known and all(isinstance(value, int | float) for value in known):
        return DOUBLE
    return BYTE_ARRAY


def _null(value: Any, kind: int) -> Any:
    return None if value is None or (value == "" and kind != BYTE_ARRAY) else value


def _plain(value: Any, kind: int) -> bytes:
    if kind == INT64:
        return struct.pack("<q", int(value))
    if kind == DOUBLE:
        return struct.pack("<d", float(value))
    text = str(value).encode("utf-8", "replace")
    return struct.pack("<i", len(text)) + text


def _levels(values: Sequence[Any]) -> bytes:
    """Which cells are not null: one bit each, in the hybrid of runs and packed bits."""
    groups = -(-len(values) // 8)
    bits = bytearray(groups)
    for place, value in enumerate(values):
        bits[place // 8] |= (value is not None) << place % 8
    packed = _varint(groups << 1 | 1) + bytes(bits)
    return struct.pack("<i", len(packed)) + packed


def _metadata(chunks: Sequence[tuple[str, int, int, int]], rows: int) -> list[Field]:
    schema: list[list[Field]] = [[(4, _BINARY, b"schema"), (5, _I32, len(chunks))]]
    columns: list[list[Field]] = []
    for name, kind, offset, size in chunks:
        text: list[Field] = [(6, _I32, _UTF8)] if kind == BYTE_ARRAY else []
        schema.append([(1, _I32, kind), (3, _I32, _OPTIONAL), (4, _BINARY, name.encode()), *text])
        meta: list[Field] = [
            (1, _I32, kind), (2, _LIST, (_I32, [_PLAIN, _RLE])),
            (3, _LIST, (_BINARY, [name.encode()])), (4, _I32, _UNCOMPRESSED), (5, _I64, rows),
            (6, _I64, size), (7, _I64, size), (9, _I64, offset),
        ]  # fmt: skip
        columns.append([(2, _I64, offset), (3, _STRUCT, meta)])
    total = sum(size for *_, size in chunks)
    group: list[Field] = [(1, _LIST, (_STRUCT, columns)), (2, _I64, total), (3, _I64, rows)]
    return [
        (1, _I32, 1), (2, _LIST, (_STRUCT, schema)), (3, _I64, rows),
        (4, _LIST, (_STRUCT, [group])), (6, _BINARY, b"mailpulse"),
    ]  # fmt: skip


# --- Thrift's compact protocol --------------------------------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> bytes:
    return _varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _value(kind: int, value: Any) -> bytes:
    if kind in (_I32, _I64):
        return _zigzag(value)
    if kind == _BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == _STRUCT:
        return _struct(value)
    inner, items = value
    head = bytes([len(items) << 4 | inner]) if len(items) < 15 else (
        bytes([0xF0 | inner]) + _varint(len(items))
    )  # fmt: skip
    return head + b"".join(_value(inner, item) for item in items)


def _struct(fields: Sequence[Field]) -> bytes:
    """Fields in the order of their numbers, which differ by at most 15."""
    out, last = bytearray(), 0
    for number, kind, value in fields:
        out += bytes([(number - last) << 4 | kind]) + _value(kind, value)
        last = number
    return bytes(out) + b"\0"
