"""Puts an import's records in the order of their time, by partition, on the disk.

Invariants:
1. Memory is bounded by one run (``RUN_BYTES``), and a few hundred bytes for each run when they are
   merged.
2. The order is a function of the set of records: by time, then by their bytes. So whatever order
   the files came in, the log is the same.
"""

import heapq
import struct
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from schemas.errors import BadInput

_HEAD = struct.Struct("<QIQHI")
"""Time, number of the partition, hash of the event's id, lengths of key and value."""
RUN_BYTES = 96 << 20
_OVERHEAD_BYTES = 260
"""Of a record in memory, beside its bytes."""
BUFFER_BYTES = 1 << 16
RUNS_MAX = 800
"""They are merged at once, each an open file: some 80 million events of usual size."""


class Stamped(NamedTuple):
    """A record: in order by its fields.

    Attributes:
        at_us: time of the event, microseconds since 1970.
        value: framed raw record.
        key: its Kafka key.
        identity: hash of the event's id.
    """

    partition: int
    at_us: int
    value: bytes
    key: bytes
    identity: int


def write(file: IO[bytes], record: Stamped) -> None:
    """Appends a record."""
    file.write(
        _HEAD.pack(
            record.at_us, record.partition, record.identity, len(record.key), len(record.value)
        )
    )
    file.write(record.key)
    file.write(record.value)


def read(file: IO[bytes]) -> Iterator[Stamped]:
    """The records of a file, from where it stands."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        at_us, partition, identity, key_size, size = _HEAD.unpack(head)
        key = file.read(key_size)
        yield Stamped(partition, at_us, file.read(size), key, identity)


class Runs:
    """Sorts records that are added in any order.

    Args:
        folder: for its files; they are removed by the caller.
    """

    def __init__(self, folder: Path, run_bytes: int = RUN_BYTES) -> None:
        self._folder, self._run_bytes = folder, run_bytes
        self._held: list[Stamped] = []
        self._bytes = 0
        self._paths: list[Path] = []

    def add(self, record: Stamped) -> None:
        """Takes a record."""
        self._held.append(record)
        self._bytes += len(record.key) + len(record.value) + _OVERHEAD_BYTES
        if self._bytes >= self._run_bytes:
            self._flush()

    def _flush(self) -> None:
        if len(self._paths) >= RUNS_MAX:
            most = RUNS_MAX * self._run_bytes >> 30
            raise BadInput("too_large", f"more than {most} GiB of events: import them in parts")
        path = self._folder / f"run-{len(self._paths):06d}"
        self._held.sort()
        with path.open("wb", BUFFER_BYTES) as file:
            for record in self._held:
                write(file, record)
        self._paths.append(path)
        self._held, self._bytes = [], 0

    def merged(self) -> Iterator[Stamped]:
        """All records, by partition, and in order within each; the runs are removed."""
        if not self._paths:
            yield from sorted(self._held)
            return
        self._flush()
        files = [path.open("rb", BUFFER_BYTES) for path in self._paths]
        try:
            yield from heapq.merge(*map(read, files))
        finally:
            for file, path in zip(files, self._paths, strict=True):
                file.close()
                path.unlink(missing_ok=True)


class Sorted:
    """The records of one partition in order, as ``write`` wrote them; the number is the offset.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", BUFFER_BYTES)
        self._places = array("Q")
        size = path.stat().st_size
        place = 0
        while place < size:
            self._places.append(place)
            self._file.seek(place)
            _, _, _, key_size, value_size = _HEAD.unpack(self._file.read(_HEAD.size))
            place += _HEAD.size + key_size + value_size

    def __len__(self) -> int:
        """How many records."""
        return len(self._places)

    def slice(self, begin: int, end: int) -> list[Stamped]:
        """Records from ``begin`` up to but without ``end``."""
        if begin >= min(end, len(self)):
            return []
        self._file.seek(self._places[begin])
        return list(islice(read(self._file), min(end, len(self)) - begin))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
