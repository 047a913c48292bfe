"""Columns of raw events as Avro: what ``RawEncoder`` writes, a column at a time.

Laws of this file:
1. Pure. The bytes are those of ``RawEncoder.encode`` for each event; a property test compares them.
2. What is the same in all events is written once. What differs is a cell or two per event, and an
   event's bytes are its cells, joined.

Source: Apache Avro 1.12 specification, «Binary Encoding».
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from ingest.columns import Columns
from ingest.encoding import FRESH, KINDS, RawEncoder
from schemas.errors import BadInput
from schemas.primitives import COUNTS, integer, sizes

Cells = list[bytes | Iterable[bytes]]
"""What is the same for all events, or one for each."""


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


def _merged(cells: Cells) -> Iterator[Iterable[bytes]]:
    """The cells, with what is the same for all joined where it lies side by side."""
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


class ColumnEncoder:
    """Encodes events that have most in common.

    Args:
        one: the encoder of single events; what that remembers is used here too.
    """

    def __init__(self, one: RawEncoder) -> None:
        self._one = one

    def encode(self, columns: Columns) -> list[bytes]:
        """Each event as framed bytes, in order.

        Raises:
            BadInput: ``not_encodable``, a value of one of them does not fit the schema.
        """
        try:
            return self._encode(columns)
        except (TypeError, KeyError, AttributeError, UnicodeEncodeError) as error:
            raise BadInput("not_encodable", f"raw_event: {type(error).__name__}") from error

    def _encode(self, columns: Columns) -> list[bytes]:
        cells: Cells = [self._one.prefix]
        alike: Any = columns.alike
        writers, fields = self._one.writers, columns.fields
        for name, kind in KINDS.items():
            column = fields.get(name)
            if column is not None:
                cells += self._column(name, kind, column)
            elif name == "metadata" and columns.metadata:
                cells += self._metadata(columns)
            else:
                cells.append(writers[name](alike[name]))
        # What is the same repeats for ever; ``batch_index`` is never that, and ends it.
        return list(map(b"".join, zip(*_merged(cells), strict=False)))

    def _column(self, name: str, kind: str, column: Sequence[Any]) -> Cells:
        """The cells of one field."""
        if name in FRESH:
            if kind == "string":
                return _texts(column)
            return _some_texts(column)
        if kind in ("int", "long"):
            return [self._numbers(name, kind, column)]
        return [map(self._one.writers[name], column)]

    def _numbers(self, name: str, kind: str, column: Sequence[int]) -> Iterable[bytes]:
        """A cell of whole numbers: mostly positions, and times that were seen before."""
        if set(map(type, column)) != {int}:  # 1.0 and True would be found where 1 is kept
            raise TypeError
        if min(column) >= 0 and max(column) < len(COUNTS):
            return map(COUNTS.__getitem__, column)
        written = self._one.moments if kind == "long" else self._one.writers[name]
        return map(written, column)

    def _metadata(self, columns: Columns) -> Cells:
        """The cells of metadata whose keys are the same in all events."""
        cells: Cells = [integer(len(columns.metadata))]
        for key, column in columns.metadata.items():
            cells.append(self._one.name(key))
            cells += _texts(column)
        cells.append(b"\x00")
        return cells
