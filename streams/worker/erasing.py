"""How ``enrich`` obeys erasures.

Invariants:
1. No record is folded by a list of erasures that was read more than a second before
   (``ErasureLog.fresh``), whether it is new, read again or rebuilt from; while the list can't be
   read, the worker waits.
2. State that is kept forgets the evidence of erased people, when an erasure comes or when the
   partition is opened next. State that is made anew never has it, as their records are redacted.
   Evidence of what happened after an erasure stays, also when the order is given again.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from schemas.codec import PREFIX_BYTES, Codec
from schemas.errors import Unavailable
from streams.enrich.derive import LookUps
from streams.enrich.effects import Enriched
from streams.enrich.redaction import Redacted, redact
from streams.enrich.revisions import ConsumedRecord
from streams.enrich.shard import Shard
from streams.erasure.topic import ErasureLog, StateKeys
from streams.worker.work import PartitionWork

log = structlog.get_logger(__name__)

RETRY_S = 0.5


class Erasing:
    """The part of ``enrich`` that obeys erasures.

    Args:
        log: entered; ``None``: nobody is ever erased.
        look_ups: of the worker.
    """

    def __init__(self, log: ErasureLog | None, codec: Codec, look_ups: LookUps) -> None:
        self._log = log
        self._codec = codec
        self._look_ups = look_ups

    async def fresh(self) -> None:
        """Brings the list up to date (invariant 1); waits while no broker answers."""
        while self._log is not None:
            try:
                await self._log.fresh()
            except Unavailable as error:
                log.warning("erasures can't be read: waiting", error=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                return

    def redact(
        self, records: Sequence[ConsumedRecord], shard: Shard | None
    ) -> Sequence[ConsumedRecord]:
        """The records, with those of erased events redacted.

        Args:
            shard: that they are folded into; ``None`` for enriched ones, which were judged before.
        """
        if self._log is None:
            return records
        return redact(records, self._log.erasures, self._look_ups, self._codec, shard)

    def redacted_row(self, row: Enriched) -> Enriched:
        """An enriched record that is written once more, redacted if its event is erased.

        Its enrichment stays; the sink takes what may name the person out of that too.
        """
        if self._log is None or not self._log.erasures:
            return row
        key, value, timestamp = row
        _, raw, at = self._codec.split_enriched(value)
        whole = Redacted(at.offset, timestamp, key, raw)
        (left,) = self.redact([whole], None)
        if left is whole:
            return row
        return (
            left.key,
            value[:PREFIX_BYTES] + (left.value or b"")[PREFIX_BYTES:] + value[len(raw) :],
            timestamp,
        )

    def opened(self, work: PartitionWork, shard: Shard) -> None:
        """Brings the state of a partition up to date before anything is folded into it."""
        if self._log is None:
            return
        if shard.log_id:
            self.forget(work, shard)
        elif self._log.end:
            self._write(work, shard, ())

    def forget(self, work: PartitionWork, shard: Shard) -> None:
        """Forgets the evidence of people who were erased since the partition's state was asked."""
        erasures = self._log
        if erasures is not None and shard.erased_through < erasures.end:
            self._write(work, shard, erasures.state_keys(shard.erased_through))

    def _write(self, work: PartitionWork, shard: Shard, orders: Iterable[StateKeys]) -> None:
        assert self._log is not None
        changes = shard.erase(orders, self._log.end)
        work.store.write(changes, offset=(work.next_offset or 0) - 1)
