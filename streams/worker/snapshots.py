"""Snapshots of state stores on a worker's disk.

A snapshot is a RocksDB checkpoint: a folder with links to the store's table files, which never
change, and copies of the few others. It takes disk only for what the store has replaced since.

Invariants:
1. A snapshot is complete or it does not exist: its manifest is written last, beside the folder.
   What has none is deleted at the next start.
2. Nothing is taken for state that was not read back, byte for byte. Links share their bytes with
   the store: damage to one of its files may be in the snapshot too.
3. A store is put in place by one rename, with its note right behind it. Cut off at any moment,
   there is no store, or a complete one.
4. Snapshots are bounded in number and bytes (``prune``); the oldest go first.

Source: RocksDB wiki, «Checkpoints»: table files are linked on one file system, the MANIFEST and
CURRENT copied; the memtable is flushed first.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from streams.objects.objects import Check
from streams.worker.notes import Held, Note
from streams.worker.snapshot_manifest import File, Manifest, Standing, Unusable, pack, unpack
from streams.worker.store import SNAPSHOTS, Store

INCOMING = ".incoming"
"""In the name of a store that is not complete yet."""
MANIFEST = ".json"
_PIECE_BYTES = 1 << 20
_TABLE = ".sst"

Identity = tuple[int, int, int, int]
"""Of a file that nobody changes: device, inode, bytes, time of its last change."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Snapshots on a disk, and the bytes that nothing else on it shares."""

    count: int
    bytes: int


class SnapshotFolder:
    """The snapshots in a worker's state directory.

    Args:
        directory: the state directory; stores are in it, snapshots in a folder of it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / SNAPSHOTS

    # --- making

    def link(self, store: Store, name: str, standing: Standing) -> Manifest:
        """Makes the folder of a snapshot; it does not count before ``seal``.

        The caller lets nobody write to the store meanwhile. It takes a flush of the memtable.

        Args:
            name: of the snapshot, from ``name_at``.

        Returns:
            Its manifest, without files.

        Raises:
            OSError: the folder can't be made.
            Exception: RocksDB's own, a bare one.
        """
        folder = self._folder(store.path.name, name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        held = store.link_to(folder)
        return Manifest(store.path.name, name, time.time(), held.store, held.number, standing, {})

    def seal(self, manifest: Manifest) -> Manifest:
        """Reads the files of a snapshot, notes their checksums, and makes it count.

        Raises:
            OSError: it can't be read or written.
        """
        folder = self._folder(manifest.store, manifest.name)
        known = self._known(manifest.store)
        files = {path.name: _summed(path, known) for path in sorted(folder.iterdir())}
        whole = replace(manifest, files=files)
        synced(folder)
        write_whole(self._manifest(whole.store, whole.name), pack(whole))
        return whole

    def _known(self, store: str) -> dict[Identity, str]:
        """Table files of the newest snapshot and their checksums: most are in the next one too."""
        newest = next(self.of(store), None)
        if newest is None:
            return {}
        tables = ((self.path_of(newest, name), file) for name, file in newest.files.items())
        found = ((_identity(path), file.sha256) for path, file in tables if path.suffix == _TABLE)
        return {identity: checksum for identity, checksum in found if identity is not None}

    # --- looking

    def of(self, store: str) -> Iterator[Manifest]:
        """The snapshots of a store, newest first; those whose manifest can't be read are left
        out."""
        for path in sorted((self._path / store).glob(f"*{MANIFEST}"), reverse=True):
            with suppress(Unusable, OSError):
                yield unpack(path.read_bytes())

    def listed(self, store: str) -> list[str]:
        """Names of a store's snapshots, newest first, whether or not they can be read."""
        paths = (self._path / store).glob(f"*{MANIFEST}")
        return sorted((path.name.removesuffix(MANIFEST) for path in paths), reverse=True)

    def manifest(self, store: str, name: str) -> Manifest:
        """The manifest of a snapshot.

        Raises:
            Unusable: it can't be read.
        """
        try:
            return unpack(self._manifest(store, name).read_bytes())
        except OSError as error:
            raise Unusable(f"its manifest can't be read: {error.strerror}") from error

    def path_of(self, manifest: Manifest, file: str) -> Path:
        """Where a file of a snapshot is."""
        return self._folder(manifest.store, manifest.name) / file

    # --- putting in place

    def install(self, manifest: Manifest, check: Check = lambda: None) -> None:
        """Puts a snapshot in the place of its store, which is not there.

        Raises:
            Unusable: it is damaged.
            OSError: the disk can't hold it.
        """
        source = self._folder(manifest.store, manifest.name)
        with self.incoming(manifest.store) as folder:
            for name, file in manifest.files.items():
                check()
                _taken(source / name, folder / name, file, check)
            self.put_in_place(manifest, folder)

    def incoming(self, store: str) -> "Incoming":
        """An empty folder for the files of a store; removed at the end of the block."""
        return Incoming(self._directory / f"{store}{INCOMING}")

    def put_in_place(self, manifest: Manifest, folder: Path) -> None:
        """Makes a folder with all files of a snapshot the store (invariant 3)."""
        synced(folder)
        folder.rename(self._directory / manifest.store)
        note = Note(self._directory / f"{manifest.store}.note")
        note.write(Held(manifest.store_id, manifest.number, manifest.standing.reached - 1))
        note.close()

    # --- bounds

    def clean(self) -> None:
        """Deletes what a process that was killed has left."""
        for path in self._directory.glob(f"*{INCOMING}"):
            shutil.rmtree(path, ignore_errors=True)
        for folder in self._folders():
            if not self._manifest(folder.parent.name, folder.name).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def stores(self) -> list[str]:
        """Names of the stores that there are snapshots of."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._path.iterdir() if path.is_dir())
        return []

    def prune(self, most: int, bytes_max: int) -> Extent:
        """Deletes the oldest snapshots: those beyond ``most`` of a store, and then as many as take
        more than ``bytes_max`` of the disk by themselves; returns what is left."""
        for store in self.stores():
            for name in self.listed(store)[most:]:
                self.delete(store, name)
        while (extent := self.extent()).bytes > bytes_max and extent.count:
            oldest = min((name, store) for store in self.stores() for name in self.listed(store))
            self.delete(oldest[1], oldest[0])
        return extent

    def keep(self, newest: Manifest, most: int) -> None:
        """Deletes the store's snapshots but the ``most`` newest that are worth keeping beside
        ``newest`` (``is_worth_keeping``)."""
        kept = 0
        for name in self.listed(newest.store):
            try:
                is_kept = kept < most and is_worth_keeping(
                    self.manifest(newest.store, name), newest
                )
            except Unusable:
                is_kept = False
            kept += is_kept
            if not is_kept:
                self.delete(newest.store, name)

    def delete(self, store: str, name: str) -> None:
        """Deletes a snapshot; first its manifest, so that it no longer counts."""
        self._manifest(store, name).unlink(missing_ok=True)
        shutil.rmtree(self._folder(store, name), ignore_errors=True)
        with suppress(OSError):
            (self._path / store).rmdir()  # of the last one

    def extent(self) -> Extent:
        """How many snapshots there are, and the bytes that only they hold."""
        count = sum(len(self.listed(store)) for store in self.stores())
        sizes = dict(_inodes(path for folder in self._folders() for path in _files(folder)))
        live = (path for path in self._directory.iterdir() if path.name != SNAPSHOTS)
        for inode, _ in _inodes(path for folder in live for path in _files(folder)):
            sizes.pop(inode, None)
        return Extent(count, sum(sizes.values()))

    def _folders(self) -> list[Path]:
        return [path for path in self._path.glob("*/*") if path.is_dir()]

    def _folder(self, store: str, name: str) -> Path:
        return self._path / store / name

    def _manifest(self, store: str, name: str) -> Path:
        return self._path / store / f"{name}{MANIFEST}"


class Incoming:
    """A folder that is there for the length of a ``with``, unless it was renamed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def is_worth_keeping(manifest: Manifest, newest: Manifest) -> bool:
    """Whether an earlier snapshot may be kept beside the newest one: it has forgotten whom that has
    forgotten, and no clock that was ahead has named it later."""
    has_forgotten = manifest.standing.erased_through >= newest.standing.erased_through
    return has_forgotten and manifest.name <= newest.name


def name_at(seconds: float) -> str:
    """The name of a snapshot of that time, such as ``20261128T134501.123Z``."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    return f"{stamp}.{int(seconds % 1 * 1000):03}Z"


def sum_of(path: Path, check: Check = lambda: None) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
            digest.update(piece)
            check()
    return digest.hexdigest()


def _identity(path: Path) -> Identity | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _summed(path: Path, known: Mapping[Identity, str]) -> File:
    """A file with its checksum, which is known of a table file that is in an earlier snapshot."""
    identity = _identity(path)
    found = known.get(identity) if identity is not None else None
    return File(path.stat().st_size, found or sum_of(path))


def verified(path: Path, file: File, check: Check = lambda: None) -> None:
    """Reads a file back.

    Raises:
        Unusable: it is not what the manifest says.
    """
    try:
        size = path.stat().st_size
        found = sum_of(path, check) if size == file.bytes else ""
    except OSError as error:
        raise Unusable(f"{path.name}: {error.strerror}") from error
    if size != file.bytes:
        raise Unusable(f"{path.name} has {size} bytes instead of {file.bytes}")
    if found != file.sha256:
        raise Unusable(f"{path.name} is damaged: its checksum differs")


def _taken(source: Path, target: Path, file: File, check: Check) -> None:
    """A verified link to a table file, which RocksDB never changes; a copy of any other file."""
    if not source.is_file():
        raise Unusable(f"{source.name} is gone")
    if source.suffix == _TABLE:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
    if not target.exists():
        shutil.copyfile(source, target)
    verified(target, file, check)


def synced(folder: Path) -> None:
    """Brings a folder and its files to the disk."""
    for path in (*_files(folder), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there when it is complete, on the disk too."""
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _inodes(paths: Iterable[Path]) -> Iterator[tuple[tuple[int, int], int]]:
    """Device and inode of files, and their bytes; what goes meanwhile is left out."""
    for path in paths:
        with suppress(OSError):
            about = path.stat()
            yield (about.st_dev, about.st_ino), about.st_size
