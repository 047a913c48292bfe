"""Statements on the embedded engine, each in a session of its own.

Invariants:
1. A session is a new handle on the engine (half a millisecond); it ends with its statement, so
   nothing of one reaches the next.
2. An analyst's session gets its limits, then the role ``reader`` (``analytics.warehouse.access``),
   then ``readonly = 1``: a query can lower limits, never raise them. Its threads run at a lower
   priority than the sink's.
3. At most ``concurrent_max`` queries of analysts' run at once; the others wait a moment and are
   then told so. A query has its place until there is room for its result among those that are not
   read yet (``analytics.warehouse.unsent``). The sink's statements have places of their own, and
   their results need no room: who has the sink's token may write anyway.
   A place is kept until the result is packed, which ends at the query's limit and when its client
   has gone; analysts' results are packed in threads of their own, ``PACKERS`` at once.
4. Calls block in worker threads; the engine lets go of the interpreter's lock meanwhile.
5. What a statement may use, and what ends one that goes on: ``analytics.warehouse.limits``.
"""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from analytics.door.canonical import canonical, is_canonical
from analytics.door.judge import Statement, judge
from analytics.door.native import Content
from analytics.door.surroundings import Surroundings
from analytics.warehouse.access import READER
from analytics.warehouse.errors import QueryError, query_error
from analytics.warehouse.limits import QueryLimits
from analytics.warehouse.packing import Step
from analytics.warehouse.results import empty_native, figures
from analytics.warehouse.unsent import Answer, Held, Unsent
from analytics.warehouse.utc import ZONE
from analytics.warehouse.utc import connect as _connect
from analytics.warehouse.watching import Watch

_SETTING = re.compile(r"[a-z][a-z0-9_]*")

SINK_STATEMENTS_MAX = 16
"""Of the sink's at once: an insert for each topic, and questions."""
SINK_STATEMENT_S_MAX = 600
"""A migration may take minutes; whatever takes longer is stuck."""
JUDGES = 2
"""Queries that are judged at once; the others wait."""
PACKERS = 2
"""Results that are packed at once; the others wait, in the places of their queries."""
JUDGED_TEXTS_MAX = 1_000
JUDGED_CHARACTERS_MAX = 8_000
"""Texts that were judged and how long each may be, to be kept: dashboards ask the same again and
again, and judging takes 4 ms."""
JUDGING_S_MAX = 30.0
"""Of the parser's on one text; it takes a third of a second of its own, on a machine at rest."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run.

    Attributes:
        sql: one statement; an analyst's is what ``Engine.judged`` gave.
        fmt: format of the result, unless the statement names one.
        database: of names without one; default: the engine's.
        parameters: values of ``{name:Type}``.
        settings: on top of the limits; names and values judged by the caller.
        body: path of a file with the data of an insert.
        query_id: how the log names it.
        packing: what the result goes through, see ``analytics.warehouse.packing``.
        gone: to be set when nobody waits for the answer any more.
    """

    sql: str
    fmt: str
    database: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    query_id: str = ""
    packing: Sequence[Step] = ()
    gone: threading.Event = field(default_factory=threading.Event)


class Engine:
    """The engine of a directory that this process owns.

    Args:
        directory: of the data; made if it is missing.
        config: from ``analytics.warehouse.config_files``.
        database: of statements that name none; made if it is missing.
        limits: of each analyst's query.
        disobeyed: ends the process.
        killed: called when a statement is killed.

    Raises:
        RuntimeError: another process owns the directory, or it can't be opened, or the engine's
            time zone is not UTC.
    """

    def __init__(
        self,
        directory: Path,
        config: Path,
        database: str,
        limits: QueryLimits,
        disobeyed: Callable[[], None],
        killed: Callable[[], None] = lambda: None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._address = f"{os.path.realpath(directory)}?config-file={os.path.realpath(config)}"
        self.database = database
        self.limits = limits
        self.unsent = Unsent(limits.unsent_bytes_max, limits.wait_s_max)
        self._places = asyncio.Semaphore(limits.concurrent_max)
        self._sinks_places = asyncio.Semaphore(SINK_STATEMENTS_MAX)
        self._executor = ThreadPoolExecutor(
            limits.concurrent_max + SINK_STATEMENTS_MAX, thread_name_prefix="engine"
        )
        self._asked: set[threading.Event] = set()
        self._anchor = _connect(self._address)
        self._killer = _connect(self._address)
        self.version = self._text("SELECT version()")
        self.timezone = self._text("SELECT timezone()")
        if self.timezone != ZONE:
            raise RuntimeError(f"the engine was loaded in the time zone {self.timezone}")
        self._anchor.query(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        self._judges = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        self._packers = ThreadPoolExecutor(PACKERS, thread_name_prefix="packer")
        self.around = self._surroundings()
        # what a text means to this engine never changes: judging knows no tables, no settings of
        # a session and no values of parameters
        self._remembered = lru_cache(JUDGED_TEXTS_MAX)(self._judge)
        self.watch = Watch(self._kill, limits.obey_s_max, disobeyed, killed)

    def abandon(self) -> None:
        """Kills what analysts run: nobody will wait for it."""
        for gone in tuple(self._asked):
            gone.set()

    def close(self, grace_s: float = 10.0) -> bool:
        """Kills what analysts still run, waits for the rest, and lets the directory go.

        Returns:
            Whether everything ended within ``grace_s`` seconds. If not, the directory is still in
            use, and only the end of the process frees it.
        """
        for executor in (self._executor, self._judges, self._packers):
            executor.shutdown(wait=False, cancel_futures=True)
        self.abandon()
        deadline = time.monotonic() + grace_s
        while self.watch.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        self._executor.shutdown(wait=True)
        self.watch.close()
        self._killer.close()
        self._anchor.close()
        return True

    def _text(self, sql: str) -> str:
        return bytes(self._anchor.query(sql, "TabSeparated").bytes()).decode().strip()

    def _names(self, sql: str) -> frozenset[str]:
        return frozenset(self._text(sql).split("\n"))

    def _surroundings(self) -> Surroundings:
        functions = "SELECT lower(name) FROM system.functions WHERE NOT is_aggregate"
        words = "SELECT DISTINCT arrayJoin(splitByChar(' ', keyword)) FROM system.keywords"
        return Surroundings(
            self.database,
            databases=self._names("SELECT name FROM system.databases"),
            functions=self._names(functions),
            keywords=self._names(words),
        )

    def _kill(self, tags: Sequence[str]) -> None:
        named = ", ".join(_quoted(tag) for tag in tags)
        self._killer.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({named}) ASYNC")

    async def judged(self, sql: str) -> Statement:
        """The statement that a caller's text is, if it may run: off the loop, in bounded time.

        Raises:
            Denied: it may not run.
            QueryError: the engine's parser does not take it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._judges, self.judge, sql)

    def judge(self, sql: str) -> Statement:
        """``judged`` for callers without an event loop."""
        return (self._judge if len(sql) > JUDGED_CHARACTERS_MAX else self._remembered)(sql)

    def _judge(self, sql: str) -> Statement:
        handle = _connect(self._address)
        try:
            _set(handle, self.limits.parser_settings())

            def ask(asked: str, parameters: dict[str, str]) -> bytes:
                # the engine alone is watched: what Python does between its answers is bounded,
                # and that it is slow on a busy machine is no reason to end the process
                with self.watch.over("being judged", JUDGING_S_MAX, threading.Event()) as tag:
                    _set(handle, {"log_comment": tag})
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

    async def query(self, job: Job) -> Held:
        """Runs an analyst's query; the caller releases what it gets.

        Raises:
            QueryError: the engine's own, or 202 when no place came free in time, or no room for
                the result.
        """

        async def run() -> Held:
            deadline = time.monotonic() + self.limits.seconds_max
            self._asked.add(job.gone)
            try:
                answer = await self._in_thread(self.read, job)
                held = await self.unsent.held(answer, job.gone.is_set)
                return await _packed(held, job, self._packers, deadline)
            finally:
                self._asked.discard(job.gone)

        return await self._placed(self._places, self.limits.concurrent_max, run)

    async def command(self, job: Job) -> Held:
        """Runs a statement of the sink's, with all rights.

        Raises:
            QueryError: as ``query``.
        """

        async def run() -> Held:
            deadline = time.monotonic() + SINK_STATEMENT_S_MAX
            held = Held(await self._in_thread(self.write, job))
            return await _packed(held, job, None, deadline)

        return await self._placed(self._sinks_places, SINK_STATEMENTS_MAX, run)

    async def _in_thread(self, run: Callable[[Job], Answer], job: Job) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._executor, run, job)

    async def _placed(
        self, places: asyncio.Semaphore, count: int, run: Callable[[], Coroutine[Any, Any, Held]]
    ) -> Held:
        try:
            await asyncio.wait_for(places.acquire(), self.limits.wait_s_max)
        except TimeoutError:
            raise QueryError(
                202,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                f"Too many simultaneous queries. Maximum: {count}",
            ) from None
        under_way = asyncio.ensure_future(run())
        # the place is free when the engine is done, whether or not anybody still waits
        under_way.add_done_callback(lambda _: places.release())
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            under_way.add_done_callback(_released)
            raise

    def read(self, job: Job) -> Answer:
        """``query`` without waiting for a place: blocks."""
        limits = self._within(job.settings)
        settings = {**job.settings, **limits}
        # watched by our limit: a lower one of the caller's is for the engine, and what does not
        # obey it must not end the process any sooner
        with self._session(job, settings, self.limits.seconds_max) as handle:
            handle.query(f"SET ROLE {READER}")
            handle.query("SET readonly = 1")
            return self._answer(handle, job)

    def write(self, job: Job) -> Answer:
        """``command`` without waiting for a place: blocks."""
        with self._session(job, job.settings, SINK_STATEMENT_S_MAX) as handle:
            if job.body is not None:
                return _insert(handle, job.sql, job.body)
            return self._answer(handle, job)

    @contextmanager
    def _session(self, job: Job, settings: Mapping[str, str], limit_s: float) -> Iterator[Any]:
        """A handle in the statement's database with these settings; errors are ``QueryError``."""
        database = job.database or self.database
        handle = _connect(self._address)
        try:
            with self.watch.over(job.query_id, limit_s, job.gone) as tag:
                _set(handle, {**settings, "log_comment": tag})
                if not re.fullmatch(r"\w+", database):
                    raise QueryError(81, "UNKNOWN_DATABASE", f"Database {database} does not exist")
                handle.query(f"USE `{database}`")
                yield handle
        except QueryError:
            raise
        except Exception as error:  # chdb raises ChdbError and RuntimeError, told apart by text
            raise query_error(error) from error
        finally:
            handle.close()

    def _answer(self, handle: Any, job: Job) -> Answer:
        given = dict(job.parameters) or None
        result = handle.query(job.sql, job.fmt, params=given)
        size = int(result.size())
        if size > self.limits.result_bytes_max:
            # chDB does not hold max_result_bytes; while it runs, the memory limit bounds it
            raise QueryError(
                396,
                "TOO_MANY_ROWS_OR_BYTES",
                f"Limit for result exceeded, max bytes: {self.limits.result_bytes_max},"
                f" current bytes: {size}",
            )
        if not size:
            native = job.fmt == "Native"
            return Answer(empty_native(handle, job.sql, given) if native else b"", figures(result))
        view = result.get_memview()
        return Answer(memoryview(view.view()), figures(result), owner=(result, view))

    def _within(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The limits, lowered where a query asks for less."""
        within = self.limits.settings()
        for name in ("max_execution_time", "max_memory_usage", "max_threads"):
            asked = settings.get(name, "")
            if asked.isdecimal() and 0 < int(asked) < int(within[name]):
                within[name] = asked
        return within


async def _packed(
    held: Held, job: Job, executor: ThreadPoolExecutor | None, deadline: float
) -> Held:
    """A result after ``job.packing``; released if that fails.

    Raises:
        QueryError: the deadline is over, the client has gone, or it can't be packed so.
    """

    def go_on() -> None:
        if job.gone.is_set():
            raise QueryError(394, "QUERY_WAS_CANCELLED", "Query was cancelled")
        if time.monotonic() > deadline:
            raise QueryError(
                159, "TIMEOUT_EXCEEDED", "Timeout exceeded: while the result was being packed"
            )

    def run(step: Step) -> Content:
        go_on()  # it may have waited for its thread
        return step(held.content, go_on)

    loop = asyncio.get_running_loop()
    try:
        for step in job.packing:
            held.replace(await loop.run_in_executor(executor, run, step))
    except BaseException:
        held.release()
        raise
    return held


def _set(handle: Any, settings: Mapping[str, str]) -> None:
    """Gives a session its settings, in one statement: each takes the engine a fifth of a ms.

    Raises:
        QueryError: a name that can't be one of a setting.
    """
    for name in settings:
        if not _SETTING.fullmatch(name):
            raise QueryError(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
    pairs = ", ".join(f"{name} = {_quoted(value)}" for name, value in settings.items())
    handle.query(f"SET {pairs}")


def _insert(handle: Any, sql: str, path: str) -> Answer:
    """An insert whose data came behind the statement: the engine reads it from the file."""
    head, _, fmt = sql.rpartition("FORMAT ")
    if "input(" in head:
        sql = head.replace("input(", f"file('{path}', '{fmt.strip()}', ", 1)
    else:
        sql = f"{head} FROM INFILE '{path}' FORMAT {fmt}"
    return Answer(b"", figures(handle.query(sql)))


def _released(under_way: asyncio.Future[Held]) -> None:
    if not under_way.cancelled() and under_way.exception() is None:
        under_way.result().release()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
