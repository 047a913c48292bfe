"""The note of a disk budget, ``data_dir/disk.json``: what is remembered, and how it stands."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streams.embedded.disk_plan import Memory, Outlook

NOTE_FILE = "disk.json"


def keep(data_dir: Path, memory: Memory, outlook: Outlook) -> None:
    """Writes the note whole: a reader sees the earlier one or this."""
    note = {
        "memory": asdict(memory), "outlook": str(outlook), "used": outlook.used,
        "budget": outlook.budget, "short": outlook.short,
    }  # fmt: skip
    from streams.worker.snapshots import write_whole  # 'status' only reads

    write_whole(data_dir / NOTE_FILE, json.dumps(note).encode())


def forget(data_dir: Path) -> None:
    """Deletes the note: there is no budget any more."""
    (data_dir / NOTE_FILE).unlink(missing_ok=True)


def _read(data_dir: Path) -> Any:
    return json.loads((data_dir / NOTE_FILE).read_text(encoding="utf-8"))


def noted(data_dir: Path) -> dict[str, object] | None:
    """How the budget stood at the last look; ``None``: there is none.

    Keys: ``outlook`` (words), ``used``, ``budget``, ``short`` (bytes).
    """
    try:
        found = _read(data_dir)
        return {name: found[name] for name in ("outlook", "used", "budget", "short")}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remembered(data_dir: Path) -> Memory:
    """What was kept; nothing if the file is missing or damaged: then it is announced again."""
    try:
        kept = _read(data_dir)["memory"]
        return Memory(
            tuple((float(at), int(used)) for at, used in kept["samples"]),
            kept["announced_at"],
            kept["told_at"],
            tuple((float(at), str(what)) for at, what in kept["made"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return Memory()
