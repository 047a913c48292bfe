"""How far an import is: a file, and the folder of its sorted records.

Invariants:
1. The file is written whole or not at all, also over a power cut.
2. One process at a time imports.
3. What an import will write is fixed once its records are sorted: name of its log, its time in
   Kafka, and where its records begin on the topic of history. A run that goes on writes the same.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from schemas.errors import BadInput, ConfigError

FOLDER = "import"
_NOTE = "progress.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """An import whose records are sorted.

    Attributes:
        given: the command's words that it was begun with.
        log_id: of its log.
        stamp_ms: time of its records in Kafka, milliseconds since 1970.
        cut_us: all its events are earlier, microseconds since 1970.
        records: sorted, of each partition.
        begins: offset of its first record, by partition of the topic of history.
        counts: for the last word: figures by name.
        done: partitions whose records and counts are written.
        duplicates, refused, written, minutes: sums over those.
        suppressed: standing suppressions of those, if a list was asked for.
    """

    given: tuple[str, ...]
    log_id: str
    stamp_ms: int
    cut_us: int
    records: tuple[int, ...]
    begins: tuple[int, ...]
    counts: dict[str, int]
    done: tuple[int, ...] = ()
    duplicates: int = 0
    refused: int = 0
    written: int = 0
    minutes: int = 0
    suppressed: list[dict[str, object]] = field(default_factory=list)

    def after(self, partition: int, **sums: int) -> "Progress":
        """The progress once a partition is written."""
        added = {name: getattr(self, name) + value for name, value in sums.items()}
        return replace(self, done=(*self.done, partition), **added)


class Notes:
    """The folder of the import that is under way."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self._path = self.folder / _NOTE

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keeps other processes out for as long as the block runs.

        Raises:
            BadInput: ``running``: another process imports.
            ConfigError: the folder can't be used.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = (self.folder / "lock").open("a")
        except OSError as error:
            raise ConfigError([f"MAILPULSE_DATA_DIR: {self.folder}: {error.strerror}"]) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BadInput("running", "another process imports history") from None
            yield

    def read(self) -> Progress | None:
        """The import that did not end; ``None``: there is none whose records are sorted.

        Raises:
            BadInput: the file can't be read. Without it nobody knows what was written.
        """
        try:
            found = json.loads(self._path.read_bytes())
            for name in ("given", "records", "begins", "done"):
                found[name] = tuple(found[name])
            return Progress(**found)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInput("no_progress", f"{self._path}: {error}") from None

    def write(self, progress: Progress) -> None:
        """Replaces the file (invariant 1)."""
        unfinished = self._path.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(asdict(progress), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        self._sync_folder()

    def clear(self) -> None:
        """Removes everything: the import ended, or begins anew."""
        self._path.unlink(missing_ok=True)
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink(missing_ok=True)

    def sorted_path(self, partition: int) -> Path:
        """Where the sorted records of a partition are."""
        return self.folder / f"partition-{partition}"

    def sync(self, path: Path) -> None:
        """Returns when a file is on the disk."""
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
