"""Brings a shard's state up to the committed offset from what was written to the enriched topic.

Invariants:
1. The enriched topic is the changelog: it holds every raw record that had an effect, byte for byte,
   with its coordinates. Folding those through the same ``step``, silently, gives the same state.
2. Duplicates and dead letters had no effect on state, so their absence changes nothing.
3. Each record is judged by the rules that held for it when it was folded
   (``streams.enrich.epochs``).
4. A restore may be cut off at any moment: what it has stored so far is a valid state.
5. A shard that defers is compared with what stands (``streams.worker.comparing``): all records are
   noted, those of an earlier epoch too.
6. A record of a newer release ends the restore: state that lacks it would count its event again.
7. The stored output position is never past a record that the state lacks. Such a record was not
   committed yet; another worker may commit it, and then the next restore must find it.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

import structlog

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.raw_head import Head
from schemas.settings import Settings
from schemas.topics import ENRICHED
from streams.enrich.derive import LookUps
from streams.enrich.epochs import Ruling, check_fold, check_schema
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.kafka.stretches import OpenStretches, Stretches, stretches_of
from streams.worker.comparing import Comparison
from streams.worker.erasing import Erasing
from streams.worker.joined_history import HistoryReader

log = structlog.get_logger(__name__)

STORE_EVERY = 50_000
"""Records between two writes of state."""
SLICE_RECORDS = 2_000
TELL_EVERY_S = 5.0
_TO_THE_END = 1 << 62
"""A restore ends by a committed offset of the raw topic, not by one of the enriched topic."""


class Refolded(NamedTuple):
    """A raw record as found in the enriched topic (a ``step.Record`` with its head)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    head: Head


_head, _offset = attrgetter("head"), attrgetter("offset")


class Selected(NamedTuple):
    """What a restore takes from some enriched records.

    Attributes:
        runs: raw records of one incarnation each, in order.
        ahead: offset, in the enriched topic, of the first record that is not committed yet;
            ``None``: there is none among them.
        folds: versions of the fold that wrote the records.
    """

    runs: list[tuple[str, list[Refolded]]]
    ahead: int | None
    folds: frozenset[int]


def select(shard: Shard, records: list[Any], codec: Codec, log_id: str, committed: int) -> Selected:
    """The raw records among enriched ones that ``shard`` has not folded yet.

    Args:
        log_id: the incarnation that is read now; older ones come before it.
        committed: records of ``log_id`` from here on are read from the raw topic.

    Raises:
        NewerRelease: invariant 6.
    """
    runs: list[tuple[str, list[Refolded]]] = [(shard.log_id, [])]
    ahead: int | None = None
    current, applied = shard.log_id, shard.applied
    folds: set[int] = set()
    for record in records:
        if record.value is None:
            continue
        try:
            head, raw, at = codec.split_enriched(record.value)
        except DecodeError as error:
            check_schema(error, f"{ENRICHED}/{shard.partition}", record.offset)
            continue  # not ours; the sink dead-letters it
        if at.version != at.offset:
            continue  # a correction: folding makes it again
        name, offset = at.log_id, at.offset
        if name != current:
            if current == log_id:
                continue  # an older log behind ours: written by a worker that had lost it
            current, applied = name, -1
            runs.append((current, []))
        if current == log_id and offset >= committed:
            ahead = record.offset if ahead is None else ahead
            continue
        if offset <= applied:
            continue
        applied = offset
        folds.add(at.fold_version)
        runs[-1][1].append(Refolded(applied, record.timestamp, record.key, raw, head))
    return Selected([(name, run) for name, run in runs if run], ahead, frozenset(folds))


def by_epoch(
    run: list[Refolded], changes: list[tuple[int, LookUps]]
) -> Iterator[tuple[LookUps, list[Refolded]]]:
    """A run of records in parts that were judged by the same rules.

    Args:
        changes: see ``streams.enrich.epochs.Ruling.changes``.
    """
    begin = 0
    for number, (_, look_ups) in enumerate(changes):
        end = len(run)
        if number + 1 < len(changes):
            end = bisect_left(run, changes[number + 1][0], key=_offset)
        if begin < end:
            yield look_ups, run[begin:end]
        begin = max(begin, end)


class Restorer:
    """Restores shards of one worker.

    Args:
        write: stores a shard's changes (a checkpoint without outputs).
        touch: tells the watchdog that the restore goes on.
        source: opens the enriched topic's partition.
        comparison: needed for a shard that is being reprocessed.
        slice_records, store_every: records folded without a pause; between two writes of state.
        doing: what the log says while it goes on.
        erasing: redacts records of erased events; ``None``: nobody is ever erased.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        ruling: Ruling,
        write: Callable[[Shard], None],
        touch: Callable[[], None],
        source: OpenStretches = stretches_of,
        comparison: Comparison | None = None,
        *,
        slice_records: int = SLICE_RECORDS,
        store_every: int = STORE_EVERY,
        doing: str = "restoring state",
        erasing: Erasing | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._ruling = ruling
        self._write = write
        self._comparison = comparison
        self._slice_records, self._store_every = slice_records, store_every
        self._touch = touch
        self._source = source
        self._doing = doing
        self._erasing = erasing
        self._ahead: int | None = None

    async def restore(self, shard: Shard, log_id: str, committed: int) -> int:
        """Folds what is missing below ``committed`` of log ``log_id``, and before it of the history
        that was joined.

        Returns:
            How many records were folded.
        """
        history = HistoryReader(
            self._settings, self._codec, self._ruling, self._write, self._touch, self._source,
            self._erasing,
        )  # fmt: skip
        before = await history.fold(shard, self._ruling.histories)
        async with self._source(self._settings, ENRICHED, shard.partition) as outputs:
            return before + await self._read(outputs, shard, log_id, committed)

    async def _read(self, outputs: Stretches, shard: Shard, log_id: str, committed: int) -> int:
        begin = max(outputs.begin, min(shard.outputs_end, outputs.end))
        self._ahead = None
        started = told = time.monotonic()
        folded = unsaved = 0
        async for records, position in outputs.read(begin, _TO_THE_END, self._slice_records):
            self._touch()
            if self._erasing is not None:
                await self._erasing.fresh()
            count = await self._fold(shard, records, log_id, committed)
            folded += count
            unsaved += count
            # invariant 7; records of an earlier log come before those of this one
            shard.outputs_end = max(begin, position if self._ahead is None else self._ahead)
            if unsaved >= self._store_every:
                self._write(shard)
                unsaved = 0
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                done, total = position - begin, outputs.end - begin
                _tell(self._doing, shard.partition, done, total, told - started)
        return folded

    async def _fold(self, shard: Shard, records: list[Any], log_id: str, committed: int) -> int:
        folded = 0
        if shard.deferred is not None:
            assert self._comparison is not None
            self._comparison.stands(shard, records, log_id)
        selected = select(shard, records, self._codec, log_id, committed)
        if self._ahead is None:
            self._ahead = selected.ahead
        for fold in selected.folds:
            check_fold(fold, self._ruling.newest)
        for name, run in selected.runs:
            if shard.begin_log(name):
                self._write(shard)  # minutes of the log before are gone with this write
            changes = self._ruling.changes(name, shard.partition, log_id)
            for look_ups, part in by_epoch(self._redacted(run), changes):
                await self._refold(shard, part, look_ups)
            folded += len(run)
        return folded

    def _redacted(self, run: list[Refolded]) -> list[Refolded]:
        if self._erasing is None:
            return run
        return [
            record
            if isinstance(record, Refolded)
            else Refolded(
                record.offset, record.timestamp, record.key, record.value or b"",
                self._codec.raw_head(record.value or b""),
            )
            for record in self._erasing.redact(run, None)
        ]  # fmt: skip

    async def _refold(self, shard: Shard, part: list[Refolded], look_ups: LookUps) -> None:
        """Folds without outputs; what a reprocessing run would write is noted."""
        deferred = shard.deferred
        again = deferred is not None and look_ups.epoch == shard.epoch
        if deferred is not None and again and shard.applied < deferred.span.begin:
            assert self._comparison is not None
            shard.applied = deferred.span.begin - 1
            self._write(shard)
            await self._comparison.begin(shard)
        effects = step(shard, part, look_ups, self._codec, emit=again, read=_head)
        if again:
            assert self._comparison is not None
            await self._comparison.complete(shard, part, effects, look_ups)


def _tell(doing: str, partition: int, done: int, total: int, seconds: float) -> None:
    """Logs how many records of a restore are done, after at least ``TELL_EVERY_S`` seconds."""
    rate = done / seconds
    log.info(
        doing,
        partition=partition,
        percent=round(100 * done / max(1, total), 1),
        records_per_s=round(rate),
        seconds_left=round((total - done) / rate) if rate else None,
    )
