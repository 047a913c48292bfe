"""A file beside each store that says how much the store holds, and is not lost with it.

Invariants:
1. A note is written after the store's own write, so it is never ahead of a store that is healthy.
2. It is overwritten in place, in two slots by turns, each with a checksum: when a write is cut
   short, the note before it can still be read.
3. A note that can't be read counts as none. How far a store without one is trusted is the caller's
   decision.

Only ``close`` syncs it to the disk: the store's own log is not synced either
(``streams.worker.store``). A killed process loses nothing by that. After a power cut the note may
be older than the store, which does no harm, or newer: then the store has lost writes and has to be
rebuilt.
"""

import os
import struct
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_SLOT_BYTES = 512
"""The smallest sector of a disk: writing one slot never damages the other."""
_SLOTS = 2
_FORM = struct.Struct("<4s8sQq")
_MAGIC = b"mpn1"
_CHECKSUM = struct.Struct("<I")


class Held(NamedTuple):
    """What a store holds.

    Attributes:
        store: identity of the store, 8 random bytes from when it was created.
        number: of its newest write; writes are numbered from 1.
        offset: of the last record that its state holds, -1 for none; read by people only.
    """

    store: bytes
    number: int
    offset: int


def pack(held: Held) -> bytes:
    """A slot's bytes."""
    data = _FORM.pack(_MAGIC, held.store, held.number, held.offset)
    return data + _CHECKSUM.pack(crc32(data))


def unpack(slot: bytes) -> Held | None:
    """What a slot holds; ``None``: nothing that can be read."""
    if len(slot) < _FORM.size + _CHECKSUM.size:
        return None
    data = slot[: _FORM.size]
    magic, store, number, offset = _FORM.unpack(data)
    if magic != _MAGIC or _CHECKSUM.unpack_from(slot, _FORM.size)[0] != crc32(data):
        return None
    return Held(store, number, offset)


class Note:
    """The note of one store; the file is made with the first ``write``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def read(self) -> Held | None:
        """The newest note that can be read.

        Raises:
            OSError: the path is not a file, or may not be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        slots = (unpack(data[at : at + _SLOT_BYTES]) for at in (0, _SLOT_BYTES))
        return max(filter(None, slots), key=attrgetter("number"), default=None)

    def write(self, held: Held) -> None:
        """Notes what the store holds now."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, _SLOTS * _SLOT_BYTES)
        os.pwrite(self._file, pack(held), held.number % _SLOTS * _SLOT_BYTES)

    def close(self) -> None:
        """Syncs the note to the disk and closes it."""
        if self._file is not None:
            try:
                os.fsync(self._file)
            finally:
                os.close(self._file)
                self._file = None
