"""Brings a shard's state up to the committed offset from what was written to the enriched topic.

Laws of this file:
1. The enriched topic is the changelog: it holds every raw record that had an effect, byte for byte,
   with its coordinates. Folding those through the same ``step``, silently, gives the same state.
2. Duplicates and dead letters had no effect on state, so their absence changes nothing.
3. Each record is judged by the rules that held for it when it was folded (``streams.epochs``).
4. A restore may be cut off at any moment: what it has stored so far is a valid state.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.settings import Settings
from schemas.topics import ENRICHED
from streams.enrich import Head, LookUps
from streams.epochs import Ruling
from streams.shard import Shard
from streams.step import step

log = structlog.get_logger(__name__)

STORE_EVERY = 50_000
"""Records between two writes of state."""
TELL_EVERY_S = 5.0


class Replayed(NamedTuple):
    """A raw record as found in the enriched topic (``streams.step.Record`` with its head)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    head: Head


_head, _offset = attrgetter("head"), attrgetter("offset")


@dataclass(slots=True)
class Progress:
    """How far a restore is. ``done`` and ``total`` in records."""

    done: int = 0
    total: int = 0
    started: float = 0.0


def select(
    shard: Shard, records: list[Any], codec: Codec, log_id: str, committed: int
) -> list[tuple[str, list[Replayed]]]:
    """The raw records among enriched ones that ``shard`` has not folded yet.

    Args:
        log_id: the incarnation that is read now; older ones come before it.
        committed: records of ``log_id`` from here on come by the raw topic.

    Returns:
        Runs of records of one incarnation each, in order.
    """
    runs: list[tuple[str, list[Replayed]]] = [(shard.log_id, [])]
    current, applied = shard.log_id, shard.applied
    for record in records:
        if record.value is None:
            continue
        try:
            head, raw, (name, _, offset, version) = codec.split_enriched(record.value)
        except DecodeError:
            continue  # nothing of ours; the sink dead-letters it
        if version != offset:
            continue  # a correction: the fold makes it anew
        if name != current:
            if current == log_id:
                continue  # an older log behind ours: a zombie's replay
            current, applied = name, -1
            runs.append((current, []))
        if offset <= applied or (current == log_id and offset >= committed):
            continue
        applied = offset
        runs[-1][1].append(Replayed(applied, record.timestamp, record.key, raw, head))
    return [(name, run) for name, run in runs if run]


def by_epoch(
    run: list[Replayed], changes: list[tuple[int, LookUps]]
) -> Iterator[tuple[LookUps, list[Replayed]]]:
    """A run of records in parts that were judged by the same rules.

    Args:
        changes: see ``streams.epochs.Ruling.changes``.
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
        touch: tells the watchdog that work goes on.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        ruling: Ruling,
        write: Callable[[Shard], None],
        touch: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._ruling = ruling
        self._write = write
        self._touch = touch
        self.progress = Progress()

    async def restore(self, shard: Shard, log_id: str, committed: int) -> int:
        """Folds what is missing below ``committed`` of log ``log_id``.

        Returns:
            How many records were folded.
        """
        consumer = AIOKafkaConsumer(
            **self._settings.kafka_client_options(),
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_bytes=16 << 20,
        )
        await consumer.start()
        try:
            return await self._read(consumer, shard, log_id, committed)
        finally:
            await consumer.stop()

    async def _read(self, consumer: Any, shard: Shard, log_id: str, committed: int) -> int:
        tp = TopicPartition(ENRICHED, shard.partition)
        # Asked before there is anything to fetch: a broker answers a connection in order, and a
        # fetch that finds nothing is answered late.
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.assign([tp])
        position = max(begin, min(shard.outputs_end, end))
        consumer.seek(tp, position)
        self.progress = Progress(0, end - position, time.monotonic())
        told = time.monotonic()
        folded = unsaved = 0
        while position < end:
            batches = await consumer.getmany(tp, timeout_ms=1000, max_records=2000)
            self._touch()
            records = batches.get(tp, [])
            count = self._fold(shard, records, log_id, committed)
            folded += count
            unsaved += count
            position = await consumer.position(tp)
            self.progress.done = self.progress.total - max(0, end - position)
            if unsaved >= STORE_EVERY:
                shard.outputs_end = position
                self._write(shard)
                unsaved = 0
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                self.tell(shard.partition)
        shard.outputs_end = max(shard.outputs_end, position)
        return folded

    def _fold(self, shard: Shard, records: list[Any], log_id: str, committed: int) -> int:
        folded = 0
        for name, run in select(shard, records, self._codec, log_id, committed):
            if shard.begin_log(name):
                self._write(shard)  # minutes of the log before are gone with this write
            changes = self._ruling.changes(name, shard.partition, log_id)
            for look_ups, part in by_epoch(run, changes):
                self._refold(shard, part, look_ups)
            folded += len(run)
        return folded

    def _refold(self, shard: Shard, part: list[Replayed], look_ups: LookUps) -> None:
        """Folds silently; of a replay that was cut off, what it had seen is noted again."""
        anew = shard.anew
        again = anew is not None and look_ups.epoch == shard.epoch
        effects = step(shard, part, look_ups, self._codec, emit=again, read=_head)
        if anew is not None and again:
            anew.silence(effects)

    def tell(self, partition: int) -> None:
        """Logs how far the restore is."""
        progress = self.progress
        seconds = max(1e-3, time.monotonic() - progress.started)
        rate = progress.done / seconds
        left = (progress.total - progress.done) / rate if rate else None
        log.info(
            "restoring state",
            partition=partition,
            percent=round(100 * progress.done / max(1, progress.total), 1),
            records_per_s=round(rate),
            seconds_left=None if left is None else round(left),
        )
