"""Everything that commands write to stdout and stderr goes through here.

Invariants:
1. Text from outside is escaped by ``streams.terminal.visible``: no value can move the cursor, forge
   a line, or be taken for markup or the name of an emoji. A test finds writes that bypass this
   file.
2. Raw bytes are written only when asked for, and never to a terminal (``pass_on``).
3. Colours are written to terminals only.
"""

import codecs
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

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
"""ClickHouse's binary formats, by the beginning of their names."""
_LINE_BY_LINE = ("Pretty", "TabSeparated", "TSV", "TSKV", "JSON", "Markdown", "Values")
"""Formats in which a line end inside a value does not look like the end of a row."""


class Terminal(Console):
    """rich's console, with control characters in text escaped (invariant 1)."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See ``Console``; rich's own cursor movements are kept."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible_lines(text), style, control)

    def say(self, text: str) -> None:
        """Prints one line of text."""
        self.print(Text(visible(text, LINE_CHARS_MAX)), soft_wrap=True)


def console(*, stderr: bool = False) -> Terminal:
    """A console on stdout or stderr."""
    stream = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, soft_wrap=not stream.isatty(), highlight=False, emoji=False)


def say(line: str) -> None:
    """One line of text on stderr."""
    console(stderr=True).say(line)


def put(line: str) -> None:
    """One line of text on stdout."""
    console().say(line)


def put_lines(text: str) -> None:
    """Text on stdout whose tabs and line ends are its writer's; those of values are escaped."""
    sys.stdout.write(visible_lines(text) + "\n")
    sys.stdout.flush()


def clear() -> None:
    """Clears the terminal, if stdout is one (ECMA-48, CUP and ED)."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[H\x1b[2J")


def rewrite(line: str) -> None:
    """Text in place of the current line of stderr, if that is a terminal (ECMA-48, EL)."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{visible(line, LINE_CHARS_MAX)}")
        sys.stderr.flush()


def for_documents() -> TextIO:
    """Stdout for a document that is written in pieces: ASCII, control characters escaped."""
    return sys.stdout


def say_traceback(error: BaseException) -> None:
    """The traceback of an unexpected error, on stderr."""
    _say_indented("".join(traceback.format_exception(error)))


class LogLines(logging.Handler):
    """Writes what libraries log while a command runs to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        _say_indented(f"{record.levelname.lower()}: {self.format(record)}")


def _say_indented(text: str) -> None:
    """Several lines; all but the first are indented, so that none looks like a line of ours."""
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
    """A table on stdout: columns of numbers right-aligned, no cell interpreted as markup."""
    shown = Table(title=Text(visible(title)) if title else None, title_justify="left")
    rows = list(rows)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_figure(row[index]) for row in rows)
        shown.add_column(
            Text(visible(column)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        shown.add_row(*(Text(cell_text(cell)) for cell in row))
    out = console()
    if not sys.stdout.isatty():
        out.width = 200
    out.print(shown)


def _is_figure(value: object) -> bool:
    return value is None or isinstance(value, (int, float)) or str(value).endswith(" %")


def cell_text(value: object) -> str:
    """A table cell: ``–`` for ``None``, integers with thousands separators, text escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(value))


def percent(share: float) -> str:
    """A share as people read it, to three digits: ``12.3 %``, ``0.0321 %``."""
    return f"{share * 100:.3g} %" if share < 9.995 else f"{share * 100:,.0f} %"


def pair(name: str, value: object) -> str:
    """``name=value``; the value is quoted if it could be read as another pair."""
    text = visible(str(value))
    if any(char in ' ="' for char in text):
        text = f'"{text}"'
    return f"{name}={text}"


def table_or_json(
    as_json: bool, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Rows as a table, or as a JSON list of objects."""
    rows = list(rows)
    if as_json:
        emit([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        table(title, columns, rows)


def pass_on(fmt: str, pieces: Iterable[bytes], *, raw: bool) -> None:
    """Writes ClickHouse's answer to stdout (invariant 2).

    Control characters in text formats are escaped unless ``raw``; binary formats are not changed.

    Args:
        fmt: ClickHouse's name of the format.
        pieces: the answer in pieces, cut at any byte.
        raw: write it unchanged.

    Raises:
        BadInput: stdout is a terminal, and ``raw`` was given or the format is unsafe there.
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
            f"in {fmt} a line end inside a value looks like the end of a row; write it to a file"
            " or a pipe, or use Pretty, TSV or JSONEachRow",
        )


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
