"""Restores a backup.

Invariants:
1. Everything is checked before anything is written: the manifest's version, every object, that
   ClickHouse is empty, that Kafka is empty or the one that was backed up, that nobody reads.
2. Where Kafka was kept, it is not changed but for the sink's offsets, which go back to those of the
   backup: the sink stores again what came since, erasures included.
3. Where it is lost, its topics come back with the same offsets (``streams.backup.refill``), all
   groups with their own, and the log keeps its name (``streams.embedded.kept_log``): a record
   that was read before is the same one again.
4. Where Kafka is lost, state that workers had is set aside, and later snapshots in
   ``MAILPULSE_SNAPSHOT_STORE`` are deleted: they know of records that are in no log any more.
5. A note says that a restore is under way (``streams.backup.notes``). Cut off at any moment, the
   same restore begins anew, and a pipeline does not start on the half of it.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.topics import BY_NAME, RAW
from schemas.versions import FOLD_VERSION
from streams.backup.groups import refuse_members, set_places
from streams.backup.manifest import (
    Found,
    Groups,
    Manifest,
    check_version,
    kafka_is_kept,
    lost_records,
)
from streams.backup.place import BackupPlace
from streams.backup.refill import Refill
from streams.backup.run import teller
from streams.backup.tables import Tables, place_of
from streams.backup.topics import found_topics
from streams.objects.objects import checked, objects_at
from streams.worker.snapshot_manifest import Unusable as UnusableSnapshot
from streams.worker.snapshot_manifest import unpack
from streams.worker.snapshots import MANIFEST, SnapshotFolder, synced, write_whole
from streams.worker.store import SNAPSHOTS


@dataclass(frozen=True, slots=True)
class Targets:
    """Where it is restored to.

    Attributes:
        settings: of Kafka and of the workers' state.
        tables: ClickHouse.
        folder: where ClickHouse reads ``File`` backups, on this machine; ``None``: it is a server.
        migration: number of this version's newest migration.
        with_gap: go on although Kafka no longer has all that came since.
        again: an earlier run into these stores was cut off: the tables are its own.
        refilled: that run had begun to fill an empty Kafka: the topics are its own, too.
        kept_log: the log that a raw topic of an id is here, if an earlier restore has named it.
    """

    settings: Settings
    tables: Tables
    folder: Path | None
    migration: int
    with_gap: bool = False
    again: bool = False
    refilled: bool = False
    kept_log: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    Attributes:
        kafka: ``kept`` or ``refilled``.
        topic_id: of the raw topic now.
        rows: table -> rows, those that newer ones replace included.
        snapshots: of state, put where workers look for them.
        records: written to topics.
    """

    kafka: str
    topic_id: str
    rows: dict[str, int]
    snapshots: int
    records: int


class Restore:
    """One run.

    Args:
        say: called with how far it is.
    """

    def __init__(
        self, targets: Targets, place: BackupPlace, manifest: Manifest, say: Callable[[str], None]
    ) -> None:
        self._targets, self._place, self._manifest = targets, place, manifest
        self._say = say

    async def run(self, begin: Callable[[bool], None]) -> Restored:
        """Restores.

        Args:
            begin: called when everything is checked, before anything is written (invariant 5); is
                told whether Kafka was kept.

        Raises:
            Unusable: the backup is damaged, of a newer version, or of another Kafka.
            BadInput: ClickHouse is not empty, processes run, or Kafka lacks records.
            Unavailable: a peer does not answer.
        """
        kept = await self._checked()
        begin(kept)
        if self._targets.again:
            await asyncio.to_thread(self._targets.tables.drop)
        manifest, settings = self._manifest, self._targets.settings
        self._say("ClickHouse …")
        await asyncio.to_thread(self._tables)
        records = 0
        if kept:
            await set_places(settings, self._of_sink())
        else:
            self._say("topics …")
            refill = Refill(
                settings, self._place, manifest, teller(self._say, "topics", "records")
            )  # fmt: skip
            await refill.run(lambda: found_topics(settings))
            await set_places(settings, manifest.groups)
            records = sum(
                one.records for copy in manifest.topics.values() for one in copy.partitions
            )
            await asyncio.to_thread(self._set_state_aside)
        self._say("state …")
        snapshots = await asyncio.to_thread(self._snapshots)
        rows = await asyncio.to_thread(self._targets.tables.rows)
        topic_id = (await found_topics(settings))[RAW].topic_id
        return Restored("kept" if kept else "refilled", topic_id, rows, snapshots, records)

    async def _checked(self) -> bool:
        """Invariant 1; returns whether Kafka was kept."""
        targets, manifest = self._targets, self._manifest
        check_version(manifest, FOLD_VERSION, targets.migration, BY_NAME)
        found = await found_topics(targets.settings)
        if targets.refilled and (RAW not in found or found[RAW].topic_id != self._mine()):
            found = {}
        self._refuse_restored(found)
        kept = kafka_is_kept(manifest, RAW, found)
        if not targets.again:
            await asyncio.to_thread(targets.tables.refuse_any)
        await refuse_members(targets.settings, manifest.groups)
        if kept:
            self._refuse_gaps(lost_records(manifest, targets.settings.sink_group, found))
        elif manifest.partitions != targets.settings.partitions:
            raise BadInput(
                "partitions",
                f"the backup has {manifest.partitions} partitions, MAILPULSE_PARTITIONS says"
                f" {targets.settings.partitions}: set it to that number",
            )
        self._say(f"every object of backup {manifest.name} is read first …")
        told = teller(self._say, "verified", "bytes")
        await asyncio.to_thread(self._place.verify, manifest, told)
        return kept

    def _refuse_restored(self, found: Mapping[str, Found]) -> None:
        """Says so if an earlier run has come to its end: its user may have lost its last words."""
        topic_id = found[RAW].topic_id if RAW in found else ""
        if topic_id in ("", self._mine()):
            return
        if self._targets.kept_log(topic_id) == self._manifest.log_id:
            raise BadInput(
                "restored",
                "a backup of this log was restored here before: start the pipeline; to restore"
                " again, take an empty --data-dir",
            )

    def _mine(self) -> str:
        return self._manifest.topics[RAW].topic_id

    def _refuse_gaps(self, lost: dict[tuple[str, int], tuple[int, int]]) -> None:
        if not lost:
            return
        lines = [
            f"{topic}[{number}]: offsets {begin} to {end - 1}"
            for (topic, number), (begin, end) in lost.items()
        ]
        if self._targets.with_gap:
            self._say("\n".join(["these records stay missing in ClickHouse:", *lines]))
            return
        raise BadInput(
            "gap",
            "\n".join([
                "Kafka no longer has all that came since this backup:", *lines,
                "A later backup may do; with --with-gap these records stay missing in ClickHouse",
            ]),
        )  # fmt: skip

    def _of_sink(self) -> Groups:
        group = self._targets.settings.sink_group
        return {group: self._manifest.groups.get(group, {})}

    def _tables(self) -> None:
        tables, copy = self._targets.tables, self._manifest.tables
        name, folder = self._manifest.name, self._targets.folder
        if copy.server:
            tables.restore(place_of(copy.server, name), name, copy.database)
            return
        if folder is None:
            raise BadInput(
                "not_here",
                "this backup of ClickHouse's tables was made on one machine: restore it with"
                " --data-dir there, without MAILPULSE_CLICKHOUSE_DSN",
            )
        try:
            told = teller(self._say, "ClickHouse", "files")
            self._place.fetch_folder(copy.files, folder / name, told)
            tables.restore(f"File('{name}')", name, copy.database)
        finally:
            shutil.rmtree(folder / name, ignore_errors=True)

    def _set_state_aside(self) -> None:
        """State that is ahead of the restored log would take new records for ones that it has."""
        settings, name = self._targets.settings, self._manifest.name
        directory = settings.streams_state_dir / settings.consumer_group
        if directory.exists():
            aside = directory.with_name(f"{directory.name}.before-{secrets.token_hex(4)}")
            directory.rename(aside)
            self._say(f"workers' state from before the restore is set aside: {aside}")
        if settings.snapshot_store:
            objects = objects_at(settings.snapshot_store, "MAILPULSE_SNAPSHOT_STORE")
            for key in objects.keys(settings.consumer_group):
                if key.endswith(MANIFEST) and key.rpartition("/")[2] > f"{name}{MANIFEST}":
                    objects.delete(key)

    def _snapshots(self) -> int:
        """Puts snapshots of state where workers look for them; a worker judges each."""
        settings = self._targets.settings
        directory = settings.streams_state_dir / settings.consumer_group
        count = 0
        for store, snapshots in self._manifest.snapshots.items():
            for files in snapshots.values():
                manifest = dict(files)
                text = self._place.read(manifest.pop(MANIFEST))
                try:
                    snapshot = unpack(text)
                except UnusableSnapshot:
                    continue
                path = directory / SNAPSHOTS / checked(store)
                folder = path / checked(snapshot.name)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                self._place.fetch_folder(manifest, folder, lambda _done, _total: None)
                synced(folder)
                write_whole(path / f"{snapshot.name}{MANIFEST}", text)
                count += 1
        SnapshotFolder(directory).clean()
        return count
