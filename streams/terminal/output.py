"""What a person reads: everything that commands write to stdout and stderr goes through here.

Invariants:
1. Texts from outside come out by ``streams.terminal.visible``: no value moves a cursor, forges a
   line, or is taken for markup or the name of an emoji. A test looks for writes that go around this
   file.
2. Raw bytes go to a file or a pipe, and only when asked for (``pass_on``).
3. Colours only on a terminal.
"""

import codecs
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from schemas.errors import BadInput
from streams.terminal.visible import visible, visible_lines

LINE_CHARS_MAX = 100_000

_BINARY = (
    "Arrow", "Avro", "BSON", "CapnProto", "MsgPack", "Native", "Npy", "ORC", "Parquet", "Protobuf",
    "RawBLOB", "RowBinary",
)  # fmt: skip
"""ClickHouse's formats, by how their names begin, that are no text."""
_LINE_BY_LINE = ("Pretty", "TabSeparated", "TSV", "TSKV", "JSON", "Markdown", "Values")
"""Formats in which a line end within a value can be told from one between rows."""


class Terminal(Console):
    """rich's console, in which no text holds a control character (invariant 1)."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See ``Console``; cursor movements of rich's own stay."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible_lines(text), style, control)


def console(*, stderr: bool = False) -> Terminal:
    """Words on stdout, or stderr."""
    stream = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, soft_wrap=not stream.isatty(), highlight=False, emoji=False)


def say(line: str) -> None:
    """One line of words on stderr."""
    _print(line, stderr=True)


def put(line: str) -> None:
    """One line of words on stdout."""
    _print(line, stderr=False)


def _print(line: str, *, stderr: bool) -> None:
    out = console(stderr=stderr)
    out.print(Text(visible(line, LINE_CHARS_MAX)), soft_wrap=True)


def say_traceback(error: BaseException) -> None:
    """An unexpected error on stderr; what it repeats from outside is set in."""
    _say_set_in("".join(traceback.format_exception(error)))


class LogLines(logging.Handler):
    """What libraries log while a command runs, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        _say_set_in(f"{record.levelname.lower()}: {self.format(record)}")


def _say_set_in(text: str) -> None:
    """Several lines, of which only the first begins where lines begin."""
    first, *rest = text.rstrip().split("\n")
    say(first)
    for line in rest:
        say(f"    {line}")


def emit(document: Any) -> None:
    """One JSON document on one line of stdout."""
    text = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS, default=str)
    sys.stdout.write(visible(text.decode(), None) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; numbers to the right; nothing interpreted as markup."""
    shown = Table(title=Text(visible(title)) if title else None, title_justify="left")
    rows = list(rows)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(
            isinstance(row[index], (int, float)) or row[index] is None for row in rows
        )
        shown.add_column(
            Text(visible(column)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        shown.add_row(*(Text(cell_text(cell)) for cell in row))
    out = console()
    if not sys.stdout.isatty():
        out.width = 200
    out.print(shown)


def cell_text(value: object) -> str:
    """A value in a table: ``–`` for nothing, thousands apart, else by ``visible``."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(value))


def pair(name: str, value: object) -> str:
    """``name=value``; in quotes where the value could be taken for another pair."""
    text = visible(str(value))
    if any(char in ' ="' for char in text):
        text = f'"{text}"'
    return f"{name}={text}"


def table_or_json(
    as_json: bool, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Rows as a table for people, or as a JSON list of objects."""
    rows = list(rows)
    if as_json:
        emit([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        table(title, columns, rows)


def pass_on(fmt: str, pieces: Iterable[bytes], *, raw: bool) -> None:
    """Writes an answer of ClickHouse's to stdout (invariant 2).

    Texts have their control characters escaped unless ``raw``. Binary formats are never touched.

    Args:
        fmt: ClickHouse's name of the format.
        pieces: of the answer, cut anywhere.
        raw: as it is.

    Raises:
        BadInput: stdout is a terminal, and ``raw`` or the format is not for one.
    """
    binary = fmt.startswith(_BINARY)
    if sys.stdout.isatty():
        _check_for_terminal(fmt, raw=raw, binary=binary)
    if raw or binary:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    else:
        for text in _texts(pieces):
            sys.stdout.write(visible_lines(text))
    sys.stdout.flush()


def _check_for_terminal(fmt: str, *, raw: bool, binary: bool) -> None:
    if raw:
        raise BadInput("raw_on_terminal", "--raw is for files and pipes")
    if binary:
        raise BadInput("binary_on_terminal", f"{fmt} is for files and pipes")
    if not fmt.startswith(_LINE_BY_LINE) or "Raw" in fmt:
        raise BadInput(
            "not_for_terminal",
            f"in {fmt} a line end within a value looks like the end of a line; send it into a file"
            " or a pipe, or use one of Pretty, TSV and JSONEachRow",
        )


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
