"""Reads the files of an import: bodies and rows, each with its place.

Invariants:
1. Memory is bounded: by one body (``BODY_BYTES_MAX``) or row, whatever the files' sizes.
2. What can't be read is told with its place, and the rest is read.
3. Files of a folder are read in the order of their names. Nothing is unpacked to the disk, and no
   link of an archive is followed.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from schemas.errors import BadInput
from streams.history import tables

BODY_BYTES_MAX = 16 << 20
"""Of one body: a file, a line, or a member of an archive; bytes."""
LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")
ARCHIVES = (".tar", ".tgz")
CAPTURED = ".request.json"
"""What ``mailpulse capture`` writes beside a body."""
_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError)


class Item(NamedTuple):
    """A body, or a row of a table as a JSON object.

    Attributes:
        place: file, and member or line in it.
        problem: why it can't be read; empty: it can.
        is_row: whether it is a row.
    """

    place: str
    content: bytes
    problem: str = ""
    is_row: bool = False


Tell = Callable[[int], None]
"""Is told how many bytes of the files were read since the last time."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant, folders searched; hidden ones left out. ``paths`` is not empty.

    Raises:
        BadInput: ``not_readable``, or there are none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (one for one in sorted(path.rglob("*")) if one.is_file())
            found += [one for one in inside if not _is_hidden(one.relative_to(path))]
        elif path.is_file():
            found.append(path)
        else:
            raise BadInput("not_readable", f"{path}: no such file or folder")
    found = [path for path in found if not path.name.endswith(CAPTURED)]
    if not found:
        raise BadInput("no_files", f"{paths[0]}: there are no files to read in it")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def items(files: Sequence[Path], tell: Tell) -> Iterator[Item]:
    """What the files hold, in order."""
    for path in files:
        try:
            with path.open("rb") as raw:
                yield from _of_file(str(path), path.name.lower(), _Counted(raw, tell))
        except _BROKEN as error:
            yield Item(str(path), b"", f"the rest can't be read: {_said(error)}")


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], tell: Tell) -> None:
        self._file, self._tell = file, tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._tell(len(data))
        return len(data)


def _of_file(place: str, name: str, raw: io.RawIOBase) -> Iterator[Item]:
    stream: IO[bytes] = io.BufferedReader(raw, 1 << 18)
    if name.endswith(".tar.gz") or name.endswith(ARCHIVES):
        yield from _of_archive(place, stream)
        return
    if name.endswith(".gz"):
        stream, name = gzip.open(stream), name[:-3]  # type: ignore[assignment]
    yield from _of_stream(place, name, stream)


def _of_archive(place: str, stream: IO[bytes]) -> Iterator[Item]:
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            name = member.name.lower()
            file = archive.extractfile(member) if member.isfile() else None
            if file is None or name.endswith(CAPTURED) or _is_hidden(Path(name)):
                continue
            inside: IO[bytes] = file
            if name.endswith(".gz"):
                inside, name = gzip.open(file), name[:-3]  # type: ignore[assignment]
            yield from _of_stream(f"{place}:{member.name}", name, inside)
        assert archive.fileobj is not None
        # tarfile takes a header that is cut off for the end
        if archive.fileobj.tell() - archive.offset < tarfile.BLOCKSIZE:
            yield Item(place, b"", "it has no mark of its end: the rest is cut off")


def _of_stream(place: str, name: str, stream: IO[bytes]) -> Iterator[Item]:
    if name.endswith(LINES):
        yield from _of_lines(place, stream)
    elif name.endswith(TABLES):
        yield from _of_table(place, stream, "\t" if name.endswith(".tsv") else "")
    else:
        body = stream.read(BODY_BYTES_MAX + 1)
        if body.strip():
            yield Item(place, body[:BODY_BYTES_MAX], _too_long(body))


def _too_long(body: bytes) -> str:
    if len(body) <= BODY_BYTES_MAX:
        return ""
    return f"longer than {BODY_BYTES_MAX >> 20} MiB; bodies one a line need the ending .jsonl"


def _of_lines(place: str, stream: IO[bytes]) -> Iterator[Item]:
    number = 0
    while line := stream.readline(BODY_BYTES_MAX + 1):
        number += 1
        problem = _too_long(line)
        rest = line
        while problem and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 16)
        line = line.strip()
        if line:
            yield Item(f"{place}:{number}", line[:BODY_BYTES_MAX], problem)


def _of_table(place: str, stream: IO[bytes], delimiter: str) -> Iterator[Item]:
    for row in tables.rows(stream, delimiter):
        yield Item(f"{place}:{row.line}", row.content, row.problem, is_row=True)
