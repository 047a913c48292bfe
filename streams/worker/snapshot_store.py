"""Snapshots in a store beside the workers' disks, for a worker that has lost its own.

Under ``GROUP/STORE/`` there are the files of all snapshots, named by their SHA-256, and a manifest
for each snapshot. So a file that two snapshots share is uploaded once.

Invariants:
1. A manifest is written after its files, and deleted before them.
2. What is downloaded is verified before it counts as state.
3. A worker writes for the partitions that it owns. One that has lost a partition without noticing
   may delete files that the next owner's snapshot needs; that snapshot is then refused, and an
   earlier one or the long way is taken.

Methods block. Each raises ``Unavailable`` when the store does not answer.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from streams.objects.objects import Check, Missing, Objects
from streams.worker.snapshot_manifest import File, Manifest, Unusable, pack, unpack
from streams.worker.snapshots import MANIFEST, SnapshotFolder, is_worth_keeping, verified

TRANSFERS = 4
"""Files that are transferred at once: one connection alone does not fill a network."""


class SnapshotStore:
    """The snapshots of a consumer group in a store.

    Args:
        group: of the workers.
    """

    def __init__(self, objects: Objects, group: str) -> None:
        self.name = objects.name
        self._objects = objects
        self._group = group

    def listed(self, store: str) -> list[str]:
        """Names of a store's snapshots, newest first."""
        return sorted(_snapshots(self._objects.keys(self._under(store))), reverse=True)

    def manifest(self, store: str, name: str) -> Manifest:
        """The manifest of a snapshot.

        Raises:
            Unusable: it can't be read.
        """
        try:
            return unpack(self._objects.read(self._manifest(store, name)))
        except Missing:
            raise Unusable("its manifest is gone") from None

    def upload(self, manifest: Manifest, folder: SnapshotFolder) -> int:
        """Copies a snapshot that a worker has on its disk; returns how many bytes were new.

        Raises:
            OSError: it can't be read.
        """
        there = set(self._objects.keys(self._under(manifest.store)))
        new = {
            self._file(manifest.store, file): (name, file)
            for name, file in manifest.files.items()
            if self._file(manifest.store, file) not in there
        }
        self._all(
            partial(self._objects.put, key, folder.path_of(manifest, name))
            for key, (name, _) in new.items()
        )
        self._objects.write(self._manifest(manifest.store, manifest.name), pack(manifest))
        return sum(file.bytes for _, file in new.values())

    def install(self, manifest: Manifest, folder: SnapshotFolder, check: Check) -> None:
        """Downloads a snapshot into the place of its store, which is not there.

        Raises:
            Unusable: it is damaged, or files of it are gone.
            OSError: the disk can't hold it.
        """
        with folder.incoming(manifest.store) as incoming:
            self._all(
                partial(self._fetched, manifest.store, file, incoming / name, check)
                for name, file in manifest.files.items()
            )
            folder.put_in_place(manifest, incoming)

    def _fetched(self, store: str, file: File, target: Path, check: Check) -> None:
        try:
            self._objects.fetch(self._file(store, file), target, check)
        except Missing:
            raise Unusable(f"{target.name} is gone from {self.name}") from None
        verified(target, file, check)

    def prune(self, store: str, newest: Manifest, most: int) -> None:
        """Deletes a store's snapshots but the ``most`` newest that are worth keeping beside
        ``newest``, and files of none of them.

        Not worth keeping is what a clock that was ahead has named later, what has not forgotten
        whom ``newest`` has, and what can't be read.
        """
        keys = self._objects.keys(self._under(store))
        needed: set[str] = set()
        for name in sorted(_snapshots(keys), reverse=True):
            manifest = self._worth_keeping(store, name, newest) if most else None
            if manifest is None:
                self._objects.delete(self._manifest(store, name))
                continue
            most -= 1
            needed |= {self._file(store, file) for file in manifest.files.values()}
        for key in keys:
            if not key.endswith(MANIFEST) and key not in needed:
                self._objects.delete(key)

    def _worth_keeping(self, store: str, name: str, newest: Manifest) -> Manifest | None:
        try:
            manifest = self.manifest(store, name)
        except Unusable:
            return None
        return manifest if is_worth_keeping(manifest, newest) else None

    @staticmethod
    def _all(jobs: Iterable[partial[None]]) -> None:
        """Does all, some at once; the first failure is raised, and nothing more is begun."""
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="snapshots") as executor:
            waiting = [executor.submit(job) for job in jobs]
            try:
                for one in waiting:
                    one.result()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    def _under(self, store: str) -> str:
        return f"{self._group}/{store}"

    def _manifest(self, store: str, name: str) -> str:
        return f"{self._under(store)}/{name}{MANIFEST}"

    def _file(self, store: str, file: File) -> str:
        return f"{self._under(store)}/files/{file.sha256}"


def _snapshots(keys: Iterable[str]) -> list[str]:
    last = (key.rpartition("/")[2] for key in keys)
    return [name.removesuffix(MANIFEST) for name in last if name.endswith(MANIFEST)]
