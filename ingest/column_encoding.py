"""Encodes columns of raw events as Avro, with the same result as ``Codec.encode``.

Invariants:
1. Pure. The bytes are those of ``Codec.encode`` for each event; a property test compares them.
2. Values that are the same in all events are encoded once. Other values are one or two cells per
   event, and an event's bytes are its cells, joined.

Source: Apache Avro 1.12 specification, «Binary Encoding».
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from ingest.columns import Columns
from schemas.codec import FRESH, WRITERS
from schemas.compiled_writer import LONGS, TEXTS
from schemas.errors import BadInput
from schemas.event import recipient_identity
from schemas.primitives import COUNTS, integer, sizes
from schemas.raw_head import with_head

Cells = list[bytes | Iterable[bytes]]
"""Each entry is either the same for all events, or one cell for each."""

_KINDS = WRITERS["raw_event"].kinds
_WRITE = {name: WRITERS["raw_event"].field(name) for name in _KINDS}


def _texts(column: Sequence[str]) -> Cells:
    """``string`` of each: lengths, and texts."""
    data = list(map(str.encode, column))
    lengths = set(map(len, data))
    return [integer(lengths.pop()) if len(lengths) == 1 else sizes(data), data]


def _some_texts(column: Sequence[str | None]) -> Cells:
    """Optional ``string`` of each."""
    if None not in column:
        return [b"\x02", *_texts(column)]  # type: ignore[arg-type] # as just seen
    data = [b"" if text is None else text.encode() for text in column]
    heads = [
        b"\x00" if text is None else b"\x02" + size
        for text, size in zip(column, sizes(data), strict=True)
    ]
    return [heads, data]


def _numbers(kind: str, column: Sequence[int]) -> Iterable[bytes]:
    """A cell of integers: mostly positions, and times that were encoded before."""
    if set(map(type, column)) != {int}:  # 1.0 and True would be found as 1
        raise TypeError
    if min(column) >= 0 and max(column) < len(COUNTS):
        return map(COUNTS.__getitem__, column)
    return map(LONGS.__getitem__ if kind == "long" else integer, column)


def _column(name: str, column: Sequence[Any]) -> Cells:
    """The cells of one field."""
    kind = _KINDS[name]
    if name in FRESH:
        return _texts(column) if kind == "string" else _some_texts(column)
    if kind in ("int", "long"):
        return [_numbers(kind, column)]
    return [map(_WRITE[name], column)]


def _metadata(columns: Columns) -> Cells:
    """The cells of metadata whose keys are the same in all events."""
    cells: Cells = [integer(len(columns.metadata))]
    for key, column in columns.metadata.items():
        cells.append(TEXTS[key])
        cells += _texts(column)
    cells.append(b"\x00")
    return cells


def _merged(cells: Cells) -> Iterator[Iterable[bytes]]:
    """The cells, with adjacent entries that are the same for all joined into one."""
    same: list[bytes] = []
    for cell in cells:
        if isinstance(cell, bytes):
            same.append(cell)
            continue
        if same:
            yield repeat(b"".join(same))
            same = []
        yield cell
    if same:
        yield repeat(b"".join(same))


def encode_columns(columns: Columns, prefix: bytes) -> list[bytes]:
    """Each event as bytes after a prefix, in order.

    Raises:
        BadInput: ``not_encodable``: one of the values does not fit the schema, or is unusual.
    """
    try:
        return _encode(columns, prefix)
    except Exception as error:  # each writer raises its own kinds
        raise BadInput("not_encodable", f"raw_event: {type(error).__name__}") from error


def _encode(columns: Columns, prefix: bytes) -> list[bytes]:
    cells: Cells = []
    alike: Any = columns.alike
    for name in _KINDS:
        column = columns.fields.get(name)
        if column is not None:
            cells += _column(name, column)
        elif name == "metadata" and columns.metadata:
            cells += _metadata(columns)
        else:
            cells.append(_WRITE[name](alike[name]))
    # ``repeat`` never ends; ``batch_index`` differs in every row and is finite, so it ends ``zip``.
    records = map(b"".join, zip(*_merged(cells), strict=False))
    return list(map(prefix.__add__, _with_heads(columns, records)))


def _with_heads(columns: Columns, records: Iterable[bytes]) -> Iterator[bytes]:
    """The records with their heads."""

    def each(name: str) -> Iterable[Any]:
        column = columns.fields.get(name)
        alike: Any = columns.alike
        return repeat(alike[name]) if column is None else column

    identities = each("recipient_identity")
    if not all(columns.fields.get("recipient_identity") or (columns.alike["recipient_identity"],)):
        identities = map(recipient_identity, columns.events())
    return map(
        with_head, each("event_type"), each("event_id"), each("occurred_at"), each("received_at"),
        each("time_suspect"), each("provider"), each("message_id"), each("rfc_message_id"),
        identities, each("recipient_certain"), records,
    )  # fmt: skip
