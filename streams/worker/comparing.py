"""Compares what newer rules give with what stands, while a restore folds the enriched topic.

Used for a second store, and by a worker that opens a partition whose run is not over.

Invariants:
1. The fold is silent: what it would write is noted in the shard's ``Deferred``.
2. Raw records that corrections carry come from the enriched topic, which holds them all and is kept
   longer than the raw topic.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

from schemas.codec import Codec
from schemas.errors import DecodeError, MailpulseError
from schemas.settings import Settings
from schemas.topics import ENRICHED
from schemas.versions import FOLD_VERSION
from streams.enrich.changes import Changes, said
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects
from streams.enrich.epochs import Ruling
from streams.enrich.message_bytes import PENDING, PENDING_END, pending_offsets
from streams.enrich.minute_counts import Scan
from streams.enrich.revisions import restate
from streams.enrich.shard import Shard
from streams.kafka.stretches import OpenStretches
from streams.transport.chunks import TP
from streams.worker.raw_records import READ_RECORDS_MAX, RawRecords, Redact, stretches_around

RESTATED_AT_ONCE = 500
EARLIER_MS = 3_600_000
"""Records that came so long before the oldest one that may be corrected are not noted. The order of
arrival times in a log is not strict; an event that was not noted is written again, at worst."""


class OtherFold(MailpulseError):
    """Another version of the fold wrote what would be compared."""


class Bare(NamedTuple):
    """What restating needs of a raw record (a ``revisions.ConsumedRecord``)."""

    offset: int
    value: bytes
    key: bytes | None = None
    timestamp: int = 0


class Completing(Protocol):
    """Gives the effects of a step with the raw records that its corrections carry."""

    async def __call__(  # noqa: D102 — see ``EnrichAgent.completed``
        self, tp: TP, shard: Shard, records: Any, effects: Effects, look_ups: LookUps,
        *, raws: RawRecords,
    ) -> Completed: ...  # fmt: skip


class CopiedRecords(RawRecords):
    """Raw records by offset, as the enriched topic holds them.

    Args:
        codec: splits enriched records.
    """

    changes: Changes
    """Where records of an event are."""

    def __init__(self, settings: Settings, source: OpenStretches, codec: Codec) -> None:
        super().__init__(settings, source)
        self._codec = codec

    async def _read(self, tp: TP, offsets: list[int], redact: Redact) -> dict[int, bytes]:
        places = self.changes.positions(offsets)
        found: dict[int, bytes] = {}
        if places:
            wanted = set(places.values())
            async with self._source(self._settings, ENRICHED, tp.partition) as rows:
                for first, last in stretches_around(sorted(wanted)):
                    begin = max(first, rows.begin)
                    async for records, _ in rows.read(begin, last + 1, READ_RECORDS_MAX):
                        some = [record for record in records if record.offset in wanted]
                        found |= {
                            record.offset: record.value
                            for record in redact(list(map(self._split, some)))
                            if record.value is not None
                        }
        missing = [offset for offset in offsets if offset not in found]
        return found | (await super()._read(tp, missing, redact) if missing else {})

    def _split(self, record: Any) -> "Bare":
        _, raw, at = self._codec.split_enriched(record.value)
        return Bare(at.offset, raw, record.key, record.timestamp)


class Comparison:
    """One comparison: what a ``Restorer`` calls while it folds a shard that defers.

    Args:
        scan: over the shard's store.
        completing: see ``Completing``.
        from_ms: arrival time where the run begins, milliseconds since 1970.
        one_fold: whether records of another fold are refused.
    """

    def __init__(
        self,
        settings: Settings,
        source: OpenStretches,
        codec: Codec,
        ruling: Ruling,
        tp: TP,
        scan: Scan,
        completing: Completing,
        *,
        from_ms: int,
        one_fold: bool,
    ) -> None:
        self._codec, self._ruling, self._tp, self._scan = codec, ruling, tp, scan
        self._raws = CopiedRecords(settings, source, codec)
        self._completing = partial(completing, raws=self._raws)
        self._since_ms = from_ms - ruling.now.correction_s * 1000 - EARLIER_MS
        self._one_fold = one_fold

    def stands(self, shard: Shard, records: Sequence[Any], log_id: str) -> None:
        """Notes records of the enriched topic.

        Raises:
            OtherFold: one was folded otherwise, and that is refused.
        """
        assert shard.deferred is not None
        noted = []
        for record in records:
            if record.value is None or record.timestamp < self._since_ms:
                continue
            try:
                place, verdict = self._codec.place_and_verdict(record.value)
            except DecodeError:
                continue
            if place["log_id"] != log_id or place["partition"] != shard.partition:
                continue
            if self._one_fold and place["fold_version"] != FOLD_VERSION:
                raise OtherFold(f"version {place['fold_version']} of the fold wrote some events")
            noted.append((said(place, verdict), record.offset))
        shard.deferred.changes.stands(noted, shard.epoch)

    async def begin(self, shard: Shard) -> None:
        """At the beginning of the run: judges the events that may still be corrected.

        The earlier rules may have corrected them later on, where the new ones do not. All of the
        shard is stored.
        """
        assert shard.deferred is not None
        self._raws.changes = shard.deferred.changes
        judged_at = self._ruling.judged_at(shard.log_id, shard.partition)
        waiting = iter(sorted(self._pending()))
        while some := list(islice(waiting, RESTATED_AT_ONCE)):
            raws = await self._raws.get(self._tp, some)
            records = [Bare(offset, raws[offset]) for offset in some if offset in raws]
            self.judged(shard, restate(shard, records, judged_at, self._codec))
            await asyncio.sleep(0)

    def _pending(self) -> Iterator[int]:
        for _, value in self._scan(PENDING, PENDING_END):
            yield from pending_offsets(value)

    async def complete(
        self, shard: Shard, records: Sequence[Any], effects: Effects, look_ups: LookUps
    ) -> None:
        """Notes what a step by the new rules would write."""
        assert shard.deferred is not None
        self._raws.changes = shard.deferred.changes
        self._raws.note(self._tp, records)
        done = await self._completing(self._tp, shard, records, effects, look_ups)
        shard.deferred.silence(done)
        self.judged(shard, done)

    def judged(self, shard: Shard, done: Completed) -> None:
        """Notes rows that the new rules give."""
        assert shard.deferred is not None
        rows = [(said(*self._codec.place_and_verdict(row[1])), row) for row in done.enriched]
        shard.deferred.changes.judged(rows)
