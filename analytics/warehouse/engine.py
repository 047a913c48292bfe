"""Queries on the engine inside this process, each in a session of its own.

Laws of this file:
1. A session is a new handle on the engine (half a millisecond), given its limits, then locked with
   ``readonly = 1``; it ends with its query, so nothing of one query reaches the next.
2. Limits on time, memory, threads and result size are set before the lock: a query can lower
   them, never raise them. Query threads run at a lower priority than the sink's.
3. At most ``concurrent_max`` queries run at once; the others wait a moment and are then told so.
4. Calls block in worker threads; the engine lets go of the interpreter's lock meanwhile.
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chdb

from analytics.door.canonical import CANONICAL_BYTES_PER_BYTE_MAX, PARSER, canonical, is_canonical
from analytics.door.judge import Statement, judge
from analytics.door.surroundings import Surroundings
from schemas.settings import AnalyticsSettings

_connect: Callable[[str], Any] = chdb.connect  # its type hints are incomplete
_ERROR = re.compile(r"Code: (\d+)\. (.*?)(?:\s*\((?P<name>[A-Z][A-Z0-9_]+)\))?\s*$", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^)]*\)")
_FORMAT_CLAUSE = re.compile(r"\sFORMAT \w+\s*;?\s*\Z", re.IGNORECASE)  # where writable
_SETTING = re.compile(r"[a-z][a-z0-9_]*")


_JUDGING = ": In scope SELECT formatQuerySingleLine("
ERROR_CHARS_MAX = 4096
"""Longest text of an error; the engine puts whole queries into its own."""
JUDGES = 2
"""Queries that are judged at once; the others wait."""


class QueryError(Exception):
    """An error of the engine, as ClickHouse words it.

    Attributes:
        code: ClickHouse's number.
        name: ClickHouse's name, such as ``UNKNOWN_TABLE``.
        text: the message without number, name and version.
    """

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(f"{name} ({code}): {text}")
        self.code = code
        self.name = name
        self.text = text


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may use, and how many may run.

    Attributes:
        seconds_max: of running.
        memory_bytes_max: of the engine's memory.
        result_bytes_max: of the result, in its format.
        threads_max: of the engine's threads.
        concurrent_max: queries at once.
        query_bytes_max: of the text of a query.
        wait_s_max: longest wait for a place.
    """

    seconds_max: int = 30
    memory_bytes_max: int = 1 << 30
    result_bytes_max: int = 256 << 20
    threads_max: int = 1
    concurrent_max: int = 4
    query_bytes_max: int = 256 << 10
    wait_s_max: float = 10.0

    def settings(self) -> dict[str, str]:
        """The limits as the engine's settings."""
        return {
            "max_execution_time": str(self.seconds_max),
            "timeout_before_checking_execution_speed": "0",
            "max_memory_usage": str(self.memory_bytes_max),
            "max_threads": str(self.threads_max),
            "os_thread_priority": "10",
            "function_sleep_max_microseconds_per_block": "1000000",
            **self.parser_settings(),
        }

    def parser_settings(self) -> dict[str, str]:
        """Limits of the engine's parser, the same for judging a query and for running it."""
        size = self.query_bytes_max * CANONICAL_BYTES_PER_BYTE_MAX
        return {**PARSER, "max_query_size": str(size)}


def query_limits(settings: AnalyticsSettings) -> QueryLimits:
    """The limits that the settings ask for."""
    return QueryLimits(
        seconds_max=settings.door_query_s_max,
        memory_bytes_max=settings.door_memory_bytes_max,
        result_bytes_max=settings.door_result_bytes_max,
        threads_max=settings.door_threads_max,
        concurrent_max=settings.door_queries_max,
        query_bytes_max=settings.door_query_bytes_max,
    )


def query_error(error: Exception) -> QueryError:
    """The engine's words for an error, taken apart."""
    text = str(error)
    start = text.find("Code: ")
    found = _ERROR.match(text[start:]) if start >= 0 else None
    if found is None:
        return QueryError(1002, "UNKNOWN_EXCEPTION", text or type(error).__name__)
    words = _VERSION.sub("", found[2]).strip()
    # the engine repeats itself when a setting of a SETTINGS clause is refused
    words = re.sub(r"^(?:DB::Exception: )?(?:Code: \d+\. )?", "", words)
    words = words.partition(_JUDGING)[0][:ERROR_CHARS_MAX]
    return QueryError(int(found[1]), found["name"] or "UNKNOWN_EXCEPTION", words)


class Engine:
    """The engine of a directory that this process owns.

    Args:
        directory: the same as in the DSN of ``analytics.client.connect``.
        database: of queries that name none.
        limits: of each query.
        writable: for tests of the HTTP client alone: queries are not locked read-only.
    """

    def __init__(
        self, directory: Path | str, database: str, limits: QueryLimits, *, writable: bool = False
    ) -> None:
        self._path = os.path.realpath(directory)
        self.database = database
        self.limits = limits
        self.writable = writable
        self._places = asyncio.Semaphore(limits.concurrent_max)
        self._executor = ThreadPoolExecutor(limits.concurrent_max, thread_name_prefix="door")
        self._judges = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        self._anchor = _connect(self._path)
        self.version = self._text("SELECT version()")
        self.timezone = self._text("SELECT timezone()")
        self.around = Surroundings(
            database,
            databases=self._names("SELECT name FROM system.databases"),
            functions=self._names(
                "SELECT lower(name) FROM system.functions WHERE NOT is_aggregate"
            ),
            keywords=self._names(
                "SELECT DISTINCT arrayJoin(splitByChar(' ', keyword)) FROM system.keywords"
            ),
        )

    def close(self) -> None:
        """Waits for running queries and lets the directory go."""
        for executor in (self._executor, self._judges):
            executor.shutdown(wait=True, cancel_futures=True)
        self._anchor.close()

    def _text(self, sql: str) -> str:
        return bytes(self._anchor.query(sql, "TabSeparated").bytes()).decode().strip()

    def _names(self, sql: str) -> frozenset[str]:
        return frozenset(self._text(sql).split("\n"))

    async def judged(self, sql: str) -> Statement:
        """The statement that a caller's text is, if it may run: off the loop, in bounded time.

        Raises:
            Denied: it may not run.
            QueryError: the engine's parser does not take it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._judges, self.judge, sql)

    def judge(self, sql: str) -> Statement:
        """``judged`` for callers without an event loop."""
        handle = _connect(self._path)
        try:
            for name, value in self.limits.parser_settings().items():
                handle.query(f"SET {name} = {value}")

            def ask(asked: str, parameters: dict[str, str]) -> bytes:
                return bytes(handle.query(asked, "RawBLOB", params=parameters).bytes() or b"")

            text = canonical(sql, ask, self.limits.query_bytes_max)
            statement = judge(text, self.around)
            if statement.sql != text and not is_canonical(statement.sql.encode(), ask):
                raise QueryError(62, "SYNTAX_ERROR", "FORMAT or SETTINGS can't be told apart here")
            return statement
        except RuntimeError as error:  # the parser's words; what asked for them is ours
            raise query_error(error) from error
        finally:
            handle.close()

    async def query(
        self,
        sql: str,
        fmt: str,
        *,
        database: str = "",
        parameters: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[bytes, dict[str, str]]:
        """Runs one statement.

        Args:
            sql: the statement that ``judged`` gave.
            fmt: format of the result.
            database: of names without one; default: the engine's.
            parameters: values of ``{name:Type}``.
            settings: on top of the limits; names and values judged by the caller.
            body: data of an insert; only where writable.

        Returns:
            The result, and ``rows`` and ``bytes`` read, as texts.

        Raises:
            QueryError: the engine's own, or 202 when no place came free in time.
        """
        try:
            await asyncio.wait_for(self._places.acquire(), self.limits.wait_s_max)
        except TimeoutError:
            raise QueryError(
                202,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                f"Too many simultaneous queries. Maximum: {self.limits.concurrent_max}",
            ) from None
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor,
                lambda: self.run(sql, fmt, database, parameters, settings, body),
            )
        finally:
            self._places.release()

    def run(
        self,
        sql: str,
        fmt: str,
        database: str = "",
        parameters: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[bytes, dict[str, str]]:
        """``query`` without waiting for a place: blocks, for callers without an event loop."""
        database = database or self.database
        settings = settings or {}
        handle = _connect(self._path)
        try:
            wanted = dict(settings) if self.writable else {**settings, **self._within(settings)}
            for name, value in wanted.items():
                if not _SETTING.fullmatch(name):
                    raise QueryError(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
                handle.query(f"SET {name} = {_quoted(value)}")
            if not re.fullmatch(r"\w+", database):
                raise QueryError(81, "UNKNOWN_DATABASE", f"Database {database} does not exist")
            handle.query(f"USE `{database}`")
            if not self.writable:
                handle.query("SET readonly = 1")
            if body:
                return self._insert(handle, sql, body)
            given = dict(parameters or {}) or None
            result = handle.query(sql, fmt, params=given)
            content = bytes(result.bytes() or b"")
            if len(content) > self.limits.result_bytes_max:
                # chDB does not hold max_result_bytes; while it runs, the memory limit bounds it
                raise QueryError(
                    396,
                    "TOO_MANY_ROWS_OR_BYTES",
                    f"Limit for result exceeded, max bytes: {self.limits.result_bytes_max},"
                    f" current bytes: {len(content)}",
                )
            if not content and fmt == "Native":
                content = _empty_native(handle, sql, given)
            return content, {
                "read_rows": str(result.rows_read()),
                "read_bytes": str(result.bytes_read()),
            }
        except QueryError:
            raise
        except Exception as error:  # chdb raises ChdbError and RuntimeError, told apart by text
            raise query_error(error) from error
        finally:
            handle.close()

    def _within(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The limits, lowered where a query asks for less."""
        within = self.limits.settings()
        for name in ("max_execution_time", "max_memory_usage", "max_threads"):
            asked = settings.get(name, "")
            if asked.isdecimal() and 0 < int(asked) < int(within[name]):
                within[name] = asked
        return within

    @staticmethod
    def _insert(handle: Any, sql: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        """An insert whose data came behind the statement; the engine reads data from a file."""
        head, _, fmt = sql.rpartition("FORMAT ")
        with tempfile.NamedTemporaryFile(suffix=".data") as file:
            file.write(body)
            file.flush()
            if "input(" in head:
                handle.query(head.replace("input(", f"file('{file.name}', '{fmt.strip()}', ", 1))
            else:
                handle.query(f"{head} FROM INFILE '{file.name}' FORMAT {fmt}")
        return b"", {}


def _empty_native(handle: Any, sql: str, parameters: dict[str, str] | None) -> bytes:
    """The header of a Native result without rows: a server sends it, chDB does not.

    Clients take the names of columns from it. ``sql`` that is no query has none.
    """
    try:
        described = handle.query(
            f"DESCRIBE TABLE ({_FORMAT_CLAUSE.sub('', sql)})",
            "JSONCompactEachRow",
            params=parameters,
        )
    except Exception:  # not a SELECT: there is nothing to describe
        return b""
    columns = [json.loads(line) for line in bytes(described.bytes() or b"").splitlines()]
    block = length_bytes(len(columns)) + length_bytes(0)
    for text in (text for column in columns for text in column[:2]):  # name, type
        encoded = str(text).encode()
        block += length_bytes(len(encoded)) + encoded
    return block


def length_bytes(number: int) -> bytes:
    """A length as ClickHouse's Native format writes it: seven bits a byte, low bits first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
