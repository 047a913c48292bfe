"""Partitions that Kafka set aside when it started: found, put back, told of.

A Kafka that finds a partition's directory and does not know the partition renames it to
``<topic>-<number>.<id>-stray``, goes on without it and never looks at it again. It takes what it
reads of its metadata for the truth, also when a full disk kept it from reading all of it. Clients
then find a topic without records, or none.

Invariants:
1. Nothing is removed, overwritten or merged. A directory gets its own name back, and Kafka judges
   it again at the next start.
2. What has no records is left alone: a process that is killed while topics are made leaves such
   directories, and Kafka makes them anew.

Source: ``LogManager.loadLog`` and ``isStrayKraftReplica``, ``UnifiedLog.logStrayDirName`` of Apache
Kafka 4.1.
"""

import os
import re
from pathlib import Path

_NAME = re.compile(r"(.+-\d+)\.[0-9a-f]{32}-stray")


def set_aside(data: Path) -> list[Path]:
    """Directories with records that Kafka set aside below its log directory ``data``, in order."""
    found = sorted(data.glob("*-stray"))
    return [path for path in found if _NAME.fullmatch(path.name) and _has_records(path)]


def put_back(data: Path) -> list[str]:
    """Gives them their names back while Kafka is stopped, unless the name is in use.

    Returns:
        The names: topic, dash, number.

    Raises:
        OSError: a directory can't be renamed.
    """
    names = []
    for path in set_aside(data):
        match = _NAME.fullmatch(path.name)
        assert match is not None
        own = data / match[1]
        if not own.exists():
            os.rename(path, own)
            names.append(own.name)
    return names


def problem_in(data: Path) -> str | None:
    """What an operator has to know of directories that are set aside; ``None``: there are none."""
    paths = set_aside(data)
    if not paths:
        return None
    names = ", ".join(sorted({path.name.rsplit(".", 1)[0] for path in paths}))
    return (
        f"Kafka does not find {names} in its metadata and set the records aside, as"
        f" {data}/…-stray; nothing of them is removed. Each start tries them once more. If that"
        " does not help, its metadata was damaged: bring back a copy of"
        f" {data.parent}, or choose another directory with --data-dir"
    )


def _has_records(path: Path) -> bool:
    return any(segment.stat().st_size for segment in path.glob("*.log"))
