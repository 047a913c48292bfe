"""What any place for files can do, and one that is a folder.

Invariants:
1. Keys are relative paths of plain names (``checked``): none leads out of the place.
2. A file is there whole or not at all: ``put`` and ``write`` replace it at once.
3. Whoever reads judges what is read: nothing here checks content.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from schemas.errors import ConfigError, MailpulseError, Unavailable

PIECE_BYTES = 1 << 20
PART = ".part"
"""At the end of the name of a file that is not whole yet."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

Check = Callable[[], None]
"""Called between pieces of long work; what it raises ends the work."""


class Missing(MailpulseError):
    """There is no file of this key."""


class Objects(Protocol):
    """Files by key. All methods block.

    Raises:
        Unavailable: the place does not answer, refuses, or is full; from every method.
        Missing: there is no such file; from ``read`` and ``fetch``.
    """

    @property
    def name(self) -> str:
        """The place, for people; without secrets."""

    def put(self, key: str, source: Path) -> None:
        """Stores a file."""

    def write(self, key: str, data: bytes) -> None:
        """Stores bytes."""

    def read(self, key: str) -> bytes:
        """The bytes of a small file."""

    def fetch(self, key: str, target: Path, check: Check) -> None:
        """Copies a file to a path on this machine."""

    def keys(self, under: str) -> list[str]:
        """Keys that begin with ``under`` and a slash, sorted."""

    def delete(self, key: str) -> None:
        """Deletes a file, if it is there."""


def checked(key: str) -> str:
    """A key that leads nowhere else.

    Raises:
        ValueError: it may.
    """
    if not all(_NAME.fullmatch(part) for part in key.split("/")):
        raise ValueError(f"{key!r} can't be a key")
    return key


class Folder:
    """A folder, on a disk of this machine or of the network.

    Args:
        path: made when something is stored first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """See ``Objects``."""
        return str(self._path)

    def put(self, key: str, source: Path) -> None:
        """See ``Objects``."""
        with self._whole(key) as unfinished:
            shutil.copyfile(source, unfinished)

    def write(self, key: str, data: bytes) -> None:
        """See ``Objects``."""
        with self._whole(key) as unfinished:
            unfinished.write_bytes(data)

    @contextmanager
    def _whole(self, key: str) -> Iterator[Path]:
        target = self._of(key)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}{PART}")
        with self._judged(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield unfinished
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)

    def read(self, key: str) -> bytes:
        """See ``Objects``."""
        with self._judged(key):
            return self._of(key).read_bytes()

    def fetch(self, key: str, target: Path, check: Check) -> None:
        """See ``Objects``."""
        with self._judged(key), self._of(key).open("rb") as source, target.open("wb") as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
                check()

    def keys(self, under: str) -> list[str]:
        """See ``Objects``."""
        with self._judged(under):
            found = [
                path.relative_to(self._path).as_posix()
                for path in self._of(under).rglob("*")
                if path.is_file() and not path.name.endswith(PART)
            ]
        return sorted(found)

    def delete(self, key: str) -> None:
        """See ``Objects``."""
        with self._judged(key):
            path = self._of(key)
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()  # of the last one

    def _of(self, key: str) -> Path:
        return self._path / checked(key)

    @contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Missing(f"{self.name}: {key} is not there") from error
        except OSError as error:
            raise Unavailable(f"{self.name}: {key}: {error.strerror}") from error


def objects_at(place: str, setting: str) -> Objects:
    """A place by its address: a path, ``file:///…``, or ``s3://bucket/prefix``.

    Args:
        setting: what named it, for errors.

    Raises:
        ConfigError: the address can't be used, or what it needs is not installed.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        return Folder(Path(place))
    if scheme == "file":
        return Folder(Path(rest))
    from streams.objects import cloud  # its library is an extra

    try:
        return cloud.Bucket(place)
    except ImportError:
        said = f"{setting}: {scheme}:// needs pip install 'mailpulse[s3]'"
        raise ConfigError([said]) from None
    except ValueError as error:
        raise ConfigError([f"{setting}: {error}"]) from None
