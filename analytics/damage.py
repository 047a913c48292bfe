"""Damaged parts of ClickHouse's tables: recognises them in errors, finds them, says what to do.

Invariants:
1. Pure: ClickHouse is queried through a function passed in; advice is returned as text.
2. An error counts as damage only if its code says so and it names a part: reading a part also fails
   for lack of memory or time, or because a filter can't convert a value.
3. Nothing here changes data: removing a part is left to the operator.

A part with a flipped byte fails every query that reads it. A part with missing or truncated files
is silently detached when ClickHouse starts, and its rows are missing from every figure. Flipped
bytes in an index or row count make figures wrong without an error: only ``CHECK TABLE`` finds
these, and the analysts' listener does not allow it. (Tested byte by byte on 26.3 and 26.9.)

Source: ClickHouse ``src/Common/ErrorCodes.cpp``, ``MergeTreeData::loadDataParts``; documentation,
«CHECK TABLE», «system.detached_parts», «Manipulating Partitions and Parts».
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, TypeVar

from schemas.errors import BadInput

Row = TypeVar("Row")


class Ask(Protocol):
    """Queries ClickHouse."""

    def __call__(self, sql: str, parameters: Mapping[str, str], row: type[Row], /) -> list[Row]:
        """The rows of a query with ``{name:Type}`` parameters, each of the type ``row``.

        Raises:
            BadInput: ClickHouse refuses the query; ``detail`` is its message.
            Unavailable: it does not answer, or not as ClickHouse does.
        """
        ...


CHECK_S_MAX = 60
"""Longest check of one table, seconds."""
DAMAGED_PARTS_MAX = 20
"""Most damaged parts that are reported per table."""

# CANNOT_READ_ALL_DATA, TOO_LARGE_SIZE_COMPRESSED, CHECKSUM_DOESNT_MATCH,
# CANNOT_READ_FROM_FILE_DESCRIPTOR, CANNOT_OPEN_FILE, FILE_DOESNT_EXIST, INCORRECT_DATA,
# NO_FILE_IN_DATA_PART, BAD_SIZE_OF_FILE_IN_DATA_PART, CORRUPTED_DATA, CANNOT_DECOMPRESS,
# UNKNOWN_CODEC, STD_EXCEPTION (of the file system)
_CODES = frozenset({33, 39, 40, 74, 76, 107, 117, 226, 228, 246, 271, 432, 1001})
_CODE = re.compile(r"Code: (\d+)\.")
_READING = re.compile(
    r"while reading from part (?P<path>/\S*/(?P<part>[^/\s]+))/ in table (?P<table>\S+)"
)
_FILE = re.compile(r"(?P<path>/[^\s\"]*/store/[0-9a-f]{3}/[0-9a-f-]{36}/(?P<part>[^/\s\"]+))/")

_TABLES = (
    "SELECT name, engine FROM system.tables"
    " WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name"
)
_ASIDE = (
    "SELECT concat(database, '.', table), name, path FROM system.detached_parts"
    " WHERE database = currentDatabase() AND reason LIKE 'broken%' ORDER BY table, name"
)
_PLACE = (
    "SELECT concat(database, '.', table), path, rows FROM system.parts WHERE active"
    " AND database = currentDatabase() AND table = {table:String} AND name = {part:String}"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A damaged part.

    Attributes:
        table: with its database; empty if an error does not name it.
        name: of the part.
        path: its directory.
        rows: number of its rows; -1 if unknown.
        aside: whether ClickHouse detached it when it started.
        replicated: whether other replicas may have it.
    """

    table: str
    name: str
    path: str
    rows: int = -1
    aside: bool = False
    replicated: bool = False

    def __str__(self) -> str:
        return f"part {self.name} of {self.table or 'a table'} ({self.path})"


@dataclass(frozen=True, slots=True)
class Examined:
    """The result of checking every table.

    Attributes:
        parts: the damaged ones.
        tables: number of tables checked.
        unfinished: tables that could not be checked completely.
    """

    parts: tuple[Part, ...]
    tables: int
    unfinished: tuple[str, ...]


def part_in(text: str) -> Part | None:
    """The part that an error of ClickHouse's reports as damaged; ``None`` for any other error."""
    code = _CODE.search(text)
    if code is None or int(code[1]) not in _CODES:
        return None
    reading = _READING.search(text)
    if reading is not None:
        return Part(reading["table"], reading["part"], reading["path"])
    file = _FILE.search(text)
    return Part("", file["part"], file["path"]) if file is not None else None


def told(text: str) -> str:
    """An error of ClickHouse's for people: where the damage is and what to do, if it is damage."""
    part = part_in(text)
    if part is None:
        return text
    return f"ClickHouse can't read {part}: it is damaged; 'mailpulse doctor' says what to do"


def examine(ask: Ask) -> Examined:
    """Checks every table, for ``CHECK_S_MAX`` seconds each at most.

    Raises:
        BadInput: ClickHouse refuses to list its tables.
        Unavailable: it does not answer.
    """
    tables = ask(_TABLES, {}, tuple[str, str])
    parts = [
        Part(table, name, path.rstrip("/"), aside=True)
        for table, name, path in ask(_ASIDE, {}, tuple[str, str, str])
    ]
    unfinished = []
    for table, engine in tables:
        replicated = engine.startswith(("Replicated", "Shared"))
        names, finished = _checked(ask, table)
        if not finished:
            unfinished.append(table)
        for name in names[:DAMAGED_PARTS_MAX]:
            parts += [
                Part(full, name, path.rstrip("/"), rows, replicated=replicated)
                for full, path, rows in ask(
                    _PLACE, {"table": table, "part": name}, tuple[str, str, int]
                )
            ]
    return Examined(tuple(parts), len(tables), tuple(unfinished))


def _checked(ask: Ask, table: str) -> tuple[list[str], bool]:
    """Damaged parts of a table, and whether it was checked completely."""
    check = (
        f"CHECK TABLE `{table}` SETTINGS check_query_single_value_result = 0,"
        f" max_execution_time = {CHECK_S_MAX}"
    )
    try:
        rows = ask(check, {}, tuple[str, int, str])
        return [name for name, passed, _ in rows if not passed], True
    except BadInput:  # without the right to do so, or through the analysts' listener
        return _read(ask, table)


def _read(ask: Ask, table: str) -> tuple[list[str], bool]:
    """As ``_checked``, by reading all columns, repeatedly, without the parts found so far."""
    names: list[str] = []
    while len(names) < DAMAGED_PARTS_MAX:
        listed = ", ".join(f"'{name}'" for name in names)
        without = f" WHERE _part NOT IN ({listed})" if names else ""
        try:
            ask(f"SELECT max(cityHash64(*)) FROM `{table}`{without}", {}, tuple[int | None])
        except BadInput as error:
            part = part_in(error.detail)
            if part is None or part.name in names:
                return names, False
            names.append(part.name)
        else:
            return names, True
    return names, False


def steps(part: Part, group: str, data_dir: PurePath) -> str:
    """How to remove a part and restore its rows, as far as Kafka still has them.

    Args:
        group: the sinks' consumer group.
        data_dir: of this machine's pipeline; a part below it belongs to the embedded engine.
    """
    if part.replicated:
        return (
            f"SYSTEM RESTART REPLICA {part.table}: the server fetches the part from another"
            " replica; system.replication_queue shows it"
        )
    embedded = PurePath(part.path).is_relative_to(data_dir)
    again = f"MAILPULSE_SINK_GROUP={group}-2"
    restored = "records that Kafka still has are stored again; rows that exist do not count twice"
    path = shlex.quote(part.path)
    if part.aside and embedded:
        return f"stop mailpulse, rm -r {path}, start it with {again}: {restored}"
    if part.aside:
        return (
            f"start the sinks with {again} (a new group): {restored}; then ALTER TABLE"
            f" {part.table} DROP DETACHED PART '{part.name}' SETTINGS allow_drop_detached = 1"
        )
    if embedded:
        there = shlex.quote(str(data_dir / f"damaged-{part.name}"))
        return f"stop mailpulse, mv {path} {there}, start it with {again}: {restored}"
    return (
        f"ALTER TABLE {part.table} DETACH PART '{part.name}': queries work again, without its rows;"
        f" then start the sinks with {again} (a new group): {restored}"
    )
