"""Notes in the data directory: a restore that goes on, and the backups that were made from here."""

import fcntl
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.errors import BadInput
from streams.worker.snapshots import write_whole


@dataclass(frozen=True, slots=True)
class Begun:
    """A restore that is under way, or was cut off.

    Attributes:
        source: place of the backup.
        name: of the backup.
        target: which stores it writes to: what is in others is not its own.
        kept: whether Kafka was kept.
    """

    source: str
    name: str
    target: str
    kept: bool


class Note:
    """The note.

    Args:
        data_dir: of the pipeline, or of the operator.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "restore.json"

    def read(self) -> Begun | None:
        """The restore that was begun; ``None``: there is none.

        Raises:
            BadInput: ``note``: it can't be read.
        """
        try:
            return Begun(**json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise BadInput("note", f"{self.path}: {error}") from None

    def write(self, begun: Begun) -> None:
        """A restore begins."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(asdict(begun)).encode())

    def end(self) -> None:
        """It is over."""
        self.path.unlink(missing_ok=True)


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """For one backup of a machine at a time: another would delete what ClickHouse writes.

    Raises:
        BadInput: ``under_way``: one goes on.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "backup.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput("under_way", f"another backup of {data_dir} goes on") from None
        yield


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made.

    Attributes:
        made_at: seconds since 1970.
    """

    place: str
    name: str
    made_at: float


class BackupsMade:
    """The note of all backups that were made from here and not deleted by ``--keep``.

    Args:
        data_dir: of the pipeline, or of the operator.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "backups.json"

    def read(self) -> list[Made]:
        """They, as far as the note can be read; others may have been made elsewhere."""
        try:
            return [Made(**one) for one in json.loads(self.path.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def add(self, made: Made, there: Collection[str]) -> None:
        """Notes a backup.

        Args:
            there: names of those that its place has now.
        """
        kept = [one for one in self.read() if one.place != made.place or one.name in there]
        every = [*(one for one in kept if one != made), made]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps([asdict(one) for one in every], indent=1).encode())
