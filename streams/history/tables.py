"""Reads a table of an import: rows as JSON objects of their columns, each with its line.

Invariants:
1. Memory is bounded by one row (``ROW_CHARS_MAX``).
2. Every line is in a row or in a problem: a quote that is never closed costs its own line, not the
   rows behind it.
3. No text is guessed: what is neither UTF-8 nor marked as UTF-16 is a problem, not a row with other
   characters; and so is a table whose columns can't be told apart.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import orjson

ROW_CHARS_MAX = 1 << 20
DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
"""Excel's own first line."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_SAY_UTF8 = "not UTF-8: save the table as UTF-8 (in Excel: CSV UTF-8)"


class Row(NamedTuple):
    """A row.

    Attributes:
        line: where it begins, from 1.
        content: JSON; of one with a problem what can be told of it.
        problem: why it can't be read; empty: it can.
    """

    line: int
    content: bytes
    problem: str = ""


def rows(stream: IO[bytes], delimiter: str = "") -> Iterator[Row]:
    """The rows of a table whose first line names its columns.

    Args:
        delimiter: between cells; empty: the one that is most frequent in the first line.
    """
    lines = _Lines(_text(stream))
    first = lines.first()
    if not first.strip():
        return
    if named := _SEPARATOR.fullmatch(first):
        delimiter = delimiter or named[1]
        lines.drop()
        first = lines.first()
    cells = _cells(lines, delimiter or max(DELIMITERS, key=first.count))
    header = next(cells, None)
    if header is None:
        return
    if header.problem or (problem := _header_problem(header.cells)):
        yield Row(header.line, _raw(header), header.problem or problem)
        return
    columns = _Columns([name.strip() for name in header.cells])
    for one in cells:
        if one.problem:
            yield Row(one.line, _raw(one), one.problem)
        elif one.cells:
            problem = ""
            if len(one.cells) != columns.count:
                problem = f"{len(one.cells)} cells where the first line has {columns.count} columns"
            yield Row(one.line, columns.content(one.cells), problem)


def _text(stream: IO[bytes]) -> IO[str]:
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    if buffered.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return io.TextIOWrapper(buffered, "utf-16", errors="replace", newline="")
    # what is not UTF-8 becomes surrogates, by which it is found in its row
    return io.TextIOWrapper(buffered, "utf-8-sig", errors="surrogateescape", newline="")


class _Lines(Iterator[str]):
    """Lines, which can be given back."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._text.readline(ROW_CHARS_MAX + 1)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self.number += 1
        return line

    def first(self) -> str:
        """The next line, which stays."""
        line = next(self, "")
        if line:
            self.give_back(self.taken)
        self.taken = []
        return line

    def drop(self) -> None:
        """Passes over a line."""
        next(self, "")
        self.taken = []

    def give_back(self, lines: Sequence[str]) -> None:
        """Gives back the lines that were taken last."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)

    def skip_rest(self, line: str) -> None:
        """Passes over the rest of a line that was cut."""
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(1 << 16)


class _Cells(NamedTuple):
    line: int
    raw: str
    cells: list[str]
    problem: str = ""


def _cells(lines: _Lines, delimiter: str) -> Iterator[_Cells]:
    """Rows as cells, or the problem of one line (invariant 2)."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.taken = []
        at = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            own, *others = lines.taken
            lines.give_back(others)
            if len(own) > ROW_CHARS_MAX:
                lines.skip_rest(own)
            yield _Cells(at, own, [], f"no row: {error}")
            continue
        raw = "".join(lines.taken)
        problem = ""
        if len(lines.taken[-1]) > ROW_CHARS_MAX:
            lines.skip_rest(lines.taken[-1])
            problem = f"longer than {ROW_CHARS_MAX:,} characters"
        elif not raw.isascii() and _NOT_UTF8.search(raw):
            problem = _SAY_UTF8
        yield _Cells(at, raw, cells, problem)


def _raw(row: _Cells) -> bytes:
    return row.raw[:ROW_CHARS_MAX].encode("utf-8", "surrogateescape")


def _header_problem(names: Sequence[str]) -> str:
    stripped = [name.strip() for name in names if name.strip()]
    twice = sorted({name for name in stripped if stripped.count(name) > 1})
    if twice:
        return f"two columns have the name {twice[0]!r}: the table is not read"
    return "" if stripped else "the first line names no columns"


class _Columns:
    """The columns of a table.

    A name with dots is that of a value in an object, as in the paths of a mapping.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.count = len(names)
        self._names = names
        self._nested = any("." in name for name in names)

    def content(self, cells: Sequence[str]) -> bytes:
        """A row as JSON; empty cells and those without a name are left out."""
        pairs = zip(self._names, cells, strict=False)
        flat = {name: cell for name, cell in pairs if cell and name}
        return orjson.dumps(_nested(flat) if self._nested else flat)


def _nested(flat: dict[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, cell in flat.items():
        *above, last = name.split(".")
        inner: Any = result
        for key in above:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and last not in inner:
            inner[last] = cell
        else:  # a column is named like the object of others
            result[name] = cell
    return result
