"""Damaged stores that are set aside: renamed, kept for whoever looks into them, few of them.

Invariants:
1. Nothing is removed but what was set aside before, and that only beyond ``DAMAGED_KEPT_MAX``, or
   when the disk has no room for building the store again beside it.
2. A store goes before its note: a note without its store says that the store is gone.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

DAMAGED_KEPT_MAX = 2
"""Stores that were set aside and are kept, in one directory."""
MARK = ".damaged-"
"""In the name of whatever was set aside, before the time."""


class SetAside(NamedTuple):
    """A store that was set aside.

    Attributes:
        path: where it lies now.
        bytes: of it on disk; 0 when nothing was left.
        is_kept: ``False``: removed, since the disk has less room than it took.
    """

    path: Path
    bytes: int
    is_kept: bool


def set_aside(store: Path, note: Path, stamp: str) -> SetAside:
    """Renames a store that nobody has open, and takes its note away.

    Args:
        stamp: of the time, such as ``20261126T173012Z``: what sorts last is newest.

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
    """Removes the oldest of what was set aside."""
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
