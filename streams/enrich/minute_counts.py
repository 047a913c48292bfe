"""Minute counts of one input partition: absolute values, changed by deltas, published in full.

Invariants:
1. Pure. A vector holds every counter of the glossary, in its order.
2. Counts are published as absolute values as of an offset, never as increments (invariant 4 of the
   design).
3. Minutes older than the horizon are closed: they no longer change, and are dropped. No event is
   counted in such a minute, since one older than ``OLD_S`` when it arrives is counted by its
   arrival. Only cohort counts of messages that have events that long after their delivery are cut.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

from schemas.codec import LATEST, schema_json
from schemas.compiled_reader import reader
from schemas.compiled_writer import Writers
from schemas.glossary import COUNTER_NAMES
from schemas.primitives import integers, small_counts
from streams.enrich import vectors
from streams.enrich.contributions import MASK, SHIFT
from streams.enrich.vectors import WIDTH

OLD_S: Final = 30 * 86400
"""An event that is older than this when it arrives is counted by its arrival."""
SUSPECT_FUTURE_S: Final = 86400
"""An event whose time is further than this after its arrival is counted by its arrival."""
HORIZON_S: Final = 2 * OLD_S
"""Minutes older than this, by log time, are closed: ``OLD_S``, and as much again for records that
waited in ingress's spool before they reached the log."""

_KEY: Final = struct.Struct(">IH")
_ZERO: Final = [0] * WIDTH

Key = tuple[str, str, int]
"""Campaign ('' is unattributed), mailbox provider, minute since 1970."""
Load = Callable[[list[bytes]], list[bytes | None]]
"""Reads stored values by their keys, in order; ``None`` where nothing is stored."""
Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]
"""Reads stored keys and values from a key up to but without another one, in order."""


def pack_key(key: Key) -> bytes:
    """A key that sorts by minute, so that old minutes are one range."""
    campaign = key[0].encode()
    return b"c" + _KEY.pack(key[2], len(campaign)) + campaign + key[1].encode()


def unpack_key(data: bytes) -> Key:
    """The key of ``pack_key``'s bytes."""
    minute, length = _KEY.unpack_from(data, 1)
    at = 1 + _KEY.size + length
    return data[1 + _KEY.size : at].decode(), data[at:].decode(), minute


def pack_minute(minute: int) -> bytes:
    """A key that sorts before every key of this minute, and after those of earlier minutes."""
    return b"c" + minute.to_bytes(4, "big")


class MinuteTable:
    """Counts by campaign, mailbox provider and minute.

    Args:
        load: stored values of packed keys, ``None`` for those that are not stored.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._vectors: dict[Key, list[int]] = {}
        self._unread: list[Key] = []
        self.closed_before = 0
        self._closed_at = -1
        self.dirty: dict[Key, list[int]] = {}
        """What was changed since ``saved``: key -> its vector."""

    def close(self, log_time: int) -> None:
        """Closes the minutes that are too old, in steps of an hour."""
        hour = log_time // 3600
        if hour != self._closed_at:
            self._closed_at = hour
            self.closed_before = max(0, (log_time - HORIZON_S) // 3600 * 60)

    def vector(self, key: Key) -> list[int]:
        """The counts of ``key``, to be changed in place.

        Stored counts may still be missing from them: ``complete`` adds those, for all keys in one
        read. For a closed minute this is a copy that is discarded.
        """
        if key[2] < self.closed_before:
            return _ZERO[:]
        vector = self.dirty.get(key)  # one look-up is enough for most
        if vector is not None:
            return vector
        vector = self._vectors.get(key)
        if vector is None:
            vector = self._vectors[key] = _ZERO[:]
            self._unread.append(key)
        self.dirty[key] = vector
        return vector

    @staticmethod
    def zero() -> list[int]:
        """A vector of zeros."""
        return _ZERO[:]

    def add(self, campaign: str, mailbox: str, items: Iterable[int], by: int) -> None:
        """Adds ``by`` for each contribution (``minute << SHIFT | counter``)."""
        last = -1
        vector = _ZERO
        for item in items:
            minute = item >> SHIFT
            if minute != last:
                vector = self.vector((campaign, mailbox, minute))
                last = minute
            vector[item & MASK] += by

    def count(self, campaign: str, mailbox: str, minute: int, counters: Iterable[int]) -> None:
        """Adds 1 to each of the counters of a minute."""
        vector = self.vector((campaign, mailbox, minute))
        for counter in counters:
            vector[counter] += 1

    def complete(self) -> None:
        """Adds the stored counts to the vectors that were first used since the last call."""
        if not self._unread:
            return
        for key, data in zip(
            self._unread, self._load([pack_key(key) for key in self._unread]), strict=True
        ):
            if data is not None:
                vector = self._vectors[key]
                for index, value in enumerate(vectors.unpack(data)):
                    vector[index] += value
        self._unread = []

    def changed(self) -> Iterator[tuple[Key, list[int]]]:
        """Keys changed since ``saved``, with their absolute counts."""
        yield from self.dirty.items()

    def saved(self, keep_max: int = 50_000) -> None:
        """The changed vectors are stored; memory is bounded to ``keep_max`` vectors."""
        self.dirty.clear()
        if len(self._vectors) > keep_max:
            self._vectors.clear()

    def reset(self) -> None:
        """Drops everything in memory, since another log begins."""
        self._vectors.clear()
        self._unread = []
        self.dirty.clear()


_PARTIAL: Final = schema_json(LATEST["campaign_minute"])
_identity, _position, _ = Writers(_PARTIAL).parts("campaign_id", "log_id", COUNTER_NAMES[0])
_position_of = lru_cache(maxsize=64)(_position)
"""The same for all records of a checkpoint."""
_read_front = reader(_PARTIAL, last="offset")
_read = reader(_PARTIAL)


def record(key: Key, vector: list[int], log_id: str, partition: int, offset: int) -> bytes:
    """A ``campaign_minute`` record without framing: the counts of ``key`` as of ``offset``."""
    campaign, mailbox, minute = key
    front = _identity(campaign, mailbox, minute * 60_000)
    return front + _position_of(log_id, partition, offset) + integers(vector)


def read_record(value: bytes, at: int) -> tuple[Key, str, int, int, tuple[int, ...]]:
    """The ``campaign_minute`` record at the end of ``value``, which begins at ``value[at]``.

    Returns:
        Key, log, partition, offset and counts.

    Raises:
        Exception: it can't be read this way; the general decoder decides.
    """
    found, begin = _read_front(value, at)
    counts = tuple(small_counts(value[begin:]) or ())
    if len(counts) != WIDTH:
        found, end = _read(value, at)
        if end != len(value):
            raise ValueError("bytes behind the record")
        counts = tuple([found[name] for name in COUNTER_NAMES])
    key = (found["campaign_id"], found["mailbox_provider"], found["minute"] // 60_000)
    return key, found["log_id"], found["partition"], found["offset"], counts


def read_place(value: bytes, at: int) -> tuple[Key, str, int, int]:
    """Key, log, partition and offset of a ``campaign_minute`` record which begins at ``value[at]``.

    The counts behind them are not read, so it may have been written under another glossary.

    Raises:
        Exception: it is no such record.
    """
    found, _ = _read_front(value, at)
    key = (found["campaign_id"], found["mailbox_provider"], found["minute"] // 60_000)
    return key, found["log_id"], found["partition"], found["offset"]


def record_key(key: Key, log_id: str, partition: int) -> bytes:
    """Kafka key of a partial: its whole identity, so that compaction keeps each one's newest."""
    campaign, mailbox, minute = key
    return f"{campaign}\x1f{mailbox}\x1f{minute}\x1f{log_id}\x1f{partition}".encode()
