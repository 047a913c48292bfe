"""Minute counts of one input partition: absolute values, changed by deltas, published as wholes.

Laws of this file:
1. Pure. A vector holds every counter of the glossary, in its order.
2. What is published is «these counts, as of this offset», never an increment (law 4 of the design).
3. Minutes older than the horizon are dropped; no event is ever counted in such a minute, because
   an event older than ``OLD_S`` at its arrival is counted by arrival.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from schemas.glossary import COUNTER_NAMES
from streams.message import MASK, SHIFT

OLD_S = 30 * 86400
"""An event that is older than this when it arrives is counted by its arrival."""
SUSPECT_FUTURE_S = 86400
"""An event that lies further than this after its arrival is counted by its arrival."""
HORIZON_S = OLD_S + 3 * 86400
"""Minutes older than this, by log time, can't change any more."""

WIDTH = len(COUNTER_NAMES)
_VECTOR = struct.Struct(f"<{WIDTH}i")
_ZERO = [0] * WIDTH

Key = tuple[str, str, int]
"""Campaign ('' is unattributed), mailbox provider, minute since 1970."""
Load = Callable[[list[bytes]], list[bytes | None]]


def pack_key(key: Key) -> bytes:
    """A key that sorts by minute, so that old minutes are one range."""
    campaign = key[0].encode()
    return b"c" + struct.pack(">IH", key[2], len(campaign)) + campaign + key[1].encode()


def pack_vector(vector: list[int]) -> bytes:
    """A vector in its fixed binary form."""
    return _VECTOR.pack(*vector)


def unpack_vector(data: bytes) -> list[int]:
    """The vector of ``pack_vector``'s bytes."""
    return list(_VECTOR.unpack(data))


class MinuteTable:
    """Counts by campaign, mailbox provider and minute.

    Args:
        load: stored values of packed keys, ``None`` for those that are not stored.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._vectors: dict[Key, list[int]] = {}
        self.dirty: set[Key] = set()

    def apply(self, deltas: dict[Key, list[int]]) -> None:
        """Adds ``deltas``, loading what is not in memory in one go."""
        vectors = self._vectors
        missing = [key for key in deltas if key not in vectors]
        if missing:
            for key, data in zip(missing, self._load([pack_key(k) for k in missing]), strict=True):
                vectors[key] = _ZERO[:] if data is None else unpack_vector(data)
        for key, delta in deltas.items():
            vector = vectors[key]
            for index, value in enumerate(delta):
                if value:
                    vector[index] += value
        self.dirty.update(deltas)

    def changed(self) -> Iterator[tuple[Key, list[int]]]:
        """Keys changed since ``saved``, with their absolute counts."""
        for key in self.dirty:
            yield key, self._vectors[key]

    def saved(self, keep_max: int = 50_000) -> None:
        """The changed vectors are stored; memory is bounded to ``keep_max`` vectors."""
        self.dirty.clear()
        if len(self._vectors) > keep_max:
            self._vectors.clear()

    def reset(self) -> None:
        """Forgets everything in memory: another log begins."""
        self._vectors.clear()
        self.dirty.clear()


def add(
    deltas: dict[Key, list[int]], campaign: str, mailbox: str, items: list[int], by: int
) -> None:
    """Adds ``by`` for each contribution (``minute << SHIFT | counter``) to ``deltas``."""
    for item in items:
        key = (campaign, mailbox, item >> SHIFT)
        vector = deltas.get(key)
        if vector is None:
            vector = deltas[key] = _ZERO[:]
        vector[item & MASK] += by


def record(key: Key, vector: list[int], log_id: str, partition: int, offset: int) -> dict[str, Any]:
    """A ``campaign_minute`` record: the counts of ``key`` as of ``offset``."""
    campaign, mailbox, minute = key
    values: dict[str, Any] = dict(zip(COUNTER_NAMES, vector, strict=True))
    values["campaign_id"] = campaign
    values["mailbox_provider"] = mailbox
    values["minute"] = minute * 60_000
    values["log_id"] = log_id
    values["partition"] = partition
    values["offset"] = offset
    return values


def record_key(key: Key, log_id: str, partition: int) -> bytes:
    """Kafka key of a partial: its whole identity, so that compaction keeps each one's newest."""
    campaign, mailbox, minute = key
    return f"{campaign}\x1f{mailbox}\x1f{minute}\x1f{log_id}\x1f{partition}".encode()
