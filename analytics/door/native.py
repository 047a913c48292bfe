"""Native blocks for clients that name a protocol version, which the embedded engine can't write.

Invariants:
1. Pure: what the engine wrote at revision 0 in, the same rows at the client's revision out.
2. From ``CUSTOM_SERIALIZATION`` on a block begins with its info, and each column says behind its
   type that it is serialized plainly. To put that byte in, the end of each column is found by
   walking over its data; values are never touched.
3. A type that can't be walked is ``Unwalkable``, never a guess.

Clients: clickhouse-go, and with it Grafana's data source, names 54460 and reads nothing else.
Older revisions ask for less, and clients that name one (clickhouse-connect) check what they get.

Sources: ClickHouse ``src/Formats/NativeWriter.cpp``, ``src/Core/BlockInfo.h``,
``src/Core/ProtocolDefines.h`` and ``src/DataTypes/Serializations/``.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeVar

CUSTOM_SERIALIZATION = 54454
"""First revision in which columns name their serialization."""
# field 1: no overflow rows; field 2: bucket -1, meaning none; 0: the end
Content = bytes | memoryview
GoOn = Callable[[], None]
C = TypeVar("C", bound=bytes | memoryview)
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_PLAIN = b"\x00"

_WIDTHS = {
    **dict.fromkeys(("Int8", "UInt8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "IPv4", "Time"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Time64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6"), 16),
    **dict.fromkeys(("Int256", "UInt256"), 32),
}
_TYPE = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_NAMED = re.compile(r"(?:\w+|`[^`]*`)\s+(?=[A-Z])")
TYPE_CHARS_MAX = 16 << 10
"""Longest name of a type that is walked."""
_NAMES_KEPT = 256
"""Types whose reading is kept: names are of the caller's choice, so both are bounded."""
TEXTS_BETWEEN = 65_536
"""Texts that are walked over between two calls of ``go_on``."""
_DECIMAL_DIGITS = ((9, 4), (18, 8), (38, 16), (76, 32))


class Unwalkable(Exception):
    """A type whose columns can't be found the end of here."""


def at_revision(content: C, revision: int, go_on: GoOn = lambda: None) -> C | bytes:
    """The blocks of ``content``, as a server writes them for ``revision``.

    Args:
        content: blocks at revision 0.
        revision: the client's.
        go_on: called for each column and every ``TEXTS_BETWEEN`` texts; what it raises ends the
            work.

    Raises:
        Unwalkable: a column's type is not known here.
    """
    if revision < CUSTOM_SERIALIZATION:
        return content
    out: list[Content] = []
    at = 0
    while at < len(content):
        start = at
        columns, at = _number(content, at)
        rows, at = _number(content, at)
        out += [_BLOCK_INFO, content[start:at]]
        for _ in range(columns):
            go_on()
            start = at
            size, at = _number(content, at)
            size, at = _number(content, at + size)
            name = bytes(content[at : at + size]).decode()
            at += size
            out += [content[start:at], _PLAIN]
            if rows:
                start = at
                at = _past_data(content, _past_prefix(at, name), name, rows, go_on)
                out.append(content[start:at])
    return b"".join(out)


def _number(content: Content, at: int) -> tuple[int, int]:
    """A length of seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


@lru_cache(_NAMES_KEPT)
def _parsed(name: str) -> tuple[str, tuple[str, ...]]:
    """A type and its arguments."""
    if len(name) > TYPE_CHARS_MAX:
        raise Unwalkable(f"{name[:80]}…")
    found = _TYPE.fullmatch(name.strip())
    if found is None:
        raise Unwalkable(name)
    return found[1], tuple(_arguments(found[2] or ""))


def _arguments(text: str) -> Iterator[str]:
    depth = start = 0
    quoted = escaped = False
    for at, char in enumerate(text):
        if escaped or char == "\\":
            escaped = not escaped
        elif char == "'":
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
            if char == "," and depth == 0:
                yield text[start:at].strip()
                start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


def _without_name(element: str) -> str:
    """An element of a tuple without its name, if it has one."""
    # at its start only: a search tries every place of a long text, which takes the square of it
    named = _NAMED.match(element)
    return element[named.end() :] if named else element


@lru_cache(_NAMES_KEPT)
def _inner(name: str) -> tuple[str, ...]:
    """Types of the columns that a column of this type consists of, one after another."""
    kind, arguments = _parsed(name)
    if kind == "Tuple":
        return tuple(_without_name(each) for each in arguments)
    if kind == "Map":
        return (f"Tuple({', '.join(arguments)})",)
    if kind in ("Array", "Nullable"):
        return arguments
    if kind == "SimpleAggregateFunction":
        return arguments[1:]
    return ()


def _past_prefix(at: int, name: str) -> int:
    """Behind the states that come in front of a column's data."""
    if _parsed(name)[0] == "LowCardinality":
        return at + 8  # version of the keys
    for inner in _inner(name):
        at = _past_prefix(at, inner)
    return at


@lru_cache(_NAMES_KEPT)
def _width(name: str) -> int:
    """Bytes of each value, 0 when they differ."""
    kind, arguments = _parsed(name)
    if kind == "FixedString":
        return int(arguments[0])
    if kind == "Decimal":
        return next(width for digits, width in _DECIMAL_DIGITS if int(arguments[0]) <= digits)
    return 8 if kind.startswith("Interval") else _WIDTHS.get(kind, 0)


def _past_data(content: Content, at: int, name: str, rows: int, go_on: GoOn) -> int:
    """Behind ``rows`` values of a type."""
    width = _width(name)
    if width:
        return at + width * rows
    kind, arguments = _parsed(name)
    if kind == "String":
        return _past_texts(content, at, rows, go_on)
    if kind == "Nullable":
        return _past_data(content, at + rows, arguments[0], rows, go_on)
    if kind in ("Array", "Map"):
        if not rows:
            return at
        at += 8 * rows
        items = int.from_bytes(content[at - 8 : at], "little")
        return _past_data(content, at, _inner(name)[0], items, go_on)
    if kind == "LowCardinality":
        return _past_keys(content, at, arguments[0], go_on) if rows else at
    if kind not in ("Tuple", "SimpleAggregateFunction"):
        raise Unwalkable(name)
    for inner in _inner(name):
        at = _past_data(content, at, inner, rows, go_on)
    return at


def _past_texts(content: Content, at: int, rows: int, go_on: GoOn) -> int:
    for row in range(rows):
        if not row % TEXTS_BETWEEN:
            go_on()
        size = content[at]
        if size < 0x80:
            at += size + 1
        else:
            size, at = _number(content, at)
            at += size
    return at


def _past_keys(content: Content, at: int, name: str, go_on: GoOn) -> int:
    """A dictionary's own keys, then one index a row; the first number says how wide they are."""
    kind, arguments = _parsed(name)
    width = 1 << content[at]
    keys = int.from_bytes(content[at + 8 : at + 16], "little")
    at = _past_data(content, at + 16, arguments[0] if kind == "Nullable" else name, keys, go_on)
    return at + 8 + width * int.from_bytes(content[at : at + 8], "little")
