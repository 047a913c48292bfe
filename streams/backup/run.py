"""Makes a backup.

Invariants:
1. The order is the coordinate: committed offsets are read first, then ClickHouse is copied, then
   workers' snapshots, then every topic to its end. So whatever the copy of ClickHouse lacks is in
   the copied topics behind the offsets, and whatever it has of behind them is the same row again;
   every offset that a snapshot or a group names is in the copied topics.
2. Nothing is stopped, and nothing that is backed up is changed.
3. The manifest is written last. Cut off at any moment there is no backup, and the next run uses
   what was stored.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from schemas.errors import BadInput, ConfigError
from schemas.settings import Settings
from schemas.topics import RAW
from schemas.versions import FOLD_VERSION
from streams.backup.manifest import Files, Manifest, Stored, is_name
from streams.backup.manifest import Tables as TablesCopy
from streams.backup.place import BackupPlace
from streams.backup.tables import Tables, place_of
from streams.backup.topics import Copying, committed
from streams.worker.snapshot_manifest import Manifest as Snapshot
from streams.worker.snapshots import MANIFEST, SnapshotFolder, name_at

TELL_EVERY_S = 5.0
FREE_BYTES_MIN = 256 << 20
"""That ClickHouse's backup leaves on the disk."""
LINKED = ".backup"
"""Folder of a state directory for the length of a backup: links to the files of snapshots, which
the worker may delete meanwhile."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is backed up.

    Attributes:
        settings: of Kafka and of the workers' state.
        log_id: of the raw topic.
        tables: ClickHouse.
        folder: where ClickHouse writes ``File`` backups, on this machine; ``None``: it is a server.
        server: ``place_of``'s text, of a server.
    """

    settings: Settings
    log_id: str
    tables: Tables
    folder: Path | None
    server: str = ""


def teller(say: Callable[[str], None], what: str, unit: str) -> Callable[[int, int], None]:
    """Says how far something is, every ``TELL_EVERY_S`` seconds."""
    last = begun = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < TELL_EVERY_S or not total:
            return
        last = now
        left = (total - done) * (now - begun) / max(1, done)
        say(f"{what}: {done:,} of {total:,} {unit}, {left:.0f} s left")

    return tell


class Backup:
    """One run.

    Args:
        say: called with how far it is.
    """

    def __init__(self, sources: Sources, place: BackupPlace, say: Callable[[str], None]) -> None:
        self._sources, self._place, self._say = sources, place, say

    async def run(self, made_at: float) -> Manifest:
        """Makes the backup.

        Args:
            made_at: seconds since 1970, now.

        Raises:
            BadInput: ClickHouse could not do its part, or the disk has no room.
            Unavailable: a peer does not answer.
        """
        sources = self._sources
        name = name_at(made_at)
        before = await asyncio.to_thread(self._place.newest)
        if before is not None and before.name >= name:
            raise BadInput("clock", f"{self._place.name} has backup {before.name}, of the future")
        groups = await committed(sources.settings)
        self._say("ClickHouse …")
        tables = await asyncio.to_thread(self._tables, name, before)
        self._say("state …")
        snapshots = await asyncio.to_thread(self._snapshots)
        self._say("topics …")
        told = teller(self._say, "topics", "records")
        topics = await Copying(sources.settings, self._place, before, told).topics()
        if RAW not in topics:
            raise ConfigError([f"{RAW}: no such topic; 'mailpulse topics apply' creates it"])
        manifest = Manifest(
            name, made_at, version("mailpulse"), FOLD_VERSION, sources.log_id, groups, tables,
            topics, snapshots,
        )  # fmt: skip
        await asyncio.to_thread(self._place.write, manifest)
        return manifest

    def _tables(self, name: str, before: Manifest | None) -> TablesCopy:
        tables, folder = self._sources.tables, self._sources.folder
        about = tables.name(), tables.migration(), tables.rows()
        if folder is None:
            place, base = place_of(self._sources.server, name), ""
            if before is not None and before.tables.server == self._sources.server:
                base = place_of(before.tables.server, before.name)
            tables.back_up(place, name, base)
            return TablesCopy(*about, {}, self._sources.server)
        _clean(folder)
        _refuse_full(folder, tables.bytes())
        told = teller(self._say, "ClickHouse", "files")
        with _removed(folder / name):
            tables.back_up(f"File('{name}')", name)
            return TablesCopy(*about, self._place.put_folder(folder / name, told))

    def _snapshots(self) -> dict[str, dict[str, Files]]:
        """The newest snapshot of each store on this machine."""
        settings = self._sources.settings
        directory = settings.streams_state_dir / settings.consumer_group
        folder = SnapshotFolder(directory)
        out: dict[str, dict[str, Files]] = {}
        for store in folder.stores():
            for manifest in folder.of(store):
                with _removed(directory / LINKED) as links:
                    if _linked(folder, manifest, links):
                        out[store] = {manifest.name: self._stored(links)}
                        break
        return out

    def _stored(self, links: Path) -> Mapping[str, Stored]:
        return self._place.put_folder(links, lambda _done, _total: None)


@contextmanager
def _removed(folder: Path) -> Iterator[Path]:
    """A folder that is gone before and after the block."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _linked(folder: SnapshotFolder, manifest: Snapshot, links: Path) -> bool:
    """Links a snapshot's files; ``False`` if the worker deleted it meanwhile."""
    from streams.worker.snapshot_manifest import pack

    try:
        links.mkdir(parents=True)
        for name in manifest.files:
            os.link(folder.path_of(manifest, name), links / name)
    except FileNotFoundError:
        return False
    (links / MANIFEST).write_bytes(pack(manifest))
    return True


def _clean(folder: Path) -> None:
    """Deletes what a backup that was killed has left."""
    for path in folder.glob("*"):
        if is_name(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _refuse_full(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + FREE_BYTES_MIN:
        raise BadInput(
            "no_room",
            f"ClickHouse first copies its {needed >> 20:,} MB beside its data, in {folder}, and"
            f" that disk has {free >> 20:,} MB free",
        )
