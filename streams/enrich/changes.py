"""Which events newer rules judge otherwise: what stands on the enriched topic, and what they say.

A run folds the enriched topic by the new rules. Each record of the topic says how an event stands
(``stands``); each that the fold would write says what the new rules make of it (``judged``). What
differs is kept whole, to be written at the end of the run; the rest is never written.

Invariants:
1. Pure. What is kept is a function of the records noted so far: at any moment exactly those events
   differ whose highest version on the topic, of an epoch before the run's, says something else than
   the fold's newest.
2. Two records say the same if they differ in nothing but coordinates, versions and where the event
   was before. So a verdict keeps the version of the rules that gave it first.
3. An event of which no record was noted is taken to differ: writing it again changes nothing.
4. All changes since the last checkpoint are in ``writes``: they are stored with the fold's state.
"""

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from schemas.versions import EPOCH_MAX, REVISION_EPOCH_SHIFT, ROW_OFFSET_BITS
from streams.enrich.minute_counts import Load, Scan

NOTES, NOTES_END = b"v", b"w"
CHANGED, CHANGED_END = b"w", b"x"
_OFFSET = struct.Struct(">Q")
_NOTE = struct.Struct(">QQQQQ")
_ROW = struct.Struct(">qi")
_WHOLE, _PLACE = b"r", b"p"


class Note(NamedTuple):
    """What is known of one event.

    Attributes:
        version: of the record that stands, by ``version_of``.
        stands: digest of that record; 0: none was noted.
        position: its offset on the enriched topic.
        judged_version: of the fold's newest record of the event.
        judged: digest of that; 0: the fold has not come to it.
    """

    version: int
    stands: int
    position: int
    judged_version: int
    judged: int

    @property
    def differs(self) -> bool:
        """Whether the new rules say something else."""
        return self.judged not in (0, self.stands)


class Said(NamedTuple):
    """What an enriched record says.

    Attributes:
        offset: of the event.
        version: see ``version_of``.
        digest: of what it says, 64 bits; never 0.
    """

    offset: int
    version: int
    digest: int


class Changed(NamedTuple):
    """An event to be written again.

    Attributes:
        offset: of the event.
        row: key, framed value and timestamp (ms) of its record by the new rules; ``None``: a record
            at ``position`` of the enriched topic says the same.
        standing: offset on that topic of the record that stands; -1: none was noted.
        revision, version: that its record must have.
    """

    offset: int
    row: tuple[bytes | None, bytes, int] | None
    position: int
    revision: int
    version: int
    standing: int = -1


_NOTHING = Note(0, 0, 0, 0, 0)


def version_of(enrichment: Mapping[str, Any]) -> int:
    """The version of an event's row, as in ClickHouse (``schemas.versions``)."""
    return int(enrichment["revision"] << ROW_OFFSET_BITS | enrichment["version"])


def epoch_of(version: int) -> int:
    """The epoch that wrote a row of that version."""
    return version >> (ROW_OFFSET_BITS + REVISION_EPOCH_SHIFT)


def said(place: Mapping[str, Any], verdict: bytes) -> Said:
    """What an enriched record says (``Codec.place_and_verdict``)."""
    digest = int.from_bytes(blake2b(verdict, digest_size=8).digest(), "big")
    return Said(place["offset"], version_of(place), digest or 1)


class Changes:
    """The notes of one partition.

    Args:
        load: values of stored keys.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._notes: dict[int, Note] = {}
        self._touched: set[int] = set()
        self._changed: dict[int, bytes | None] = {}
        self._until = -1
        """The offset behind the highest event that was noted; -1: not loaded."""

    def fetch(self, offsets: Iterable[int]) -> None:
        """Brings notes into memory, in one read."""
        if self._until < 0:
            (stored,) = self._load([NOTES])
            self._until = 0 if stored is None else _OFFSET.unpack(stored)[0]
        notes = self._notes
        wanted = [one for one in dict.fromkeys(offsets) if one not in notes]
        missing = [offset for offset in wanted if offset < self._until]
        notes.update(dict.fromkeys(wanted, _NOTHING))
        if missing:
            values = self._load([NOTES + _OFFSET.pack(offset) for offset in missing])
            for offset, value in zip(missing, values, strict=True):
                if value is not None:
                    notes[offset] = Note(*_NOTE.unpack(value))

    def stands(self, records: Iterable[tuple[Said, int]], epoch: int = EPOCH_MAX + 1) -> None:
        """Takes records of the enriched topic, each with its offset there.

        Args:
            epoch: of the run. What it wrote itself, before it was killed, is no place that an event
                was at before: an event that stood otherwise is written again, and moved from there.
        """
        records = list(records)
        self.fetch(one.offset for one, _ in records)
        for (offset, version, digest), position in records:
            before = self._notes[offset]
            if before.stands and (version <= before.version or epoch_of(version) >= epoch):
                continue  # written twice, or by the run
            now = before._replace(version=version, stands=digest, position=position)
            if now.differs and not before.differs:
                self._changed[offset] = _PLACE + _OFFSET.pack(before.position)
            elif before.differs and not now.differs:
                self._changed[offset] = None
            self._set(offset, now)

    def judged(self, records: Iterable[tuple[Said, tuple[bytes | None, bytes, int]]]) -> None:
        """Takes what the fold by the new rules would write: key, value and timestamp in ms."""
        records = list(records)
        self.fetch(one.offset for one, _ in records)
        for (offset, version, digest), row in records:
            before = self._notes[offset]
            now = before._replace(judged_version=version, judged=digest)
            if now.differs:
                self._changed[offset] = _WHOLE + _pack(*row)
            elif before.differs:
                self._changed[offset] = None
            self._set(offset, now)

    def _set(self, offset: int, note: Note) -> None:
        self._notes[offset] = note
        self._touched.add(offset)
        self._until = max(self._until, offset + 1)

    def positions(self, offsets: Collection[int]) -> dict[int, int]:
        """Where records of these events are on the enriched topic, as far as they were noted."""
        self.fetch(offsets)
        return {
            offset: self._notes[offset].position for offset in offsets if self._notes[offset].stands
        }

    def writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """What a checkpoint must store (``None``: delete)."""
        for offset in self._touched:
            yield NOTES + _OFFSET.pack(offset), _NOTE.pack(*self._notes[offset])
        if self._touched:
            yield NOTES, _OFFSET.pack(self._until)
        for offset, value in self._changed.items():
            yield CHANGED + _OFFSET.pack(offset), value

    def saved(self) -> None:
        """What ``writes`` gave is stored; memory is bounded."""
        self._notes, self._touched, self._changed = {}, set(), {}

    def changed(self, scan: Scan) -> Iterator[Changed]:
        """The events that differ, by what is stored, in the order of their offsets.

        Args:
            scan: over the stored state, which must be complete.
        """
        for key, value in scan(CHANGED, CHANGED_END):
            offset = _OFFSET.unpack_from(key, len(CHANGED))[0]
            row, position = None, 0
            if value.startswith(_PLACE):
                position = _OFFSET.unpack_from(value, len(_PLACE))[0]
            else:
                row = _unpack(value[len(_WHOLE) :])
            self.fetch((offset,))
            note = self._notes.pop(offset)
            judged, standing = note.judged_version, note.position if note.stands else -1
            revision, version = judged >> ROW_OFFSET_BITS, judged & ((1 << ROW_OFFSET_BITS) - 1)
            yield Changed(offset, row, position, revision, version, standing)


def _pack(key: bytes | None, value: bytes, timestamp: int) -> bytes:
    return _ROW.pack(timestamp, -1 if key is None else len(key)) + (key or b"") + value


def _unpack(data: bytes) -> tuple[bytes | None, bytes, int]:
    timestamp, length = _ROW.unpack_from(data)
    if length < 0:
        return None, data[_ROW.size :], timestamp
    end = _ROW.size + length
    return data[_ROW.size : end], data[end:], timestamp
