"""How ``enrich`` begins an epoch of the rules on a partition, defers its counts, and releases them.

Invariants:
1. Nothing of an epoch is written before the partition's committed offset went back and the topic of
   rules says so (invariant 4 of ``streams.enrich.epochs``). By then state of an earlier epoch is
   cleared.
2. A worker that opens a partition knows every epoch announced before that. If its rules are older,
   it ends instead of going on.
3. What is reprocessed, deferred and withdrawn is decided in ``streams.enrich.deferred``; this file
   carries it out.
4. A release that was interrupted is repeated as a whole: counts are absolute, and engagement that
   was withdrawn already is recognised.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import structlog

from schemas import cloudevents, topics
from schemas.cloudevents import cloud_event
from schemas.codec import PREFIX_BYTES, Codec
from schemas.errors import MailpulseError
from schemas.identity import address_identity
from schemas.settings import Settings
from schemas.versions import FOLD_VERSION
from streams.enrich import deferred, vectors
from streams.enrich.changes import Changed, Changes
from streams.enrich.deferred import Deferred, Withdrawals
from streams.enrich.derive import LookUps, reissued
from streams.enrich.effects import Completed, Enriched
from streams.enrich.epochs import Epoch, History, Ruling, Span
from streams.enrich.minute_counts import Key, pack_key, read_place
from streams.enrich.revisions import first_pending, restate
from streams.enrich.shard import Shard
from streams.kafka.reader import reader
from streams.kafka.stretches import OpenStretches
from streams.reprocess.rules_topic import Rulebook
from streams.transport.app import ChunkApp
from streams.transport.chunks import TP
from streams.worker.comparing import Comparison
from streams.worker.erasing import Erasing
from streams.worker.outputs import Outputs, Row
from streams.worker.raw_records import stretches_around
from streams.worker.second_store import Live, SecondStores
from streams.worker.work import PartitionWork

log = structlog.get_logger(__name__)

RELEASED_AT_ONCE = 2_000
"""Counts that are read from the store and sent together."""
SCANNED_AT_ONCE = 1_000
REWIND_PAUSE_S = 0.2


class RulesChanged(MailpulseError):
    """Newer rules hold: this worker must start again to judge by them."""


class Enriching(Live, Protocol):
    """What reprocessing needs of the agent whose partitions it works on (``EnrichAgent``)."""

    app: ChunkApp | None
    settings: Settings
    codec: Codec
    outputs: Outputs
    source: OpenStretches
    log_id: str
    ruling: Ruling
    assigned: set[TP]
    assignment: int
    erasing: Erasing

    async def hand_over(self, work: PartitionWork, shard: Shard, effects: Completed) -> None:
        """Sends the effects of one step."""

    async def write_events(self, work: PartitionWork, done: Completed) -> None:
        """Sends enriched events."""

    async def publish(
        self, work: PartitionWork, shard: Shard, changed: Iterable[tuple[Key, list[int]]]
    ) -> None:
        """Sends absolute counts as of the shard's epoch and offset."""


class Reprocessing:
    """The part of ``enrich`` that handles epochs.

    Args:
        agent: whose partitions.
        rulebook: read whenever a partition is opened; ``None``: rules never change.
    """

    def __init__(self, agent: Enriching, rulebook: Rulebook | None) -> None:
        self._agent = agent
        self._rulebook = rulebook
        self._epoch = agent.ruling.newest
        self._number = agent.ruling.number
        earlier = agent.ruling.before_newest()
        self._earlier = earlier.number
        self._joins = agent.ruling.histories != earlier.histories
        self._history = History() if rulebook is None else rulebook.history
        self._only_back: set[TP] = set()
        self._by_earlier: dict[TP, int] = {}
        """The offset up to which this worker has committed by the earlier rules."""
        self.second = SecondStores(agent, self._number, self.comparison, self.give_up_live)

    async def changed(self) -> bool:
        """Whether another epoch is the newest than this worker judges by, or its own was aborted.

        Raises:
            Unavailable: the broker is away.
        """
        return self._rulebook is not None and (
            _number(await self._rulebook.refresh()) != self._number
        )

    def ruling_of(self, tp: TP) -> Ruling:
        """The epochs that judge a partition: without the newest until it is switched to it."""
        ruling = self._agent.ruling
        return ruling.before_newest() if tp in self.second.waiting else ruling

    async def begin(self, work: PartitionWork, store_name: str) -> int:
        """Begins the newest epoch on the partition, unless that was done before.

        If its state can go on by the earlier rules, a second store is folded first, and the
        partition is switched when it is opened with that complete. Otherwise it is set back to
        where the epoch begins.

        Args:
            store_name: of the partition's state.

        Returns:
            The offset up to which state must be brought before the partition is read.

        Raises:
            RulesChanged: see invariant 2.
        """
        agent, tp = self._agent, work.tp
        assert agent.app is not None
        committed = agent.app.committed_now(tp) or 0
        self.second.waiting.pop(tp, None)
        if await self.changed():
            raise RulesChanged("newer rules hold: starting again to judge by them")
        epoch = self._epoch
        if epoch is None:
            await self.second.discard(tp)
            return committed
        if self._is_to_be_switched(epoch, tp):
            announced = epoch.span(agent.log_id, tp.partition)
            span = Span(announced.begin, max(announced.until, committed))
            back_to = span.begin
            if (live := self._live_until(work, committed)) is not None:
                self.second.waiting[tp] = announced.begin
                if (reached := await self.second.reached(tp)) < max(live, announced.until):
                    return committed
                span = Span(announced.begin, reached)
                back_to = min(committed, max(span.begin, reached - 1))
            if not await self._go_back(work, epoch, span, back_to):
                return committed  # revoked meanwhile: what was opened is closed at once
            self.second.waiting.pop(tp, None)
            committed = back_to
        probe = Shard(tp.partition, work.store.get_many)
        probe.load_meta()
        if probe.epoch == self._number:
            await self.second.discard(tp)
        elif not await self.second.adopt(work, store_name):
            work.store.clear()
        return committed

    def epoch_of(self, tp: TP) -> int:
        """The epoch that state of the partition was made by, as far as the rules are known now.

        A snapshot of another one would be cleared (``begin``), or hold the partition up.
        """
        epoch = self._epoch
        if epoch is not None and self._is_to_be_switched(epoch, tp):
            return self._earlier
        return self._number

    def note_committed(self, tp: TP, committed: int) -> None:
        """Notes what is committed of a partition that is open."""
        if tp in self.second.waiting:
            self._by_earlier[tp] = committed

    def _is_to_be_switched(self, epoch: Epoch, tp: TP) -> bool:
        """Whether a partition was not switched, or this worker went on by the earlier rules since.

        It did if the worker before it was held up between its commit and its record: that came
        when this worker had opened the partition. Then another record reaches further.
        """
        if not self._history.has_gone_back(epoch, self._agent.log_id, tp.partition):
            return True
        until = self._history.span(epoch, tp.partition).until
        return self._by_earlier.get(tp, until) > until

    def _live_until(self, work: PartitionWork, committed: int) -> int | None:
        """The offset that the earlier rules have reached; ``None``: state can't go on by them.

        It can't if another version of the fold made it, or if the earlier epoch is not complete.
        Where there is no state, the restore tells (``give_up_live``).
        """
        if work.tp in self._only_back:
            return None
        earlier = self._agent.ruling.before_newest().newest
        live = Shard(work.tp.partition, work.store.get_many)
        live.load_meta()
        goes_on = not live.log_id or (
            live.log_id == self._agent.log_id
            and live.epoch == self._earlier
            and live.fold == FOLD_VERSION
            and (earlier is None or earlier.fold == FOLD_VERSION)
            and not deferred.is_stored(work.store.scan)
        )
        return max(committed, live.applied + 1) if goes_on else None

    def give_up_live(self, work: PartitionWork) -> bool:
        """State of an earlier fold can't be restored: the partition is to be set back, from now on.

        Returns:
            Whether that can help; then the partition is to be opened again.
        """
        if work.tp not in self.second.waiting:
            return False
        self._only_back.add(work.tp)
        work.store.clear()
        return True

    async def _go_back(self, work: PartitionWork, epoch: Epoch, span: Span, back_to: int) -> bool:
        agent, tp = self._agent, work.tp
        assert agent.app is not None
        assert self._rulebook is not None
        assignment = agent.assignment
        while not await agent.app.rewind(tp, back_to):
            await asyncio.sleep(REWIND_PAUSE_S)
            if agent.assignment != assignment or tp not in agent.assigned:
                return False
        await self._rulebook.note_gone_back(agent.outputs.producer, epoch, tp.partition, span)
        if await self.changed():
            raise RulesChanged("other rules hold: starting again to judge by them")
        log.info(
            "reprocessing begins", partition=tp.partition, epoch=epoch.number, begin=span.begin,
            until=span.until,
        )  # fmt: skip
        return True

    def resume(self, work: PartitionWork, shard: Shard, committed: int) -> None:
        """Sets the shard's epoch, and what it defers while reprocessing is not over."""
        agent, epoch = self._agent, self._epoch
        waits = work.tp in self.second.waiting
        shard.epoch = self._earlier if waits else self._number
        if waits or epoch is None or epoch.log_id != agent.log_id:
            return
        span = self._history.span(epoch, work.tp.partition)
        reached = committed if shard.log_id != agent.log_id else shard.applied + 1
        begins = reached <= span.begin
        is_stored = deferred.is_stored(work.store.scan)
        if is_stored:  # a disk that was away may hold more, or others may have gone on since
            span = Span(span.begin, max(span.until, reached, committed))
        if begins or max(reached, committed) < span.until or is_stored:
            shard.deferred = Deferred(span, Changes(work.store.get_many))

    def comparison(
        self, work: PartitionWork, source: OpenStretches, *, one_fold: bool = False
    ) -> Comparison:
        """Of a partition by the newest epoch; ``one_fold``: see ``Comparison``."""
        agent, epoch = self._agent, self._epoch
        return Comparison(
            agent.settings, source, agent.codec, agent.ruling, work.tp, work.store.scan,
            agent.completed, from_ms=epoch.from_time if epoch else 0, one_fold=one_fold,
        )  # fmt: skip

    async def restate(self, work: PartitionWork, shard: Shard) -> None:
        """At the start of a run, writes again the events that earlier rules may have corrected."""
        if shard.deferred is None:
            return
        work.since_checkpoint += 1
        if shard.applied + 1 != shard.deferred.span.begin:
            return
        agent = self._agent
        assert agent.app is not None
        judged_at = agent.ruling.judged_at(agent.log_id, work.tp.partition)
        first = first_pending(shard, work.store.scan)
        async with agent.source(agent.settings, topics.RAW, work.tp.partition) as raw:
            until = shard.applied + 1
            async for records, _ in raw.read(max(first, raw.begin), until, SCANNED_AT_ONCE):
                some = agent.erasing.redact(records, shard)
                await agent.hand_over(work, shard, restate(shard, some, judged_at, agent.codec))
                agent.app.touch(work.tp)

    async def release(self, work: PartitionWork, shard: Shard) -> None:
        """Publishes what is deferred: events, counts, withdrawals.

        Counts that no longer exist become zeros.
        """
        agent = self._agent
        assert shard.deferred is not None
        assert agent.app is not None
        events = await self._write_changed(work, shard)
        stale = await self._stale(work, shard, shard.deferred.span)
        keys = dict.fromkeys(stale)
        keys.update(dict.fromkeys(deferred.held_keys(work.store.scan)))
        for dirty in shard.minutes.dirty:
            keys.pop(dirty, None)  # published as every checkpoint does
        wanted = list(keys)
        for begin in range(0, len(wanted), RELEASED_AT_ONCE):
            some = wanted[begin : begin + RELEASED_AT_ONCE]
            await agent.publish(work, shard, self._counts(work, shard, some))
            agent.app.touch(work.tp)
        withdrawn = await self._withdrawals(work, shard)
        if withdrawn:
            await work.flight.send_keyed(topics.ENGAGEMENT, self._rows(shard, withdrawn))
        log.info(
            "reprocessing is complete", partition=work.tp.partition, epoch=shard.epoch,
            events=events, counts=len(keys), withdrawn=len(withdrawn),
        )  # fmt: skip

    async def _write_changed(self, work: PartitionWork, shard: Shard) -> int:
        """Writes the events that the new rules judge otherwise; returns how many."""
        agent = self._agent
        assert shard.deferred is not None
        assert agent.app is not None
        waiting = shard.deferred.changes.changed(work.store.scan)
        written = 0
        while some := list(islice(waiting, RELEASED_AT_ONCE)):
            rows = await self._rows_of(work, shard, some)
            done = Completed(
                [row for _, row in rows], [], [], [],
                {number: one.revision for number, (one, _) in enumerate(rows)}, 0, 0,
            )  # fmt: skip
            await agent.write_events(work, done)
            agent.app.touch(work.tp)
            written += len(rows)
        return written

    async def _rows_of(
        self, work: PartitionWork, shard: Shard, some: list[Changed]
    ) -> list[tuple[Changed, Enriched]]:
        """The rows of events, without those that can't be read any more."""
        agent, look_ups = self._agent, self._agent.ruling.by_epoch[shard.epoch]
        places = {one.position for one in some if one.row is None}
        if self._joins:  # only then may an event belong elsewhere than before
            places |= {one.standing for one in some if one.standing >= 0}
        found: dict[int, Any] = {}
        if places:
            async with agent.source(agent.settings, topics.ENRICHED, work.tp.partition) as stored:
                for first, last in stretches_around(sorted(places)):
                    begin = max(first, stored.begin)
                    async for records, _ in stored.read(begin, last + 1, SCANNED_AT_ONCE):
                        found |= {each.offset: each for each in records if each.offset in places}
        rows = [
            (one, agent.erasing.redacted_row(released(one, found, look_ups, agent.codec)))
            for one in some if one.row is not None or one.position in found
        ]  # fmt: skip
        if len(rows) < len(some):
            log.error(
                "events could not be corrected: the enriched topic does not hold them any more",
                partition=work.tp.partition, events=len(some) - len(rows),
            )  # fmt: skip
        return rows

    @staticmethod
    def _counts(
        work: PartitionWork, shard: Shard, keys: Iterable[Key]
    ) -> Iterator[tuple[Key, list[int]]]:
        """Absolute counts as stored; zeros for a key that the new rules don't have."""
        some = [key for key in keys if key[2] >= shard.minutes.closed_before]
        stored = work.store.get_many([pack_key(key) for key in some])
        for key, data in zip(some, stored, strict=True):
            yield key, shard.minutes.zero() if data is None else vectors.unpack(data)

    async def _stale(self, work: PartitionWork, shard: Shard, span: Span) -> list[Key]:
        found = []
        async for records in self._batches(work, topics.MINUTES):
            for record in records:
                try:
                    key, *place, version = read_place(record.value, PREFIX_BYTES)
                except Exception:  # a tombstone, another producer's, or broken: not ours
                    continue
                ours = place == [shard.log_id, shard.partition]
                if ours and deferred.is_stale(version, shard.epoch, span.begin):
                    found.append(key)
        return found

    async def _withdrawals(self, work: PartitionWork, shard: Shard) -> list[dict[str, Any]]:
        kept = shard.deferred
        assert kept is not None
        wrong = Withdrawals(
            shard.log_id, shard.partition, kept.span,
            lambda ids: kept.seen(work.store.get_many, ids),
        )  # fmt: skip
        async for records in self._batches(work, topics.ENGAGEMENT):
            values = [record.value for record in records if record.value is not None]
            decoded, _ = self._agent.codec.decode_batch(values, "engagement")
            wrong.add(record for _, record in decoded)
        return wrong.records()

    async def _batches(self, work: PartitionWork, topic: str) -> AsyncIterator[list[Any]]:
        """All records that the topic holds now, in order within each partition."""
        agent = self._agent
        assert agent.app is not None
        async with reader(agent.settings, topic) as whole:
            await whole.begin()
            async for records in whole.batches(records_max=SCANNED_AT_ONCE):
                yield records
                agent.app.touch(work.tp)

    def _rows(self, shard: Shard, records: Iterable[dict[str, Any]]) -> Iterator[Row]:
        for record in records:
            identity = f"{record['event_id']}-{record['offset']}-{shard.epoch}"
            headers = cloud_event("engagement", cloudevents.ENRICH, identity, record["occurred_at"])
            key = address_identity(record["recipient"] or "").encode("utf-8", "replace")
            value = self._agent.codec.encode("engagement", record)
            yield Row(key, value, shard.log_time * 1000, headers)

    def end(self, work: PartitionWork, shard: Shard) -> None:
        """Ends reprocessing of the partition, when everything is released and stored."""
        for begin, end in deferred.KEPT:
            work.store.delete_range(begin, end)
        shard.deferred = None


def _number(history: History) -> int:
    newest = history.newest
    return 0 if newest is None else newest.number


def released(one: Changed, found: Mapping[int, Any], look_ups: LookUps, codec: Codec) -> Enriched:
    """The record of an event that is judged otherwise, as ``one`` says.

    If the event stands under another campaign or message, the record says which, so that it does
    not stand there any more: imported history may tell what live events did not.

    Args:
        found: records of the enriched topic by offset: the one that says the same, where ``one``
            has no row, and the one that stands, where it may be elsewhere.
    """
    stands = found.get(one.standing)
    if one.row is None:
        record = found[one.position]
        key, value, timestamp = record.key, record.value, record.timestamp
    else:
        key, value, timestamp = one.row
        if stands is None:
            return one.row
    end, said = codec.enrichment_of(value)
    campaign, message = said["campaign_id"] or "", said["message_key"]
    before = said if stands is None else codec.enrichment_of(stands.value)[1]
    was_campaign, was_message = before["campaign_id"] or "", before["message_key"]
    if one.row is not None and (was_campaign, was_message) == (campaign, message):
        return one.row
    value = reissued(
        value, end, said, look_ups, version=one.version, revision=one.revision,
        previous_campaign=was_campaign if was_campaign != campaign else None,
        previous_key=bytes.fromhex(was_message) if was_message != message else None,
    )  # fmt: skip
    return key, value, timestamp
