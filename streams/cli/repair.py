"""``mailpulse repair``: damaged parts of ClickHouse are removed, and their rows stored again.

Invariants:
1. Without ``--yes`` nothing is changed: what is damaged is shown, and whether Kafka still has all
   of it.
2. A damaged part is detached, not deleted, before its rows are stored again; it is deleted once
   they are, and only if Kafka or a backup had all of them.
3. Records are stored again as the sink stores them, erasures obeyed; nothing counts twice.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.cli.backup import Stores, do, place_at, stores_of, tables_at
from streams.cli.clickhouse import rows_of, table_of
from streams.cli.context import FAILED, Json, codec_of, emit, put, say, settings_of, table
from streams.cli.roles import DataDir

if TYPE_CHECKING:
    from analytics.damage import Part
    from schemas.erasure import Erasures

RECORDS_AT_ONCE = 50_000
"""Stored by one insert."""


class Repaired(NamedTuple):
    """What became of a part: rows that queries found of its table without it, and afterwards."""

    part: str
    table: str
    rows: int
    before: int
    after: int
    whole: bool


def repair(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only shown.")] = False,
    source: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="Take what Kafka lacks from a backup.")
    ] = "",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Removes damaged parts of ClickHouse's tables, and stores their rows again.

    Rows come from what Kafka still holds, with --from also from the newest backup. Shows the rows
    before and after. Exit code 1 if something is damaged and not whole again.

    Example: mailpulse repair; mailpulse repair --yes
    """
    settings = settings_of(data_dir=data_dir)
    raise typer.Exit(asyncio.run(_repair(settings, source, yes=yes, json=json)))


async def _repair(settings: Settings, source: str, *, yes: bool, json: bool) -> int:
    from analytics.damage import examine

    async with stores_of(settings, must_exist=True) as stores:
        seen = await asyncio.to_thread(examine, _asking(stores.settings))
        if seen.unfinished:
            say(f"not checked to the end: {', '.join(seen.unfinished)}")
        if not seen.parts:
            if json:
                emit({"damaged": [], "repaired": []})
            else:
                put(f"{seen.tables} tables checked, nothing damaged")
            return 0
        since = await _complete_since(stores.settings, seen.parts)
        if not yes:
            return _shown(seen.parts, since, json=json)
        done = await _done(stores, seen.parts, since, source)
    if json:
        emit({"damaged": [part.name for part in seen.parts],
              "repaired": [one._asdict() for one in done]})  # fmt: skip
    else:
        rows = [(one.part, one.table, _count(one.rows), f"{one.before:,}", f"{one.after:,}",
                 "whole" if one.whole else "perhaps not whole: kept in detached/, see --from")
                for one in done]  # fmt: skip
        table("", ("part", "table", "its rows", "rows without it", "rows now", ""), rows)
    return 0 if all(one.whole for one in done) else FAILED


def _asking(settings: Settings) -> Callable[[str, Mapping[str, str], Any], list[Any]]:
    return lambda sql, given, row: rows_of(settings, sql, given, row)


def _count(rows: int) -> str:
    return f"{rows:,}" if rows >= 0 else "unknown"


def _shown(parts: "Sequence[Part]", since: Mapping[str, float], *, json: bool) -> int:
    from analytics.refill import is_whole, topics_of

    rows = []
    for part in parts:
        kafka = "Kafka has all of it" if is_whole(part, since) else (
            "Kafka may lack some: --from PLACE takes it from a backup"
            if topics_of(part) else "in no topic: only a backup has it (--from PLACE)"
        )  # fmt: skip
        rows.append((part.name, part.table, _count(part.rows), kafka))
    if json:
        emit({"damaged": [{"part": part, "table": name, "rows": count, "from": how}
                          for part, name, count, how in rows], "repaired": []})  # fmt: skip
    else:
        table("", ("part", "table", "rows", ""), rows)
        say("nothing was changed; --yes removes these parts and stores their rows again")
    return FAILED


async def _complete_since(settings: Settings, parts: "Sequence[Part]") -> dict[str, float]:
    """Topic -> since when Kafka has everything, seconds since 1970; 0: always."""
    from analytics.refill import topics_of
    from streams.backup.topics import found_topics

    found = await found_topics(settings)
    out: dict[str, float] = {}
    for topic in dict.fromkeys(topic for part in parts for topic in topics_of(part)):
        out[topic] = 0.0
        for number, (begin, end) in enumerate(found[topic].bounds if topic in found else ()):
            if not begin or BY_NAME[topic].compacted:
                continue
            if begin == end:
                out[topic] = float("inf")
                continue
            out[topic] = max(out[topic], await _first_at(settings, topic, number, begin))
    return out


async def _first_at(settings: Settings, topic: str, number: int, begin: int) -> float:
    """When the first record of a partition was written, seconds since 1970."""
    from streams.kafka.stretches import stretches_of

    async with stretches_of(settings, topic, number) as stretches:
        async for records, _ in stretches.read(begin, stretches.end, 1):
            if records:
                return float(records[0].timestamp) / 1000
    return float("inf")


async def _done(
    stores: Stores, parts: "Sequence[Part]", since: Mapping[str, float], source: str
) -> list[Repaired]:
    from analytics.damage import steps
    from analytics.refill import disposal, is_whole, removal, table_of, tables_of, topics_of

    settings = stores.settings
    if replicated := [part for part in parts if part.replicated]:
        line = steps(replicated[0], settings.sink_group, settings.data_dir.resolve())
        raise BadInput("replicated", f"another replica has these parts: {line}")
    for part in parts:
        if statement := removal(part):
            await asyncio.to_thread(do, settings, statement)
            say(f"{part.name}: detached")
    before = {name: await _rows(settings, name) for name in tables_of(parts)}
    if source:
        await asyncio.to_thread(_from_backup, stores, source, tables_of(parts))
    topics = list(dict.fromkeys(topic for part in parts for topic in topics_of(part)))
    await refill(settings, topics, say)
    out = []
    for part in parts:
        name = table_of(part)
        whole = bool(source) or is_whole(part, since)
        if whole:
            await asyncio.to_thread(do, settings, disposal(part))
        out.append(
            Repaired(part.name, name, part.rows, before[name], await _rows(settings, name), whole)
        )
    return out


async def refill(settings: Settings, topics: Iterable[str], say: Callable[[str], None]) -> int:
    """Stores everything that topics hold again; returns how many records.

    Raises:
        Unavailable: Kafka or ClickHouse does not answer.
    """
    from streams.erasure.topic import ErasureLog
    from streams.kafka.reader import reader

    codec, count = codec_of(settings), 0
    async with ErasureLog(settings, codec) as erased:
        await erased.fresh(0)
        for topic in topics:
            say(f"{topic} …")
            with Loading(settings, topic, erased.erasures) as load:
                async with reader(settings, topic) as source:
                    await source.begin()
                    held: list[Any] = []
                    async for records in source.batches():
                        held += records
                        if len(held) >= RECORDS_AT_ONCE:
                            count += await asyncio.to_thread(load, held)
                            held = []
                    if held:
                        count += await asyncio.to_thread(load, held)
    say(f"{count:,} records were stored again")
    return count


class Loading:
    """What stores records of a topic, under a token of its own: the sink's were stored before."""

    def __init__(self, settings: Settings, topic: str, erasures: "Erasures") -> None:
        self._settings, self._topic, self._erasures = settings, topic, erasures

    def __enter__(self) -> Callable[[Sequence[Any]], int]:
        from analytics.client import connect
        from analytics.sink.loading import Loader

        self._client = connect(self._settings)
        group = f"repair-{secrets.token_hex(8)}"
        loader = Loader(self._client, codec_of(self._settings), self._topic, group, self._erasures)

        def load(records: Sequence[Any]) -> int:
            loader.load(records)  # what it rejects is a dead letter already
            return len(records)

        return load

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _from_backup(stores: Stores, source: str, tables: Sequence[str]) -> None:
    """Adds the rows that the newest backup has of some tables."""
    from streams.backup.manifest import Unusable

    place = place_at(source)
    manifest = place.newest()
    if manifest is None:
        raise BadInput("no_backup", f"{place.name} has no backup that can be read")
    copy = manifest.tables
    if copy.server or stores.folder is None:
        raise BadInput(
            "on_a_server",
            "a server restores a table itself: RESTORE TABLE … SETTINGS allow_non_empty_tables = 1",
        )
    folder: Path = stores.folder / manifest.name
    handle = tables_at(stores.settings)
    say(f"tables of backup {manifest.name} …")
    try:
        place.fetch_folder(copy.files, folder, lambda _done, _total: None)
        for name in tables:
            handle.add(f"File('{manifest.name}')", manifest.name, copy.database, name)
    except Unusable as error:
        raise BadInput("damaged", str(error)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _rows(settings: Settings, name: str) -> int:
    sql = f"SELECT count() FROM `{name}` SETTINGS final = 1"  # where there is such a thing
    return int((await asyncio.to_thread(table_of, settings, sql))[1][0][0])


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command(rich_help_panel="Set-up")(repair)
