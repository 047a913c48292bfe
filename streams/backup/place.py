"""Where backups are kept: objects by their content, and a manifest for each backup.

``objects/ab/abcd…`` are named by their SHA-256, so what two backups share is stored once;
``backups/NAME.json`` are the manifests.

Invariants:
1. A manifest is written after all of its objects, and deleted before any of them.
2. What was written is read back before it counts. What an earlier backup has written is read again
   only on request (``verify``): it was read once, and reading all of it takes as long as a restore.
3. An object is relied on by its name. One that ``verify`` finds damaged can be deleted by it, so
   that the next backup stores it again.

Methods block. Each raises ``Unavailable`` when the place does not answer.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from schemas.errors import Unavailable
from streams.backup.manifest import Manifest, Stored, Unusable, is_name, pack, unpack
from streams.objects.objects import Check, Missing, Objects
from streams.worker.snapshots import sum_of

Answer = TypeVar("Answer")

TRANSFERS = 4
"""Objects that are transferred at once: one connection alone does not fill a network."""
_MANIFESTS, _OBJECTS, _SUFFIX = "backups", "objects", ".json"

Told = Callable[[int, int], None]
"""Called with how many objects, or bytes, of how many are done."""


class BackupPlace:
    """The backups at one place.

    Args:
        objects: a folder or an object store.
    """

    def __init__(self, objects: Objects) -> None:
        self.name = objects.name
        self._objects = objects
        self._there: set[str] | None = None
        self._lock = Lock()
        self.new_bytes = self.kept_bytes = 0
        """Written by this process, and found there instead."""

    # --- manifests

    def listed(self) -> list[str]:
        """Names of the backups, newest first."""
        keys = self._objects.keys(_MANIFESTS)
        names = (key.rpartition("/")[2].removesuffix(_SUFFIX) for key in keys)
        return sorted(filter(is_name, names), reverse=True)

    def manifest(self, name: str) -> Manifest:
        """The manifest of a backup.

        Raises:
            Unusable: it can't be read, or is not there.
        """
        try:
            found = unpack(self._objects.read(f"{_MANIFESTS}/{name}{_SUFFIX}"))
        except Missing:
            raise Unusable(f"{self.name} has no backup {name}") from None
        except Unusable as error:
            raise Unusable(f"backup {name}: {error}") from None
        if found.name != name:
            raise Unusable(f"backup {name}: its manifest is that of another one")
        return found

    def newest(self) -> Manifest | None:
        """The newest manifest that can be read."""
        for name in self.listed():
            try:
                return self.manifest(name)
            except Unusable:
                continue
        return None

    def write(self, manifest: Manifest) -> None:
        """Makes a backup count (invariant 1)."""
        text = pack(manifest)
        key = f"{_MANIFESTS}/{manifest.name}{_SUFFIX}"
        self._objects.write(key, text)
        if self._objects.read(key) != text:
            raise Unavailable(f"{self.name}: {key} was not stored as it was written")

    # --- objects

    def put_bytes(self, data: bytes) -> Stored:
        """Stores bytes, unless they are there, and reads them back."""
        stored = Stored(len(data), hashlib.sha256(data).hexdigest())
        if self._is_new(stored):
            self._objects.write(_key(stored), data)
            self._read_back(stored)
        return stored

    def put_file(self, path: Path) -> Stored:
        """Stores a file, unless its content is there, and reads it back.

        Raises:
            OSError: it can't be read.
        """
        stored = Stored(path.stat().st_size, sum_of(path))
        if self._is_new(stored):
            self._objects.put(_key(stored), path)
            self._read_back(stored)
        return stored

    def has(self, stored: Stored) -> bool:
        """Whether there is an object of this name."""
        with self._lock:
            return _key(stored) in self._known()

    def _known(self) -> set[str]:
        if self._there is None:
            self._there = set(self._objects.keys(_OBJECTS))
        return self._there

    def _is_new(self, stored: Stored) -> bool:
        """Whether the caller has to store it: of equal files that are stored at once, one."""
        with self._lock:
            if _key(stored) in self._known():
                self.kept_bytes += stored.bytes
                return False
            self._known().add(_key(stored))
            self.new_bytes += stored.bytes
            return True

    def _read_back(self, stored: Stored) -> None:
        with tempfile.TemporaryDirectory(prefix="mailpulse-backup-") as folder:
            try:
                self.fetch(stored, Path(folder, "object"))
            except Unusable as error:
                raise Unavailable(f"{self.name}: {error}: it was not stored as written") from None

    def read(self, stored: Stored) -> bytes:
        """The bytes of a small object.

        Raises:
            Unusable: it is gone or damaged.
        """
        try:
            data = self._objects.read(_key(stored))
        except Missing:
            raise Unusable(f"object {stored.sha256} is gone") from None
        if Stored(len(data), hashlib.sha256(data).hexdigest()) != stored:
            raise Unusable(f"object {stored.sha256} is damaged")
        return data

    def fetch(self, stored: Stored, target: Path, check: Check = lambda: None) -> None:
        """Copies an object to a path.

        Raises:
            Unusable: it is gone or damaged.
            OSError: the disk can't hold it.
        """
        try:
            self._objects.fetch(_key(stored), target, check)
        except Missing:
            raise Unusable(f"object {stored.sha256} is gone") from None
        if Stored(target.stat().st_size, sum_of(target)) != stored:
            raise Unusable(f"object {stored.sha256} is damaged")

    def verify(self, manifest: Manifest, told: Told, *, delete: bool = False) -> None:
        """Reads every object of a backup.

        Args:
            delete: those that are damaged.

        Raises:
            Unusable: names every object that is gone or damaged, with what it holds.
        """
        wanted = {stored: what for what, stored in manifest.objects()}
        total = sum(stored.bytes for stored in wanted)
        done, wrong = 0, []
        with (
            tempfile.TemporaryDirectory(prefix="mailpulse-backup-") as folder,
            ThreadPoolExecutor(TRANSFERS) as executor,
        ):
            jobs = {
                stored: executor.submit(self._looked_at, stored, Path(folder, stored.sha256))
                for stored in wanted
            }
            for stored, job in jobs.items():
                if problem := job.result():
                    if delete:
                        self._objects.delete(_key(stored))
                    wrong.append(f"{wanted[stored]}: {problem}")
                done += stored.bytes
                told(done, total)
        if wrong:
            raise Unusable("\n".join([f"backup {manifest.name} is damaged:", *wrong]))

    def _looked_at(self, stored: Stored, target: Path) -> str:
        try:
            self.fetch(stored, target)
        except Unusable as error:
            return str(error)
        finally:
            target.unlink(missing_ok=True)
        return ""

    def put_folder(self, folder: Path, told: Told) -> dict[str, Stored]:
        """Stores every file of a folder; returns them by their path in it.

        Raises:
            OSError: one can't be read.
        """
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        stored = self._each([partial(self.put_file, path) for path in paths], told)
        return dict(zip(names, stored, strict=True))

    def fetch_folder(self, files: Mapping[str, Stored], folder: Path, told: Told) -> None:
        """Copies objects to the paths of a folder that they were stored from.

        Raises:
            Unusable: one is gone or damaged, or its path leads out of the folder.
            OSError: the disk can't hold them.
        """
        jobs = []
        for name, stored in files.items():
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise Unusable(f"{name!r} can't be the path of a file")
            target.parent.mkdir(parents=True, exist_ok=True)
            jobs.append(partial(self._fetched, name, stored, target))
        self._each(jobs, told)

    def _fetched(self, name: str, stored: Stored, target: Path) -> None:
        try:
            self.fetch(stored, target)
        except Unusable as error:
            raise Unusable(f"{name}: {error}") from None

    @staticmethod
    def _each(jobs: Sequence[Callable[[], Answer]], told: Told) -> list[Answer]:
        """Does all, some at once; the first failure is raised, and nothing more is begun."""
        out = []
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="backup") as executor:
            waiting = [executor.submit(job) for job in jobs]
            try:
                for number, one in enumerate(waiting, 1):
                    out.append(one.result())
                    told(number, len(waiting))
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        return out

    # --- bounds

    def prune(self, keep: int) -> tuple[int, int]:
        """Deletes all but the newest backups, and the objects that only those had.

        What an interrupted backup left is in no manifest, and stays: the next one may use it.

        Returns:
            How many backups were deleted, and how many objects.

        Raises:
            Unusable: one that is kept can't be read, so what it needs is not known; nothing was
                deleted.
        """
        names = self.listed()
        old, kept = names[keep:], names[:keep]
        needed = {stored for name in kept for _, stored in self.manifest(name).objects()}
        gone: set[Stored] = set()
        for name in old:
            gone |= set(_objects_of(self, name))
            self._objects.delete(f"{_MANIFESTS}/{name}{_SUFFIX}")
        for stored in gone - needed:
            self._objects.delete(_key(stored))
        return len(old), len(gone - needed)


def _objects_of(place: BackupPlace, name: str) -> Iterable[Stored]:
    """Of a manifest that can't be read nothing is known, and nothing of it is deleted."""
    try:
        return [stored for _, stored in place.manifest(name).objects()]
    except Unusable:
        return []


def _key(stored: Stored) -> str:
    return f"{_OBJECTS}/{stored.sha256[:2]}/{stored.sha256}"
