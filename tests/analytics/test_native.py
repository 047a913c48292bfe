"""Native blocks in a client's protocol version, compared with the engine's own single columns.

A column alone in its block ends where the block ends, so its end is known without parsing: the
expected result for many columns is composed of such blocks.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import chdb
import pytest

from analytics.door.native import (
    CUSTOM_SERIALIZATION,
    TYPE_CHARS_MAX,
    Unwalkable,
    at_revision,
)

_connect: Callable[[str], Any] = chdb.connect  # its type hints are incomplete
GO = 54_460
"""What clickhouse-go names."""
INFO = b"\x01\x00\x02" + struct.pack("<i", -1) + b"\x00"
COLUMNS = (
    "number",
    "toString(number)",
    "repeat('ä', number % 200)",
    "toFixedString('abc', 5)",
    "number % 3 = 0",
    "if(number % 2, NULL, number / 7)",
    "if(number % 2, NULL, toString(number + 1))",  # alone in the list: NULLs hide shared values
    "toLowCardinality(toString(number % 300))",
    "toLowCardinality(if(number % 5 = 0, NULL, toString(number % 7)))",
    "range(number % 4)",
    "arrayMap(x -> toString(x), range(number % 4))",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number % 4))",
    "CAST(arrayMap(x -> range(x), range(number % 4)), 'Array(Array(UInt16))')",
    "CAST(map('a', toString(number)), 'Map(LowCardinality(String), String)')",
    "tuple(number, toString(number), toLowCardinality('x'))",
    "CAST(tuple(number, 'x'), 'Tuple(n UInt32, `odd name` Nullable(String))')",
    "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')",
    "toDateTime(number, 'UTC')",
    "toDateTime64(number, 3, 'UTC')",
    "toDate(number)",
    "toDecimal64(number, 3)",
    "toDecimal256(number, 30)",
    "CAST(number % 2 + 1, 'Enum8(\\'a,(\\' = 1, \\'b\\' = 2)')",
    "toIPv4('1.2.3.4')",
    "toIPv6('::1')",
    "toIntervalDay(number)",
    "CAST(number, 'SimpleAggregateFunction(sum, UInt64)')",
    "CAST([tuple(1, 'x')], 'Array(Tuple(a UInt8, b LowCardinality(String)))')",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The engine without any data."""
    connection = _connect(":memory:")
    yield connection
    connection.close()


def _native(engine: Any, columns: list[str], rows: int) -> bytes:
    sql = f"SELECT {', '.join(columns)} FROM numbers({rows})"
    return bytes(engine.query(sql, "Native").bytes())


def _text(content: bytes, at: int) -> tuple[bytes, int]:
    size = content[at]
    assert size < 0x80
    return content[at : at + 1 + size], at + 1 + size


def _expected(blocks: list[bytes]) -> bytes:
    """One block made of blocks with one column each, with what the revision adds."""
    head, body = b"", b""
    for block in blocks:
        assert block[0] == 1
        start = 3 if block[1] >= 0x80 else 2
        name, at = _text(block, start)
        kind, at = _text(block, at)
        head = block[1:start]
        body += name + kind + b"\x00" + block[at:]
    return INFO + bytes([len(blocks)]) + head + body


@pytest.mark.parametrize("rows", [1, 2, 127, 1_000])
def test_blocks_are_those_of_the_revision(engine: Any, rows: int) -> None:
    """Every kind of column, each between others, so that a wrong end would be noticed."""
    named = [f"{expression} AS c{at}" for at, expression in enumerate(COLUMNS)]
    whole = at_revision(_native(engine, named, rows), GO)
    expected = _expected([_native(engine, [each], rows) for each in named])
    differing = [
        at for at, pair in enumerate(zip(whole, expected, strict=False)) if len(set(pair)) > 1
    ]
    assert (len(whole), differing[:1]) == (len(expected), [])


def test_several_blocks_each_have_their_info(engine: Any) -> None:
    """A result of many blocks is as many blocks."""
    content = _native(engine, ["number"], 200_000)
    once, twice = at_revision(content, GO), at_revision(content * 2, GO)
    assert once.count(INFO) > 1
    repeated = twice == once * 2  # apart: a comparison of megabytes is no text for a report
    assert repeated


def test_header_without_rows_is_transcribed() -> None:
    """Names and types only, as for an empty result."""
    assert at_revision(b"\x01\x00\x01a\x05UInt8", GO) == INFO + b"\x01\x00\x01a\x05UInt8\x00"


def test_older_revisions_get_what_the_engine_wrote() -> None:
    """clickhouse-connect asks for 54405 and checks the answer."""
    assert at_revision(b"anything", CUSTOM_SERIALIZATION - 1) == b"anything"


def test_type_that_is_not_known_is_said(engine: Any) -> None:
    """The end of such a column is never guessed."""
    content = _native(engine, ["sumState(number)", "1"], 10)
    with pytest.raises(Unwalkable, match="AggregateFunction"):
        at_revision(content, GO)


@pytest.mark.parametrize(
    "kind", ["Enum8('{}' = 1)", "Tuple({} UInt8)", "Tuple(`{}` UInt8)", "Tuple(Enum8('{}' = 1))"]
)
def test_a_long_name_in_a_type_is_read_once(kind: str) -> None:
    """Names are chosen by the caller; searching one from every position would take quadratic time.

    A type that is too long is not read at all.
    """
    name = kind.format("a" * TYPE_CHARS_MAX).encode()
    size = bytes([len(name) & 0x7F | 0x80, len(name) >> 7 & 0x7F | 0x80, len(name) >> 14])
    with pytest.raises(Unwalkable):
        at_revision(b"\x01\x01\x01a" + size + name + b"\x01", GO)


def test_an_element_is_named_at_its_start_only() -> None:
    """The text inside an enumeration is not a name."""
    name = b"Tuple(Enum8('a B' = 1))"
    content = b"\x01\x01\x01a" + bytes([len(name)]) + name + b"\x01"
    assert at_revision(content, GO) == INFO + content[:-1] + b"\x00\x01"
