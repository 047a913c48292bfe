"""Measures what an embedded pipeline's data directory takes on the disk."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.topics import RAW
from streams.embedded.disk_plan import Month, Segment, Use


def measured(data_dir: Path, months: Iterable[Month] = ()) -> Use:
    """What is in ``data_dir``; files with several names count once, holes of files not at all.

    A file that goes meanwhile does not count. Takes time: of the order of 10 µs a file.
    """
    return Use(sum(_sizes(data_dir)), tuple(_closed(data_dir)), tuple(months))


def _sizes(folder: Path) -> Iterator[int]:
    seen: set[tuple[int, int]] = set()
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(path, name))  # thousands of files
            except OSError:
                continue
            key = (found.st_dev, found.st_ino)
            if found.st_nlink == 1 or key not in seen:
                if found.st_nlink > 1:
                    seen.add(key)
                yield found.st_blocks * 512


def _closed(data_dir: Path) -> Iterator[Segment]:
    """Segments of the raw topic that get no more records: all but the newest of a partition."""
    for partition in sorted((data_dir / "kafka" / "data").glob(f"{RAW}-[0-9]*")):
        if not partition.name.removeprefix(f"{RAW}-").isdigit():
            continue  # such as …-delete, …-stray
        for path in sorted(partition.glob("*.log"))[:-1]:
            try:
                found = path.stat()
            except OSError:
                continue
            yield Segment(found.st_blocks * 512, found.st_mtime)
