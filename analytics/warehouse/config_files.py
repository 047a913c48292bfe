"""The engine's configuration, written for each start."""

import shutil
from pathlib import Path

from analytics.warehouse.access import config_xml, users_xml


def temporary_of(folder: Path) -> Path:
    """Where the engine keeps what does not outlive it."""
    return folder / "tmp"


def backups_of(folder: Path) -> Path:
    """Where the engine writes a backup, and finds one to restore; only while that goes on."""
    return folder / "backups"


def configured(folder: Path, database: str, memory_bytes_max: int) -> Path:
    """Writes the configuration into ``folder``, empties what was temporary in it.

    Args:
        folder: of the configuration; made if it is missing. No engine runs on it.
        database: see ``users_xml``.
        memory_bytes_max: see ``config_xml``.

    Returns:
        The path of the main file.

    Raises:
        OSError: it can't be written.
    """
    nothing, temporary, backups = folder / "nothing", temporary_of(folder), backups_of(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    for directory in (nothing, temporary, backups):
        directory.mkdir(parents=True, exist_ok=True)
    users, config = folder / "users.xml", folder / "config.xml"
    users.write_text(users_xml(database), encoding="utf-8")
    text = config_xml(
        str(users), str(nothing), str(temporary), str(backups), memory_bytes_max
    )  # fmt: skip
    config.write_text(text, encoding="utf-8")
    return config
