"""Folds imported history: what state holds before the first record of the raw topic.

Invariants:
1. State is a fold of the histories that an epoch joins, in their order, and then of the raw topic
   (``streams.enrich.epochs``, invariant 7). Folding history writes nothing: its figures are those
   that the import wrote.
2. A history is judged by the rules of the epoch that joined it: the import used the same.
3. Its clock is the events' own time (of arrival, which an import sets to the event's). When it
   ends, its correction windows are settled, and the clock is set back: so live records are folded
   with the clock that they had without it.
4. Nothing of it is kept about recipients: it suppresses nobody.
5. May be cut off at any moment, and goes on where it was stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.history_log import PREFIX
from schemas.raw_head import Head
from schemas.settings import Settings
from schemas.topics import HISTORY
from streams.enrich.epochs import Joined, Ruling, check_fold, check_schema
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.kafka.stretches import OpenStretches, Stretches
from streams.worker.erasing import Erasing

SLICE_RECORDS = 2_000
STORE_EVERY = 50_000
"""Records between two writes of state."""


class Folded(NamedTuple):
    """A raw record of history (a ``step.ConsumedRecord`` with its head)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    head: Head


_head = attrgetter("head")


def end_history(shard: Shard) -> None:
    """Ends a history that was folded into ``shard`` (invariant 3)."""
    shard.begin_log(PREFIX)
    shard.log_time = 0
    shard.minutes.close(0)


class HistoryReader:
    """Folds histories into shards of one worker, or of a command.

    Args:
        write: stores a shard's changes.
        touch: called for each batch.
        source: opens the partitions of the topic of history.
        erasing: redacts records of erased events.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        ruling: Ruling,
        write: Callable[[Shard], None],
        touch: Callable[[], None],
        source: OpenStretches,
        erasing: Erasing | None,
    ) -> None:
        self._settings, self._codec, self._ruling = settings, codec, ruling
        self._write, self._touch, self._source = write, touch, source
        self._erasing = erasing

    async def fold(self, shard: Shard, histories: Sequence[Joined]) -> int:
        """Folds what is missing of ``histories`` into a shard that has nothing of the raw topic
        yet; others stay as they are.

        Returns:
            How many records were folded.
        """
        names = [one.log_id for one in histories]
        if not names or (shard.log_id and shard.log_id not in names):
            return 0  # what is ended has another name
        begun = names.index(shard.log_id) if shard.log_id else 0
        folded, deferred = 0, shard.deferred
        shard.deferred = None  # what a reprocessing run defers is about the raw topic alone
        async with self._source(self._settings, HISTORY, shard.partition) as stored:
            for one in histories[begun:]:
                folded += await self._fold_one(shard, one, stored)
        end_history(shard)
        self._write(shard)
        shard.deferred = deferred
        return folded

    async def _fold_one(self, shard: Shard, one: Joined, stored: Stretches) -> int:
        if shard.begin_log(one.log_id):
            shard.log_time = 0
            shard.minutes.close(0)
            self._write(shard)
        look_ups = replace(self._ruling.by_epoch[one.epoch], epoch=0)
        folded = unsaved = 0
        end = one.end(shard.partition)
        if end <= stored.begin:
            return 0
        async for records, _ in stored.read(stored.begin, end, SLICE_RECORDS):
            self._touch()
            part = await self._records(shard, records, one.log_id)
            step(shard, part, look_ups, self._codec, emit=False, read=_head)
            shard.forget_recipients()
            folded += len(part)
            unsaved += len(part)
            if unsaved >= STORE_EVERY:
                self._write(shard)
                unsaved = 0
        self._write(shard)
        return folded

    async def _records(self, shard: Shard, records: Sequence[Any], log_id: str) -> list[Folded]:
        """Those of one log that are not folded yet, without corrections."""
        if self._erasing is not None:
            await self._erasing.fresh()
        found: list[Folded] = []
        applied = shard.applied
        for record in records:
            try:
                head, raw, at = self._codec.split_enriched(record.value or b"")
            except DecodeError as error:
                check_schema(error, f"{HISTORY}/{shard.partition}", record.offset)
                continue
            if at.log_id != log_id or at.version != at.offset or at.offset <= applied:
                continue
            check_fold(at.fold_version, self._ruling.newest)
            applied = at.offset
            found.append(Folded(applied, head["received_at"] // 1000, record.key, raw, head))
        if self._erasing is None:
            return found
        return [
            one
            if isinstance(one, Folded)
            else Folded(
                one.offset, one.timestamp, one.key, one.value or b"",
                self._codec.raw_head(one.value or b""),
            )
            for one in self._erasing.redact(found, None)
        ]  # fmt: skip
