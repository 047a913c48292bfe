"""Writes the records of a capture into a folder, and reads them again.

Request N is ``000N.KIND``, the body, beside ``000N.request.json``, all else: method, query,
headers, how it was answered, its proof, and a source with temporary keys.

Invariants:
1. A request is written whole or not at all: the document comes last, and is renamed into place.
2. Never more than ``bytes_max``; what is over it is not begun.
3. Only new files are written, readable by this user alone: in a folder that others may write to,
   no file is replaced and no link is followed.
"""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import orjson

from ingest.capture_keys import Keys
from ingest.capture_record import Record, read
from ingest.providers.base import Request
from schemas.errors import BadInput

DOCUMENT = ".request.json"


class Full(Exception):
    """The next record would be over the limit of bytes."""


class Files:
    """The folder of one capture; made with the first record.

    Args:
        folder: new, or empty.
        bytes_max: of all files.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder = folder
        self._left = bytes_max
        self.written = 0

    def write(self, record: Record) -> Path:
        """Writes a record; returns the path of its document.

        Raises:
            Full: it is over the limit.
            OSError: the disk is full, or the folder can't be written.
        """
        name = f"{self.written + 1:04d}"
        document = json.dumps({"body": f"{name}.{record.kind}", **record.document}, indent=1)
        content = document.encode() + b"\n"
        if len(content) + len(record.body) > self._left:
            raise Full
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        body, path = self.folder / f"{name}.{record.kind}", self.folder / f"{name}{DOCUMENT}"
        unfinished = self.folder / f".{name}.part"
        made: list[Path] = []
        try:
            for one, written in ((body, record.body), (unfinished, content)):
                with open(one, "xb", opener=_private) as file:
                    made.append(one)
                    file.write(written)
            _publish(unfinished, path)
        except OSError:
            for one in made:
                with contextlib.suppress(OSError):
                    one.unlink(missing_ok=True)
            raise
        self._left -= len(content) + len(record.body)
        self.written += 1
        return path


def _publish(unfinished: Path, path: Path) -> None:
    """Gives a written file its name, in one step that replaces nothing.

    A second name is refused where there is such a file; to look first and rename then would replace
    what others wrote in between. File systems without second names have only that.
    """
    try:
        os.link(unfinished, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "a file of another capture is there") from None
        os.replace(unfinished, path)
    else:
        unfinished.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def load(path: Path) -> tuple[Request, Keys, float, dict[str, Any]]:
    """A written request, its temporary keys, when it came (seconds since 1970), its document.

    Raises:
        BadInput: ``not_readable``, or ``no_capture``.
    """
    try:
        document = orjson.loads(path.read_bytes())
        body = (path.parent / Path(str(document["body"])).name).read_bytes()
    except OSError as error:
        raise BadInput("not_readable", f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise BadInput("no_capture", f"{path} is not written by mailpulse capture") from None
    return *read(document, body), document
