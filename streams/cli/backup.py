"""``mailpulse backup`` and ``mailpulse restore``: everything that is stored, as of one coordinate.

Invariants:
1. A backup stops nothing, and changes nothing of what it copies.
2. A restore replaces nothing: it is refused unless the tables are empty, and Kafka is empty or the
   one that was backed up.
3. One machine is what ``--data-dir`` names, unless the environment names Kafka or ClickHouse.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from schemas.errors import BadInput, ConfigError, Unavailable
from schemas.settings import PREFIX, Settings
from streams.cli.context import FAILED, Json, emit, environ, now, put, say, settings_of, table
from streams.cli.roles import DataDir

if TYPE_CHECKING:
    from streams.backup.manifest import Manifest
    from streams.backup.place import BackupPlace
    from streams.backup.restoring import Restored
    from streams.backup.tables import Tables
    from streams.cli.erased_again import Erased

Where = Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://bucket/prefix.")]


class Stores(NamedTuple):
    """Kafka and ClickHouse, with all rights.

    Attributes:
        settings: with their addresses.
        folder: where ClickHouse keeps ``File`` backups on this machine; ``None``: it is a server.
    """

    settings: Settings
    folder: Path | None


def backup(
    to: Where,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Then read every object of it, earlier backups' ones too."),
    ] = False,
    keep: Annotated[
        int | None, typer.Option(help="Then delete all but so many backups.", min=1)
    ] = None,
    clickhouse: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="Where a ClickHouse server keeps its part, such as Disk('backups', '{name}').",
        ),
    ] = "",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Backs everything up: ClickHouse, Kafka's topics and offsets, workers' state.

    Nothing is stopped. Only what earlier backups in the same place don't have is stored; each new
    object is read back. Run one at a time for each place. On one machine it works while 'mailpulse
    up' runs and while it does not; ClickHouse's part is copied beside its data first, so that disk
    must have room for it.

    Example: mailpulse backup s3://backups/mailpulse --keep 14
    """
    settings = settings_of(data_dir=data_dir)
    raise typer.Exit(asyncio.run(_backup(settings, to, clickhouse, keep, verify=verify, json=json)))


async def _backup(
    settings: Settings, to: str, clickhouse: str, keep: int | None, *, verify: bool, json: bool
) -> int:
    from streams.backup.manifest import Unusable
    from streams.backup.notes import BackupsMade, Made, alone
    from streams.backup.run import Backup, Sources, teller
    from streams.backup.tables import place_of
    from streams.embedded.kept_log import kept_log
    from streams.kafka import admin

    place = place_at(to)
    _refuse_inside(to, settings.data_dir)
    if clickhouse:
        place_of(clickhouse, "")
    async with stores_of(settings, must_exist=True) as stores:
        if stores.folder is None and not clickhouse:
            raise BadInput(
                "clickhouse",
                "a ClickHouse server keeps its part of a backup itself: name where, as in"
                " --clickhouse \"Disk('backups', '{name}')\"",
            )
        log_id = await admin.log_id(stores.settings)
        if stores.folder is not None:
            log_id = kept_log(settings.data_dir, log_id) or log_id
        sources = Sources(
            stores.settings, log_id, tables_at(stores.settings),
            stores.folder, clickhouse,
        )  # fmt: skip
        with alone(settings.data_dir):
            manifest = await Backup(sources, place, say).run(now())
    try:
        if verify:
            told = teller(say, "verified", "bytes")
            await asyncio.to_thread(place.verify, manifest, told, delete=True)
        deleted = await asyncio.to_thread(place.prune, keep) if keep else (0, 0)
    except Unusable as error:
        raise BadInput("damaged", f"{error}\nback up again: it stores them anew") from None
    made = Made(place.name, manifest.name, manifest.made_at)
    BackupsMade(settings.data_dir).add(made, await asyncio.to_thread(place.listed))
    if json:
        emit({**_about(manifest), "place": place.name, "new_bytes": place.new_bytes,
              "verified": verify, "deleted_backups": deleted[0]})  # fmt: skip
        return 0
    put(f"backup {manifest.name} in {place.name}")
    _show(manifest)
    say(f"{place.new_bytes:,} bytes stored, {place.kept_bytes:,} were there"
        + (f"; {deleted[0]} backups deleted" if deleted[0] else ""))  # fmt: skip
    return 0


def _refuse_inside(to: str, data_dir: Path) -> None:
    """Refuses a place that is lost with what it is to bring back."""
    if "://" not in to and Path(to).resolve().is_relative_to(data_dir.resolve()):
        raise BadInput("inside", f"{to} is in {data_dir}, and would be lost with it")


def restore(
    source: Where,
    name: Annotated[str, typer.Option(help="Which backup. Default: the newest.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="Only list the backups.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only read every object of the backup.")
    ] = False,
    with_gap: Annotated[
        bool,
        typer.Option("--with-gap", help="Although Kafka no longer has all that came since."),
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Restores a backup: into an empty data directory, or an empty ClickHouse beside Kafka.

    Where Kafka was kept, the sink stores again what came since the backup, erasures included. Where
    it is lost, topics, offsets and state come back as of the backup. Nothing is replaced, and
    everything is verified before anything is written. Cut off, the same command begins anew.

    Example: mailpulse restore s3://backups/mailpulse --data-dir ./mailpulse-data
    """
    place = place_at(source)
    if listed:
        _list(place, json=json)
        return
    manifest = _chosen(place, name)
    if verify:
        _verify(place, manifest, json=json)
        return
    settings = settings_of(data_dir=data_dir)
    raise typer.Exit(asyncio.run(_restore(settings, place, manifest, with_gap=with_gap, json=json)))


async def _restore(
    settings: Settings, place: "BackupPlace", manifest: "Manifest", *, with_gap: bool, json: bool
) -> int:
    from analytics.migrate import load
    from streams.backup.manifest import Unusable
    from streams.backup.notes import Begun, Note
    from streams.backup.restoring import Restore, Targets
    from streams.cli.erased_again import erase_again
    from streams.embedded.data_dir import running
    from streams.embedded.kept_log import keep_log, kept_log

    if not _is_elsewhere() and running(settings.data_dir):
        raise BadInput("running", f"a pipeline runs on {settings.data_dir}: stop it first")
    note = Note(settings.data_dir)
    begun = note.read()
    migration = max(one.number for one in load())
    async with stores_of(settings, must_exist=False) as stores:
        target = _target(stores)
        again = begun is not None and begun.target == target
        targets = Targets(
            stores.settings, tables_at(stores.settings), stores.folder, migration, with_gap,
            again, begun is not None and again and not begun.kept,
            partial(kept_log, settings.data_dir) if stores.folder is not None else str,
        )  # fmt: skip
        restoring = Restore(targets, place, manifest, say)
        try:
            done = await restoring.run(
                lambda kept: note.write(Begun(place.name, manifest.name, target, kept))
            )
        except Unusable as error:
            raise BadInput("unusable", str(error)) from None
        if done.topic_id != manifest.log_id and stores.folder is not None:
            keep_log(settings.data_dir, done.topic_id, manifest.log_id)
        erased = await erase_again(stores.settings, manifest.made_at, say)
        note.end()
    if json:
        emit({**_about(manifest), "kafka": done.kafka, "log_id": manifest.log_id,
              "rows": done.rows, "records": done.records, "snapshots": done.snapshots,
              "erased_again": erased.people, "erasures_without_names": erased.unknown})  # fmt: skip
        return 0
    _told_erased(erased)
    _told(manifest, done, on_one_machine=stores.folder is not None)
    return 0


def _target(stores: Stores) -> str:
    """Which stores a restore writes to, without secrets."""
    from schemas.addresses import clickhouse_address

    if stores.folder is not None:
        return str(stores.folder)
    address = clickhouse_address(stores.settings.clickhouse_dsn.get_secret_value())
    return f"{stores.settings.kafka_bootstrap} {address.place} {address.database}"


def _told(manifest: "Manifest", done: "Restored", *, on_one_machine: bool) -> None:
    put(f"restored backup {manifest.name}: {sum(done.rows.values()):,} rows in ClickHouse")
    when = _when(manifest.made_at)
    if done.kafka == "kept":
        say("Kafka was kept: the sink stores again what came since, erasures included")
    else:
        put(f"{done.records:,} records in Kafka, {done.snapshots} snapshots of state")
        say(f"what arrived after {when} is not in it: 'mailpulse backfill' reads what the providers"
            " still have")  # fmt: skip
        say(f"people who were forgotten after {when} are back: 'mailpulse forget FILE' with your"
            " list of them")  # fmt: skip
        if not on_one_machine:
            say(
                f"set MAILPULSE_LOG_ID={manifest.log_id} for every worker and command from now on,"
                " and delete what is in the workers' MAILPULSE_STATE_DIR: it is ahead of the log"
            )
    say("start the pipeline again" + (": mailpulse up" if on_one_machine else ""))


def _told_erased(erased: "Erased") -> None:
    if erased.people:
        say(f"{erased.people:,} people of the backup were erased again: they had been forgotten")
    if erased.unknown:
        say(f"{erased.unknown:,} erasures since the backup are so old that nothing says whom:"
            " 'mailpulse forget FILE' with your list of them")  # fmt: skip


def _list(place: "BackupPlace", *, json: bool) -> None:
    from streams.backup.manifest import Unusable

    rows: list[tuple[str, ...]] = []
    documents: list[dict[str, object]] = []
    bad = 0
    for name in place.listed():
        try:
            manifest = place.manifest(name)
        except Unusable as error:
            bad += 1
            rows.append((name, "", "", str(error)))
            documents.append({"name": name, "problem": str(error)})
            continue
        documents.append(_about(manifest))
        records = sum(one.records for copy in manifest.topics.values() for one in copy.partitions)
        rows.append((name, f"{manifest.bytes:,}", f"{records:,}", f"mailpulse {manifest.version}"))
    if json:
        emit({"backups": documents})
    else:
        table(place.name, ("backup", "bytes", "records", ""), rows)
    raise typer.Exit(FAILED if bad else 0)


def _verify(place: "BackupPlace", manifest: "Manifest", *, json: bool) -> None:
    from streams.backup.manifest import Unusable
    from streams.backup.run import teller

    try:
        place.verify(manifest, teller(say, "verified", "bytes"))
    except Unusable as error:
        raise BadInput("damaged", str(error)) from None
    if json:
        emit({**_about(manifest), "verified": True})
        return
    put(f"backup {manifest.name}: every object is as it was written")


def _chosen(place: "BackupPlace", name: str) -> "Manifest":
    """A backup by its name, or the newest one: never silently an earlier one instead of it.

    Raises:
        BadInput: there is none, or it can't be read.
    """
    from streams.backup.manifest import Unusable, is_name

    if name and not is_name(name):
        raise BadInput("no_backup", f"{name!r} is not the name of a backup, such as"
                       " 20261128T180000.000Z; --list shows them")  # fmt: skip
    names = place.listed()
    if not names:
        raise BadInput("no_backup", f"{place.name} has no backup")
    try:
        return place.manifest(name or names[0])
    except Unusable as error:
        raise BadInput("unusable", f"{error}; --list shows all, --name takes another") from None


def _about(manifest: "Manifest") -> dict[str, object]:
    return {
        "name": manifest.name, "made_at": _when(manifest.made_at), "version": manifest.version,
        "log": manifest.log_id, "bytes": manifest.bytes,
        "records": {
            topic: sum(one.records for one in copy.partitions)
            for topic, copy in manifest.topics.items()
        },
        "tables": dict(manifest.tables.rows), "stores": sorted(manifest.snapshots),
    }  # fmt: skip


def _show(manifest: "Manifest") -> None:
    rows = [("ClickHouse", f"{sum(manifest.tables.rows.values()):,} rows",
             manifest.tables.server or f"{len(manifest.tables.files):,} files")]  # fmt: skip
    for topic, copy in manifest.topics.items():
        records = sum(one.records for one in copy.partitions)
        rows.append((topic, f"{records:,} records", f"{len(copy.partitions)} partitions"))
    rows.append(("state", f"{len(manifest.snapshots)} snapshots", ""))
    table("", ("what", "how much", ""), rows)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def place_at(where: str) -> "BackupPlace":
    """The place of backups.

    Raises:
        ConfigError: it can't be used.
    """
    from streams.backup.place import BackupPlace
    from streams.objects.objects import objects_at

    named = where if "://" in where else str(Path(where).resolve())
    return BackupPlace(objects_at(named, named))


def tables_at(settings: Settings) -> "Tables":
    """The database of ClickHouse."""
    from streams.backup.tables import Tables
    from streams.cli.clickhouse import table_of

    return Tables(lambda sql, given: table_of(settings, sql, given)[1], partial(do, settings), say)


def do(settings: Settings, statement: str) -> None:
    """Runs a statement of ClickHouse's that has no answer.

    Raises:
        Unavailable: nothing answers, or not ClickHouse.
        BadInput: ClickHouse refuses it.
    """
    from streams.cli.clickhouse import ask

    for _ in ask(settings, statement, "TSV").pieces:
        pass


def _is_elsewhere() -> bool:
    """Whether the environment names Kafka or ClickHouse (invariant 3)."""
    given = environ()
    names = ("KAFKA_BOOTSTRAP", "CLICKHOUSE_DSN", "CLICKHOUSE_DSN_FILE")
    return any(f"{PREFIX}{name}" in given for name in names)


def _database_at(dsn: str) -> dict[str, Any]:
    """The settings that the supervisor gives the sink."""
    from pydantic import SecretStr

    return {
        "clickhouse_dsn": SecretStr(dsn), "clickhouse_compress": False,
        "clickhouse_manage_access": False,
    }  # fmt: skip


@asynccontextmanager
async def stores_of(settings: Settings, *, must_exist: bool) -> AsyncIterator[Stores]:
    """Kafka and ClickHouse: of a running pipeline, of one that is stopped, or elsewhere.

    Raises:
        ConfigError: the data directory can't be used.
        Unavailable: a peer does not answer.
    """
    if _is_elsewhere():
        yield Stores(settings, None)
        return
    from analytics.warehouse.config_files import backups_of
    from streams.embedded.data_dir import OPERATOR_FILE, running
    from streams.embedded.stores import stores

    folder = backups_of(settings.data_dir.resolve() / "warehouse")
    if running(settings.data_dir):
        path = settings.data_dir / OPERATOR_FILE
        try:
            dsn = path.read_text("utf-8").strip()
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}; start 'mailpulse up' again") from None
        yield Stores(settings.model_copy(update=_database_at(dsn)), folder)
        return
    if must_exist and not (settings.data_dir / "kafka").exists():
        raise ConfigError(
            [f"{PREFIX}DATA_DIR: {settings.data_dir} has no pipeline's data; --data-dir names it,"
             " and on a cluster MAILPULSE_KAFKA_BOOTSTRAP and MAILPULSE_CLICKHOUSE_DSN"]
        )  # fmt: skip
    say("starting Kafka and the database …")
    async with stores(settings, environ(), say) as (kafka, dsn):
        yield Stores(kafka.model_copy(update=_database_at(dsn)), folder)


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    app.command(rich_help_panel="Set-up")(backup)
    app.command(rich_help_panel="Set-up")(restore)
