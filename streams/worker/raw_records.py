"""Raw records that corrections carry: the newest ones in memory, others read from the topic again.

Invariants:
1. Memory is bounded by ``CACHED_BYTES_MAX`` for all partitions of a worker together.
2. Whether a record is in memory changes no result, only how long it takes to get it.
3. A record that the topic does not hold any more is not returned.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from schemas.settings import Settings
from schemas.topics import RAW
from streams.enrich.revisions import ConsumedRecord
from streams.kafka.stretches import OpenStretches
from streams.transport.chunks import TP

CACHED_BYTES_MAX = 32 << 20
GAP_RECORDS_MAX = 2_000
"""Offsets that are closer than this are read in one stretch."""
READ_RECORDS_MAX = 2_000


class HasValue(Protocol):
    """What is kept of a record."""

    @property
    def offset(self) -> int: ...  # noqa: D102 — see aiokafka
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


Redact = Callable[[Sequence[ConsumedRecord]], Sequence[ConsumedRecord]]


class RawRecords:
    """Values of raw records by partition and offset.

    Args:
        source: opens a partition of the raw topic.
        bytes_max: of values kept in memory.
    """

    def __init__(
        self, settings: Settings, source: OpenStretches, bytes_max: int = CACHED_BYTES_MAX
    ) -> None:
        self._settings, self._source, self._bytes_max = settings, source, bytes_max
        self._by_partition: dict[TP, dict[int, bytes]] = {}
        self._blocks: deque[tuple[TP, list[int], int]] = deque()
        self._bytes = 0
        self.read_again = 0
        """Records that were not in memory."""

    def note(self, tp: TP, records: Iterable[HasValue]) -> None:
        """Keeps records in memory until newer ones need their room."""
        some = {record.offset: record.value for record in records if record.value is not None}
        size = sum(map(len, some.values()))
        self._by_partition.setdefault(tp, {}).update(some)
        self._blocks.append((tp, list(some), size))
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._blocks) > 1:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        tp, offsets, size = self._blocks.popleft()
        self._bytes -= size
        known = self._by_partition.get(tp)
        if known is not None:
            for offset in offsets:
                known.pop(offset, None)

    def forget(self, tp: TP) -> None:
        """Drops a partition: another worker's, or of a log that begins anew."""
        self._by_partition.pop(tp, None)
        self._blocks = deque(block for block in self._blocks if block[0] != tp)
        self._bytes = sum(size for _, _, size in self._blocks)

    async def get(
        self, tp: TP, offsets: Collection[int], redact: Redact = lambda records: records
    ) -> dict[int, bytes]:
        """The framed values of records by offset, without those that the topic no longer holds.

        Args:
            redact: applied to what is read from the topic.

        Raises:
            Unavailable: no broker answers.
        """
        known = self._by_partition.get(tp, {})
        found = {offset: known[offset] for offset in offsets if offset in known}
        missing = sorted(set(offsets) - found.keys())
        if missing:
            self.read_again += len(missing)
            found |= await self._read(tp, missing, redact)
        return found

    async def _read(self, tp: TP, offsets: list[int], redact: Redact) -> dict[int, bytes]:
        wanted = set(offsets)
        found: dict[int, bytes] = {}
        async with self._source(self._settings, RAW, tp.partition) as raw:
            for first, last in stretches_around(offsets):
                begin = max(first, raw.begin)
                if begin > last:
                    continue
                async for records, _ in raw.read(begin, last + 1, READ_RECORDS_MAX):
                    some = [record for record in records if record.offset in wanted]
                    found |= {
                        record.offset: record.value
                        for record in redact(some)
                        if record.value is not None
                    }
        return found


def stretches_around(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """First and last offset of each stretch that covers ``offsets``, which are in order."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > GAP_RECORDS_MAX:
            yield first, last
            first = offset
        last = offset
    yield first, last
