"""Damages the files of a store, as disks and people do."""

import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from streams.worker.store import Store

_BUSY = (
    "rocksdb.mem-table-flush-pending", "rocksdb.num-running-flushes",
    "rocksdb.compaction-pending", "rocksdb.num-running-compactions",
)  # fmt: skip


def killed(stores: Iterable[Store], folder: Path, into: Path) -> None:
    """Copies the folder of open stores as ``kill -9`` of their process would leave it.

    Nothing is flushed or noted for it. RocksDB's background work is awaited, so that all files are
    of the same moment.
    """
    while True:
        shutil.rmtree(into, ignore_errors=True)
        if not any(store._db.property_int_value(name) for store in stores for name in _BUSY):
            with suppress(shutil.Error):  # old files go some time after a compaction
                shutil.copytree(folder, into)
                return
        time.sleep(0.01)


Damage = Callable[[Path], None]
"""Does something to a file that is there."""


def flipped(share: float) -> Damage:
    """Changes one byte, ``share`` of the way into the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[min(len(data) - 1, int(len(data) * share))] ^= 0x5A
            path.write_bytes(data)

    return damage


def cut(share: float) -> Damage:
    """Truncates the file to its first ``share``."""

    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return damage


def deleted(path: Path) -> None:
    """Deletes the file."""
    path.unlink()


def folder_instead(path: Path) -> None:
    """Replaces the file by a directory."""
    path.unlink()
    path.mkdir()


def older(before: Path) -> Damage:
    """Replaces the file by its older copy; deletes it if there is none."""

    def damage(path: Path) -> None:
        path.unlink()
        if (before / path.name).is_file():
            shutil.copy2(before / path.name, path)

    return damage


SHARES = (0.0, 0.3, 0.6, 0.9, 0.99)


def every_damage(before: Path) -> Iterator[tuple[str, Damage]]:
    """All kinds of damage to one file, by name."""
    for share in SHARES:
        yield f"flipped at {share}", flipped(share)
        yield f"cut at {share}", cut(share)
    yield "deleted", deleted
    yield "a folder", folder_instead
    yield "older", older(before)


def files_of(store: Path) -> list[Path]:
    """The files of a store, and its note."""
    inside = [path for path in store.rglob("*") if path.is_file()] if store.is_dir() else []
    note = store.with_name(f"{store.name}.note")
    return sorted(inside) + ([note] if note.is_file() else [])


def damage_something(dice: random.Random, store: Path, before: Path) -> str:
    """Damages the store at random; ``before`` is an older copy of it. Says what it did."""
    if not store.is_dir():
        return "nothing was there"
    kind = dice.randrange(12)
    if kind == 0:
        shutil.rmtree(store)
        return "the store deleted"
    if kind == 1:
        shutil.rmtree(store)
        store.write_bytes(b"no folder")
        return "a file where the store was"
    if kind == 2 and before.is_dir() and before != store:
        shutil.rmtree(store)
        shutil.copytree(before, store)
        return "the store as it was before"
    path = dice.choice([path for path in files_of(store) if path.name not in ("LOCK", "LOG")])
    name, damage = dice.choice(list(every_damage(before)))
    damage(path)
    return f"{path.name} {name}"
