"""Days that a command noted of things, by name, in a file of the data directory."""

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from ingest.published import confirmed
from streams.cli.whole_files import whole_file


def noted_days(path: Path) -> dict[str, date]:
    """The days by name; none if the file can't be read."""
    try:
        return confirmed(path.read_bytes())
    except OSError:
        return {}


def note_days(path: Path, names: Iterable[str], today: date) -> None:
    """Notes today of these names; others keep their day.

    Raises:
        BadInput: ``not_writable``.
    """
    days = {**noted_days(path), **dict.fromkeys(names, today)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({name: day.isoformat() for name, day in sorted(days.items())})
    with whole_file(path) as file:
        file.write(f"{content}\n".encode())
