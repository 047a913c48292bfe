"""Sets damaged stores aside: they are renamed, and a few are kept for inspection.

Invariants:
1. Only stores that were set aside are removed: the oldest beyond ``DAMAGED_KEPT_MAX``, or all when
   the disk has no room to rebuild a store beside them.
2. A store is renamed before its note is removed: a note without its store means that the store was
   lost.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

DAMAGED_KEPT_MAX = 2
"""Stores set aside that are kept in one directory."""
MARK = ".damaged-"
"""In the name of everything set aside, before the time."""


class SetAside(NamedTuple):
    """A store that was set aside.

    Attributes:
        path: where it is now.
        bytes: its size on disk; 0 when nothing was left.
        is_kept: ``False`` if it was removed because the disk has less free space than it took.
    """

    path: Path
    bytes: int
    is_kept: bool


def set_aside(store: Path, note: Path, stamp: str) -> SetAside:
    """Renames a store that nobody has open, and removes its note.

    Args:
        stamp: the time, such as ``20261126T173012Z``; the one that sorts last is the newest.

    Raises:
        OSError: it can't be renamed.
    """
    kept = store.with_name(f"{store.name}{MARK}{stamp}")
    if os.path.lexists(store):
        store.rename(kept)
    if note.is_dir():
        note.rename(note.with_name(f"{note.name}{MARK}{stamp}"))
    else:
        note.unlink(missing_ok=True)
    size = bytes_in(kept)
    has_room = shutil.disk_usage(store.parent).free >= size
    _keep(store.parent, DAMAGED_KEPT_MAX if has_room else 0)
    return SetAside(kept, size, has_room)


def _keep(folder: Path, most: int) -> None:
    """Removes all but the ``most`` newest of what was set aside."""
    damaged = [entry for entry in folder.iterdir() if MARK in entry.name]
    damaged.sort(key=lambda entry: entry.name.partition(MARK)[2])
    for entry in damaged[: len(damaged) - most]:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def bytes_in(path: Path) -> int:
    """Bytes on disk of a file, or of everything in a directory."""
    total = 0
    for each in (path, *path.rglob("*")):
        with suppress(OSError):
            total += each.lstat().st_blocks * 512
    return total
