"""The file with a backfill's progress: ``data_dir/backfill/SOURCE.json``.

A file, not a record in Kafka: one process writes it, and only the same command reads it. If it is
lost, or the command goes on elsewhere, pages are read again and their events are duplicates.

Invariants:
1. Written whole or not at all, also over a power cut.
2. One process at a time has a source's file.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import BadInput, ConfigError
from streams.books.pull import Progress

FOLDER = "backfill"


class Notes:
    """The progress of one source's backfill."""

    def __init__(self, data_dir: Path, source: str) -> None:
        self._folder = data_dir / FOLDER
        self._path = self._folder / f"{source}.json"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keeps other processes out for as long as the block runs.

        Raises:
            BadInput: ``running``: another one backfills this source.
            ConfigError: the folder can't be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = self._path.with_suffix(".lock").open("a")
        except OSError as error:
            raise ConfigError([f"MAILPULSE_DATA_DIR: {self._folder}: {error.strerror}"]) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BadInput("running", "another process backfills this source") from None
            yield

    def read(self) -> Progress | None:
        """The progress of a backfill that did not end; ``None``: there is none.

        Raises:
            BadInput: the file can't be read; ``--anew`` begins without it.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("no_progress", f"{self._path}: {error}; --anew begins anew") from None
        try:
            return Progress.from_json(text)
        except BadInput as error:
            raise BadInput(
                error.reason, f"{self._path}: {error.detail}; --anew begins anew"
            ) from None

    def write(self, progress: Progress) -> None:
        """Replaces the file (invariant 1).

        Raises:
            BadInput: ``not_writable``; the file is as it was.
        """
        unfinished = self._path.with_suffix(".part")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(progress.to_json())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
            self._sync_folder()
        except OSError as error:
            raise BadInput(
                "not_writable", f"{self._path}: {error.strerror}: the progress can't be saved"
            ) from None

    def remove(self) -> None:
        """Removes the file: the backfill ended. One that stays costs pages that are read again."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
