"""The note that a restore leaves in the data directory for as long as it goes on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.errors import BadInput
from streams.worker.snapshots import write_whole


@dataclass(frozen=True, slots=True)
class Begun:
    """A restore that is under way, or was cut off."""

    source: str
    name: str


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
