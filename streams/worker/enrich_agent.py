"""The agent ``enrich``: raw events in; enriched events, minute counts and the rest out.

Invariants:
1. All counting and deciding happens in ``streams.enrich.step``; this file only moves records in
   and out.
2. Enriched records go to the partition number that the raw record came from.
3. When most of the input can't be read, the worker stops rather than dead-letter all of it.
"""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import structlog

from schemas import cloudevents, topics, trace
from schemas.cloudevents import Headers, by_identity, by_leading_text, cloud_event, leading_text
from schemas.errors import ConfigError, MailpulseError
from schemas.partition import partition_of_text
from schemas.scopes import scoped_key
from schemas.trace import Tracer
from schemas.versions import FOLD_VERSION, REVISION_EPOCH_SHIFT
from streams.enrich import minute_counts
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.epochs import Ruling, check_fold
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.enrich.telling import Told
from streams.erasure.topic import ErasureLog
from streams.reprocess.rules_topic import Rulebook
from streams.transport.chunks import TP, Chunk, Record
from streams.worker.agent import Agent
from streams.worker.erasing import Erasing
from streams.worker.gathering import Gathering
from streams.worker.outputs import Row, RowLike
from streams.worker.raw_records import HasValue, RawRecords
from streams.worker.reprocessing import Reprocessing
from streams.worker.restore import Restorer
from streams.worker.snapshot_manifest import Lineage, Standing
from streams.worker.work import PartitionWork, Resources

log = structlog.get_logger(__name__)

Traces = Mapping[bytes, bytes]
SLICE_RECORDS = 500
"""Records folded before the event loop gets a turn: about 10 ms of work."""
RESTORE_RECORDS = 1_000
"""The same where state is restored: about 25 ms."""
SWEEP_ENTRIES = 1000
"""Most stored messages checked for expiry at a checkpoint: about a millisecond."""
END_ASKED_TIMES = 10
DEAD_LETTER_SHARE_MAX = 0.2
DEAD_LETTER_WINDOW = 10_000
"""Over this share of the last records dead-lettered, the worker stops rather than send the rest."""


class TooManyDeadLetters(MailpulseError):
    """Most of the input can't be read: something is wrong that a person must see."""


class LogMismatch(MailpulseError):
    """The log is shorter than the state built from it: it was recreated under its old id."""


class EnrichAgent(Agent):
    """Raw events in; enriched events, minute counts, suppressions and engagement out."""

    topic = topics.RAW
    name = "enrich"
    rebuilt_from = topics.ENRICHED

    def __init__(
        self,
        shared: Resources,
        *,
        ruling: Ruling,
        rulebook: Rulebook | None,
        erasures: ErasureLog | None,
        tracer: Tracer | None,
        verify: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(shared)
        self.ruling = ruling
        self.reprocessing = Reprocessing(self, rulebook)
        self.erasing = Erasing(erasures, shared.codec, ruling.now)
        self.tracer = tracer
        self._verify = verify
        self.shards: dict[TP, Shard] = {}
        self.raw = RawRecords(shared.settings, shared.source)
        self._recent: deque[tuple[int, int]] = deque()
        self._gathering = Gathering(shared.outputs)

    async def open(self, work: PartitionWork) -> None:
        """Loads the shard and folds what other workers have committed since."""
        try:
            await self._open_by_rules(work)
        except ConfigError:  # what is committed was folded by another version
            if not self.reprocessing.give_up_live(work):
                raise
            await self._open_by_rules(work)

    async def _open_by_rules(self, work: PartitionWork) -> None:
        assert self.app is not None
        committed = await self.reprocessing.begin(work, self._store_name(work.tp))
        ruling = self.reprocessing.ruling_of(work.tp)
        shard = Shard(work.tp.partition, work.store.get_many)
        shard.load_meta()
        check_fold(shard.fold, ruling.newest)
        shard.load_watched(work.store.scan)
        self.check_unnoted(work, shard.log_id == self.log_id, shard.applied + 1, committed)
        await self.erasing.fresh()
        self.erasing.opened(work, shard)
        self.shards[work.tp] = shard
        self.reprocessing.resume(work, shard, committed)
        has_state = shard.log_id == self.log_id
        is_switched = shard.deferred is not None and shard.deferred.is_over(shard.applied)
        if not has_state or shard.applied + 1 < committed or is_switched:
            # before a switch, what was written last is compared too
            goal = committed if shard.deferred is None else shard.deferred.goal(committed)
            async with self.openings.turn(goal - max(0, shard.applied) if has_state else goal):
                folded = await self._restorer(work, shard, ruling).restore(shard, self.log_id, goal)
            self.metrics.restored.inc(folded)
            if shard.begin_log(self.log_id):
                shard.applied = goal - 1
            shard.applied = max(shard.applied, goal - 1)
            self.write_shard(work, shard)
            log.info("state restored", partition=work.tp.partition, records=folded)
        await self._check_end(work.tp, shard)
        await self.reprocessing.restate(work, shard)
        if shard.applied >= 0:
            work.next_offset = shard.applied + 1

    def _restorer(self, work: PartitionWork, shard: Shard, ruling: Ruling) -> Restorer:
        source = self.source_beside(work)
        comparison = self.reprocessing.comparison(work, source) if shard.deferred else None
        return Restorer(
            self.settings, self.codec, ruling, lambda s: self.write_shard(work, s), work.touch,
            source, comparison, slice_records=RESTORE_RECORDS, erasing=self.erasing,
        )  # fmt: skip

    async def _check_end(self, tp: TP, shard: Shard) -> None:
        """Checks that the log reaches as far as the state built from it.

        The end is asked for several times: that of some brokers lags for a moment.

        Raises:
            LogMismatch: it does not.
        """
        assert self.app is not None
        for _ in range(END_ASKED_TIMES):
            end = await self.app.end_offset(tp)
            if shard.applied < end:
                return
            await asyncio.sleep(1.0)
        raise LogMismatch(
            f"{tp.topic}/{tp.partition} ends at {end}, but its state holds offset {shard.applied} "
            f"of log {self.log_id}: the topic was recreated under the same MAILPULSE_LOG_ID; set "
            "another one"
        )

    def lost(self, tp: TP, first: int, until: int) -> None:
        """See ``Agent.lost``; counted too."""
        self.metrics.records.labels("lost").inc(until - first)
        super().lost(tp, first, until)

    async def process(self, work: PartitionWork, chunk: Chunk) -> None:
        """Folds a chunk once ``verify`` has said that it is of this log; traced, it is a span."""
        await self._verify()
        await self.erasing.fresh()
        traces = trace.by_event(chunk.records)
        if not traces:
            await self._process(work, chunk, traces)
            return
        figures = {"mailpulse.partition": chunk.tp.partition, "mailpulse.offset": chunk.first,
                   "mailpulse.records": len(chunk.records)}  # fmt: skip
        links = trace.of_records(chunk.records)
        with trace.span(self.tracer, "enrich", "consumer", links=links, attributes=figures):
            await self._process(work, chunk, traces)

    async def _process(self, work: PartitionWork, chunk: Chunk, traces: Traces) -> None:
        """Folds a chunk slice by slice; the event loop gets a turn after each."""
        if not work.live:
            return
        shard = self.shards[work.tp]
        look_ups = self.ruling.by_epoch[shard.epoch]
        records = chunk.records
        for part in slices(records, shard.deferred.span.until if shard.deferred else 0):
            if shard.deferred is not None and shard.deferred.is_over(shard.applied):
                await self.checkpoint(work)  # what is deferred comes before what is new
            async with work.lock:
                if not work.live:
                    return
                self.erasing.forget(work, shard)
                redacted = self.erasing.redact(part, shard)
                work.handing_over = True
                effects = step(shard, redacted, look_ups, self.codec)
                self._limit_dead_letters(effects)
                self._measure(effects)
                self.raw.note(work.tp, redacted)
                done = await self.completed(work.tp, shard, redacted, effects, look_ups)
                await self.hand_over(work, shard, done, traces)
                work.since_checkpoint += len(part)
                work.handing_over = False
            await asyncio.sleep(0)
        async with work.lock:
            if work.live and chunk.last > shard.applied:
                shard.applied = chunk.last  # offsets without records at the chunk's end
                work.since_checkpoint += 1
        if records:
            age = time.time() - records[-1].timestamp / 1000
            self.metrics.event_age_seconds.labels(str(work.tp.partition)).set(max(0.0, age))

    async def completed(
        self,
        tp: TP,
        shard: Shard,
        records: Sequence[HasValue],
        effects: Effects,
        look_ups: LookUps,
        raws: RawRecords | None = None,
    ) -> Completed:
        """The effects of a step, with the raw records that its corrections carry.

        Args:
            records: what was folded.
            raws: where earlier raw records are found; default: those of live events.
        """
        found: dict[int, bytes] = {}
        offsets = wanted(effects)
        if offsets:
            found = {r.offset: r.value for r in records if r.offset in offsets and r.value}
            found |= await (raws or self.raw).get(
                tp, offsets - found.keys(), lambda records: self.erasing.redact(records, shard)
            )
        done = complete(
            effects, found, codec=self.codec, look_ups=look_ups, log_id=shard.log_id,
            partition=shard.partition,
        )  # fmt: skip
        if done.lost:
            self.metrics.corrections.labels("lost").inc(done.lost)
            log.error(
                "events could not be corrected: the raw topic does not hold them any more, its "
                "retention is shorter than the correction window and the worker's lag",
                topic=tp.topic, partition=tp.partition, events=done.lost,
            )  # fmt: skip
        return done

    def _measure(self, effects: Effects) -> None:
        metrics = self.metrics.records
        metrics.labels("duplicate").inc(effects.duplicates)
        metrics.labels("replayed").inc(effects.replayed)
        metrics.labels("dead_letter").inc(len(effects.dead_letters))
        self.metrics.scopes_beyond.inc(effects.scopes_beyond)
        self.metrics.ambiguous.inc(effects.ambiguous)

    def _limit_dead_letters(self, effects: Effects) -> None:
        self._recent.append((effects.read, len(effects.dead_letters)))
        read = sum(count for count, _ in self._recent)
        while read - self._recent[0][0] >= DEAD_LETTER_WINDOW:
            read -= self._recent.popleft()[0]
        dead = sum(count for _, count in self._recent)
        if read >= DEAD_LETTER_WINDOW and dead > DEAD_LETTER_SHARE_MAX * read:
            _tell(effects.dead_letters)
            raise TooManyDeadLetters(
                f"{dead} of the last {read} raw records can't be read (limit "
                f"{DEAD_LETTER_SHARE_MAX:.0%}): stopping; look at 'mailpulse dlq ls'"
            )

    async def hand_over(
        self,
        work: PartitionWork,
        shard: Shard,
        effects: Completed,
        traces: Traces = trace.NO_TRACES,
    ) -> None:
        """Sends the effects of one step."""
        flight = work.flight
        again = shard.deferred is not None and not shard.deferred.is_past(shard.applied)
        if shard.deferred is not None and again:
            shard.deferred.silence(effects)
        if effects.enriched:
            rows = enriched_rows(
                effects, traces, shard.epoch << REVISION_EPOCH_SHIFT if again else 0
            )
            await flight.send_to(topics.ENRICHED, work.tp.partition, rows)
        now_ms = shard.log_time * 1000
        for topic, scoped in ((topics.SUPPRESSIONS, False), (topics.SCOPED_SUPPRESSIONS, True)):
            some = [one for one in effects.suppressions if bool(one.addressee.scope) == scoped]
            if some:
                await flight.send_keyed(topic, self._suppressions(some, now_ms))
        if effects.engagement:
            await flight.send_keyed(topics.ENGAGEMENT, self._engagement(effects, now_ms))
        if effects.dead_letters:
            _tell(effects.dead_letters)
            await flight.send_keyed(topics.DEAD_LETTERS, self._dead_letters(effects))
        self.metrics.records.labels("enriched").inc(len(effects.enriched) - effects.corrected)
        self.metrics.corrections.labels("written").inc(effects.corrected)

    async def write_events(self, work: PartitionWork, done: Completed) -> None:
        """Sends enriched events that were completed before."""
        await work.flight.send_to(topics.ENRICHED, work.tp.partition, enriched_rows(done))

    def _suppressions(self, some: Iterable[Told], now_ms: int) -> Iterable[Row]:
        for (recipient, source, scope), record, offset, time_ms in some:
            text = scoped_key(recipient, source, scope) if scope else recipient
            key = text.encode("utf-8", "replace")
            if record is None:
                headers = self._headers("suppression", f"{text}-lifted-{offset}", time_ms * 1000)
                yield Row(key, None, now_ms, headers)
                continue
            identity = f"{record['evidence_event_id']}-{record['reason']}-{offset}"
            headers = self._headers("suppression", identity, record["since"])
            yield Row(key, self.codec.encode("suppression", record), now_ms, headers)

    def _engagement(self, effects: Completed, now_ms: int) -> Iterable[Row]:
        for recipient, record in effects.engagement:
            # Published, withdrawn and published again are three events, told apart by offset.
            identity = f"{record['event_id']}-{record['offset']}"
            headers = self._headers("engagement", identity, record["occurred_at"])
            value = self.codec.encode("engagement", record)
            yield Row(recipient.encode("utf-8", "replace"), value, now_ms, headers)

    def _dead_letters(self, effects: Completed) -> Iterable[Row]:
        for record in effects.dead_letters:
            identity = record["dead_letter_id"]
            headers = self._headers("dead_letter", identity, record["occurred_at"])
            yield Row(
                identity.encode(),
                self.codec.encode("dead_letter", record),
                record["occurred_at"] // 1000,
                headers,
            )

    def _headers(self, kind: str, identity: str, time_us: int) -> Headers:
        return cloud_event(kind, cloudevents.ENRICH, identity, time_us)

    async def before_checkpoint(self, work: PartitionWork) -> None:
        """Publishes the minutes that changed, as absolute counts as of the shard's offset."""
        shard = self.shards[work.tp]
        if shard.deferred is not None:
            if not shard.deferred.is_over(shard.applied):
                return
            await self.reprocessing.release(work, shard)
        if shard.minutes.dirty:
            await self.publish(work, shard, shard.minutes.changed())

    async def publish(
        self,
        work: PartitionWork,
        shard: Shard,
        changed: Iterable[tuple[minute_counts.Key, list[int]]],
    ) -> None:
        """Sends absolute counts as of the shard's epoch and offset."""
        count = await self.outputs.partitions(topics.MINUTES)
        rows: dict[int, list[RowLike]] = {}
        now_ms = shard.log_time * 1000
        frame, as_of = self.codec.prefix("campaign_minute"), f"\x1f{shard.as_of}".encode()
        headers_of = by_identity("campaign_minute", cloudevents.ENRICH, now_ms * 1000)
        for key, vector in changed:
            record = minute_counts.record(key, vector, shard.log_id, shard.partition, shard.as_of)
            record_key = minute_counts.record_key(key, shard.log_id, shard.partition)
            # By campaign alone, so that all partials of a campaign are in one partition.
            rows.setdefault(partition_of_text(key[0], count), []).append(
                (record_key, frame + record, now_ms, headers_of(record_key + as_of))
            )
        for partition, some in rows.items():
            await self._gathering.add(work.flight, topics.MINUTES, partition, some)
            self.metrics.partials.labels("written").inc(len(some))

    def store_state(self, work: PartitionWork) -> int:
        """Stores the shard."""
        assert self.app is not None
        shard = self.shards[work.tp]
        end = work.flight.ends.get((topics.ENRICHED, work.tp.partition))
        if end is not None:
            shard.wrote_up_to(end)
        committed = self.app.committed_now(work.tp) or 0
        shard.committed(committed)
        self.reprocessing.note_committed(work.tp, committed)
        self.write_shard(work, shard)
        if shard.deferred is not None and shard.deferred.is_over(shard.applied):
            self.reprocessing.end(work, shard)
        return shard.applied + 1

    def write_shard(self, work: PartitionWork, shard: Shard) -> None:
        """Stores a shard's changes, and removes what it no longer needs."""
        work.store.write(shard.writes(), offset=shard.applied, cleared=shard.cleared())
        shard.saved()
        for begin, end in shard.useless_ranges():
            work.store.delete_range(begin, end)
        budget = shard.sweep_budget(SWEEP_ENTRIES)
        if budget == 0:
            return
        expired = shard.expired(work.store.scan, self.ruling.now.message_ttl_s, budget)
        if expired:
            work.store.write(expired, offset=shard.applied)

    def lineages(self, tp: TP) -> frozenset[Lineage]:
        """See ``Agent.lineages``."""
        return frozenset({Lineage(self.log_id, self.reprocessing.epoch_of(tp), FOLD_VERSION)})

    def standing(self, work: PartitionWork) -> Standing | None:
        """See ``Agent.standing``; none while counts of an epoch are deferred."""
        shard = self.shards[work.tp]
        if work.next_offset is None or shard.deferred is not None:
            return None
        lineage = Lineage(shard.log_id, shard.epoch, FOLD_VERSION)
        return Standing(lineage, work.next_offset, shard.outputs_end, shard.erased_through)

    def reached(self, tp: TP) -> int:
        """See ``Agent.reached``."""
        return self.shards[tp].applied + 1

    def forget(self, tp: TP) -> None:
        """Drops the shard from memory."""
        self.shards.pop(tp, None)
        self.raw.forget(tp)


def _tell(letters: Sequence[Mapping[str, Any]]) -> None:
    """Logs the dead letters of one step: one line per reason, naming its first record."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for letter in letters:
        by_reason.setdefault(letter["reason"], []).append(letter)
    for reason, alike in by_reason.items():
        first = alike[0]
        log.warning(
            "records can't be read: dead letters", reason=reason, detail=first["detail"],
            records=len(alike), partition=first["partition"], offset=first["offset"],
        )  # fmt: skip


def slices(records: Sequence[Record], until: int) -> Iterator[Sequence[Record]]:
    """Parts to be folded one by one; none has records on both sides of offset ``until``."""
    begin = 0
    while begin < len(records):
        end = begin + SLICE_RECORDS
        if records[begin].offset < until <= records[min(end, len(records)) - 1].offset:
            end = bisect_left(records, until, begin, min(end, len(records)), key=_offset_of)
        yield records[begin:end]
        begin = end


_offset_of = attrgetter("offset")
_event_headers = by_leading_text("enriched_event", cloudevents.ENRICH)


def enriched_rows(
    effects: Completed, traces: Traces = trace.NO_TRACES, revision: int = 0
) -> Iterable[RowLike]:
    """Enriched events with their headers; a later revision of one is an event of its own.

    Args:
        traces: event id -> trace, for records of the chunk that carry one.
        revision: of the events that are not in ``effects.revised``.
    """
    headers_of, rows, revised = _event_headers, effects.enriched, effects.revised
    if not revised and not traces and not revision:
        for key, value, timestamp in rows:
            yield key, value, timestamp, headers_of(value, timestamp)
        return
    for number, (key, value, timestamp) in enumerate(rows):
        mine = revised.get(number, revision)
        if mine:
            identity = f"{leading_text(value).decode()}-{mine}"
            headers = cloud_event("enriched_event", cloudevents.ENRICH, identity, timestamp * 1000)
        else:
            headers = headers_of(value, timestamp)
        if traces and (context := traces.get(leading_text(value))):
            headers = trace.with_trace(headers, context)
        yield key, value, timestamp, headers
