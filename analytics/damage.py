"""Damaged parts of ClickHouse's tables: what its errors say of them, how to look, what to do.

Invariants:
1. Pure: how to ask ClickHouse comes in as a function, what to do goes out as a sentence.
2. An error is one of damage only when it says so by its code and names a part: the same reading
   also fails for want of memory or time, or because a filter meets a value that it can't convert.
3. Nothing here changes anything: taking a part out is the operator's to do.

A part with a flipped byte fails every query that reads it. One whose files are missing or short is
set aside by ClickHouse when it starts, silently, and its rows are gone from every figure. Flipped
bytes of an index or of the number of rows make figures wrong without an error: only ``CHECK TABLE``
finds these, and the analysts' listener does not take it. (Tried byte by byte on 26.3 and 26.9.)

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
    """How to ask ClickHouse."""

    def __call__(self, sql: str, parameters: Mapping[str, str], row: type[Row], /) -> list[Row]:
        """The rows of a query with ``{name:Type}`` parameters, each of the type ``row``.

        Raises:
            BadInput: ClickHouse refuses the query, in its words.
            Unavailable: it does not answer, or not as it should.
        """
        ...


CHECK_S_MAX = 60
"""Longest look at one table."""
DAMAGED_PARTS_MAX = 20
"""Named for one table; a disk that fails has damaged more than anyone wants to read."""

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
        table: with its database; empty when an error does not say it.
        name: of the part.
        path: its directory.
        rows: that it held; -1 when that is not known.
        aside: whether ClickHouse has taken it out itself, at its start.
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
    """What a look at every table found.

    Attributes:
        parts: that are damaged.
        tables: number of tables looked at.
        unfinished: tables that were too large to be read to their end, or could not be.
    """

    parts: tuple[Part, ...]
    tables: int
    unfinished: tuple[str, ...]


def part_in(text: str) -> Part | None:
    """The part that an error of ClickHouse's says is damaged; ``None`` of any other error."""
    code = _CODE.search(text)
    if code is None or int(code[1]) not in _CODES:
        return None
    reading = _READING.search(text)
    if reading is not None:
        return Part(reading["table"], reading["part"], reading["path"])
    file = _FILE.search(text)
    return Part("", file["part"], file["path"]) if file is not None else None


def told(text: str) -> str:
    """An error of ClickHouse's as a person needs it: of damage, where it is and who helps."""
    part = part_in(text)
    if part is None:
        return text
    return f"ClickHouse can't read {part}: it is damaged; 'mailpulse doctor' says what to do"


def examine(ask: Ask) -> Examined:
    """Looks at every table, for ``CHECK_S_MAX`` seconds each at most.

    Raises:
        BadInput: ClickHouse refuses to name its tables.
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
        names, finished = _looked_at(ask, table)
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


def _looked_at(ask: Ask, table: str) -> tuple[list[str], bool]:
    """Damaged parts of a table, and whether it was looked at to its end."""
    try:
        return _checked(ask, table), True
    except BadInput:  # without that right, or through the analysts' listener
        return _read(ask, table)


def _checked(ask: Ask, table: str) -> list[str]:
    """Damaged parts by the engine's own check of every file's checksum."""
    rows = ask(
        f"CHECK TABLE `{table}` SETTINGS check_query_single_value_result = 0,"
        f" max_execution_time = {CHECK_S_MAX}",
        {},
        tuple[str, int, str],
    )
    return [name for name, passed, _ in rows if not passed]


def _read(ask: Ask, table: str) -> tuple[list[str], bool]:
    """The same by reading all columns, and again without each part that was found."""
    names: list[str] = []
    while len(names) < DAMAGED_PARTS_MAX:
        listed = ", ".join(f"'{name}'" for name in names)
        without = f" WHERE _part NOT IN ({listed})" if names else ""
        try:
            ask(f"SELECT sum(cityHash64(*)) FROM `{table}`{without}", {}, tuple[int | None])
        except BadInput as error:
            part = part_in(error.detail)
            if part is None or part.name in names:
                return names, False
            names.append(part.name)
        else:
            return names, True
    return names, False


def steps(part: Part, group: str, data_dir: PurePath) -> str:
    """What takes a part out and brings its rows back, as far as Kafka has them.

    Args:
        group: the sinks' consumer group.
        data_dir: of this machine's pipeline: a part below it is an embedded engine's.
    """
    if part.replicated:
        return (
            f"SYSTEM RESTART REPLICA {part.table}: the server fetches the part from another"
            " replica; system.replication_queue shows it"
        )
    embedded = PurePath(part.path).is_relative_to(data_dir)
    again = f"MAILPULSE_SINK_GROUP={group}-2"
    anew = "what Kafka still holds is stored again, and what is there does not count twice"
    path = shlex.quote(part.path)
    if part.aside and embedded:
        return f"stop mailpulse, rm -r {path}, start it with {again}: {anew}"
    if part.aside:
        return (
            f"start the sinks with {again} (a group that is new): {anew}; then ALTER TABLE"
            f" {part.table} DROP DETACHED PART '{part.name}' SETTINGS allow_drop_detached = 1"
        )
    if embedded:
        there = shlex.quote(str(data_dir / f"damaged-{part.name}"))
        return f"stop mailpulse, mv {path} {there}, start it with {again}: {anew}"
    return (
        f"ALTER TABLE {part.table} DETACH PART '{part.name}': queries work again without its rows;"
        f" then start the sinks with {again} (a group that is new): {anew}"
    )
