"""Folds one partition of an import, and writes what follows from it.

Invariants:
1. The outputs are a function of the sorted records, the rules and the histories that were joined
   before: the log is folded by the worker's own ``step``, with the events' time as its clock.
2. Enriched records go to the topic of history, to the partition of their number, in one order. So
   after a kill the fold is made again, and what the topic has already is skipped: the number of
   records that it holds of this import says how much.
3. Counts are written once, when the fold has ended, as of its last record. Written again after a
   kill they are the same.
4. Nobody is told: no engagement, no suppressions.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from schemas import cloudevents
from schemas.cloudevents import by_identity
from schemas.codec import Codec
from schemas.partition import partition_of_text
from schemas.scopes import scoped_key
from schemas.topics import HISTORY, MINUTES
from streams.enrich import minute_counts, vectors
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.message_bytes import PENDING
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.history.sorting import Sorted, Stamped
from streams.worker.enrich_agent import enriched_rows
from streams.worker.erasing import Erasing
from streams.worker.outputs import Flight, RowLike
from streams.worker.store import Store

SLICE_RECORDS = 1_000
STORE_EVERY = 50_000
"""Records between two writes of state."""
MINUTES_AT_ONCE = 2_000
_COUNTS, _COUNTS_END = b"c", b"d"


class RawRecord(NamedTuple):
    """A record of the import as a raw one (a ``step.ConsumedRecord``)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def raw_of(offset: int, record: Stamped) -> RawRecord:
    """A sorted record, with its number as offset and its time as the log's."""
    return RawRecord(offset, record.at_us // 1_000, record.key, record.value)


@dataclass
class Outcome:
    """What a fold has done.

    Attributes:
        written: enriched records, corrections included.
        duplicates: repeats of an event.
        refused: records that can't be counted.
        suppressed: what stands at the end, by key: address or scope -> record.
    """

    written: int = 0
    duplicates: int = 0
    refused: int = 0
    suppressed: dict[str, dict[str, Any]] = field(default_factory=dict)


class PartitionFold:
    """The fold of one partition.

    Args:
        shard: whose state is in ``store``; histories joined before are folded into it.
        log_id: of the import.
        stamp_ms: the records' time in Kafka, the same on every run.
        keep_suppressions: whether ``Outcome.suppressed`` is filled.
    """

    def __init__(
        self,
        codec: Codec,
        look_ups: LookUps,
        shard: Shard,
        store: Store,
        records: Sorted,
        erasing: Erasing,
        *,
        log_id: str,
        stamp_ms: int,
        keep_suppressions: bool = False,
    ) -> None:
        self._codec, self._look_ups, self._erasing = codec, look_ups, erasing
        self._shard, self._store, self._records = shard, store, records
        self._log_id, self._stamp_ms = log_id, stamp_ms
        self._keep_suppressions = keep_suppressions
        self.outcome = Outcome()

    async def run(
        self, flight: Flight, skip: int, told: Callable[[int], Awaitable[None]]
    ) -> Outcome:
        """Folds all records; returns when Kafka has acknowledged what follows from them.

        Args:
            skip: enriched records that the topic has already (invariant 2).
            told: is told after each slice how many records it had.
        """
        shard = self._shard
        if shard.begin_log(self._log_id):
            self._write()
        unsaved = 0
        for begin in range(0, len(self._records), SLICE_RECORDS):
            stamped = self._records.slice(begin, begin + SLICE_RECORDS)
            records = [raw_of(begin + place, one) for place, one in enumerate(stamped)]
            rows = [*self._rows(await self._folded(records))]
            left = max(0, skip - self.outcome.written)
            self.outcome.written += len(rows)
            if left < len(rows):
                await flight.send_to(HISTORY, shard.partition, rows[left:])
            unsaved += len(records)
            if unsaved >= STORE_EVERY:
                self._write()
                unsaved = 0
            await told(len(records))
        self._write()
        await flight.landed()
        return self.outcome

    async def _folded(self, records: Sequence[RawRecord]) -> Completed:
        await self._erasing.fresh()
        shard = self._shard
        redacted = self._erasing.redact(records, shard)
        effects = step(shard, redacted, self._look_ups, self._codec)
        self.outcome.duplicates += effects.duplicates
        self.outcome.refused += len(effects.dead_letters)
        known = {record.offset: record.value for record in redacted if record.value}
        done = complete(
            effects, self._raws(effects, known), codec=self._codec, look_ups=self._look_ups,
            log_id=self._log_id, partition=shard.partition,
        )  # fmt: skip
        if self._keep_suppressions:
            self._note_suppressions(done)
        return done

    def _raws(self, effects: Effects, known: dict[int, bytes]) -> dict[int, bytes]:
        """The raw records that corrections need."""
        found = {}
        for offset in wanted(effects):
            if offset in known:
                found[offset] = known[offset]
                continue
            records = [raw_of(offset, one) for one in self._records.slice(offset, offset + 1)]
            for record in self._erasing.redact(records, self._shard):
                found[offset] = record.value or b""
        return found

    def _note_suppressions(self, done: Completed) -> None:
        for (recipient, source, scope), record, _, _ in done.suppressions:
            key = scoped_key(recipient, source, scope) if scope else recipient
            if record is None:
                self.outcome.suppressed.pop(key, None)
            else:
                self.outcome.suppressed[key] = record

    def _rows(self, done: Completed) -> Iterator[RowLike]:
        for key, value, _, headers in enriched_rows(done):
            yield key, value, self._stamp_ms, headers

    def _write(self) -> None:
        """Stores the state; counts are kept, whatever their age."""
        shard = self._shard
        self._store.write(shard.writes(), offset=shard.applied, cleared=shard.cleared())
        shard.saved()
        for begin, end in shard.useless_ranges():
            if begin.startswith(PENDING):
                self._store.delete_range(begin, end)

    async def write_counts(self, flight: Flight, partitions: int, now_ms: int) -> int:
        """Writes all counts (invariant 3); returns how many.

        Args:
            partitions: of the topic of counts.
            now_ms: their time in Kafka, which readers take for a clock.
        """
        shard, codec = self._shard, self._codec
        frame, as_of = codec.prefix("campaign_minute"), f"\x1f{shard.as_of}".encode()
        headers_of = by_identity("campaign_minute", cloudevents.ENRICH, now_ms * 1_000)
        stored = self._store.scan(_COUNTS, _COUNTS_END)
        written = 0
        while some := list(islice(stored, MINUTES_AT_ONCE)):
            rows: dict[int, list[RowLike]] = {}
            for packed, data in some:
                key, vector = minute_counts.unpack_key(packed), vectors.unpack(data)
                if not any(vector):
                    continue
                record = minute_counts.record(
                    key, vector, self._log_id, shard.partition, shard.as_of
                )
                record_key = minute_counts.record_key(key, self._log_id, shard.partition)
                rows.setdefault(partition_of_text(key[0], partitions), []).append(
                    (record_key, frame + record, now_ms, headers_of(record_key + as_of))
                )
            for partition, mine in rows.items():
                await flight.send_to(MINUTES, partition, mine)
                written += len(mine)
        await flight.landed()
        return written
