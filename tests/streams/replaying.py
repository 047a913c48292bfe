"""``enrich`` on one partition as its shell runs it, over topics in memory.

The topics keep everything; in ClickHouse the highest version of a key counts. Both are read as
consumers read them.
"""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, NamedTuple, cast

from schemas.glossary import COUNTER_NAMES
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW
from schemas.versions import ROW_OFFSET_BITS
from streams.classify.actor_rules import Rules
from streams.enrich import deferred, vectors
from streams.enrich.changes import Changes
from streams.enrich.deferred import Deferred, Withdrawals
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.epochs import Epoch, History, Ruling, Span
from streams.enrich.minute_counts import Key, pack_key
from streams.enrich.revisions import first_pending, restate
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.enrich.telling import Told
from streams.transport.chunks import TP
from streams.worker.comparing import Comparison
from streams.worker.enrich_agent import slices
from streams.worker.raw_records import RawRecords
from streams.worker.reprocessing import released
from streams.worker.restore import Restorer
from tests.streams.folding import CODEC, LOG, Disk, LogRecord, completed

NO_SETTINGS = cast(Settings, None)
"""No client is made."""
LAX = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
STRICT = (
    LAX.replace("version = 2", "version = 3", 1)
    .replace("open_too_soon_s = 0", "open_too_soon_s = 90.0")
    .replace("click_too_soon_s = 0", "click_too_soon_s = 150.0")
    .replace("links_min = 5", "links_min = 2")
    .replace("agents_min = 3", "agents_min = 2")
)


class Row(NamedTuple):
    """An enriched record as Kafka holds it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes


@dataclass
class Topics:
    """Everything that was ever published."""

    enriched: list[dict[str, Any]] = field(default_factory=list)
    rows: list["Row"] = field(default_factory=list)
    begin = end = 0
    minutes: list[tuple[Key, int, list[int]]] = field(default_factory=list)
    engagement: list[dict[str, Any]] = field(default_factory=list)
    suppressions: list[Told] = field(default_factory=list)

    def send(self, key: bytes | None, value: bytes, timestamp: int) -> None:
        """Writes an enriched record."""
        self.rows.append(Row(len(self.rows), timestamp, key, value))
        self.enriched.append(CODEC.decode(value, "enriched_event"))

    @asynccontextmanager
    async def source(self, _settings: Any, topic: str, _: int) -> AsyncIterator["Topics"]:
        """Opens the enriched topic (``OpenStretches``); a ``Stretches`` of all it holds."""
        assert topic == ENRICHED, "the raw topic may have lost its records"
        self.begin, self.end = 0, len(self.rows)
        yield self

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """As ``Stretches``."""
        end = min(until, len(self.rows))
        while position < end:
            some = self.rows[position : min(end, position + records_max)]
            position += len(some)
            yield some, position

    def events(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Table ``events`` with FINAL: campaign and event id -> the current row."""
        rows: dict[tuple[str, str, str], tuple[int, bool, dict[str, Any]]] = {}
        for row in self.enriched:
            added = row["enrichment"]
            version = (added["revision"] << ROW_OFFSET_BITS) + added["version"]
            now = added["campaign_id"] or "", added["message_key"]
            before = now[0], added["previous_message_key"] or now[1]
            if added["previous_campaign_id"] is not None:
                before = added["previous_campaign_id"], before[1]
            for place, gone in dict([(before, True), (now, False)]).items():
                key = *place, row["event"]["event_id"]
                if key not in rows or version >= rows[key][0]:
                    rows[key] = (version, gone, added)
        unversioned = ("version", "revision", "previous_campaign_id", "previous_message_key")
        standing = [(key, added) for key, (_, gone, added) in rows.items() if not gone]
        assert len({event_id for (_, _, event_id), _ in standing}) == len(standing), "stored twice"
        return {
            (campaign, event_id): {
                name: value for name, value in added.items() if name not in unversioned
            }
            for (campaign, _, event_id), added in standing
        }

    def counts(self) -> dict[Key, dict[str, int]]:
        """Table ``campaign_minutes`` with FINAL, without rows of zeros."""
        rows: dict[Key, tuple[int, list[int]]] = {}
        for key, version, vector in self.minutes:
            if key not in rows or version >= rows[key][0]:
                rows[key] = (version, vector)
        named = {
            key: {n: v for n, v in zip(COUNTER_NAMES, vector, strict=True) if v}
            for key, (_, vector) in rows.items()
        }
        return {key: row for key, row in named.items() if row}

    def told(self, unstored: Container[str] = ()) -> dict[str, bool]:
        """Engagement as a consumer that knows ids sees it; publishing twice is an error.

        Args:
            unstored: events that may be published twice.
        """
        out: dict[str, bool] = {}
        seen: set[tuple[str, int, bool]] = set()
        for record in self.engagement:
            place = record["event_id"], record["offset"], record["withdrawn"]
            if place in seen:
                continue  # the same record again, after a crash
            seen.add(place)
            known = record["event_id"]
            assert record["withdrawn"] or known in unstored or not out.get(known), "told twice"
            out[record["event_id"]] = not record["withdrawn"]
        return out


class Worker:
    """``enrich`` on one partition, as the shell runs it, with every effect in ``Topics``."""

    def __init__(self, ruling: Ruling, log: Sequence[LogRecord], topics: Topics) -> None:
        self.ruling, self.log, self.topics = ruling, log, topics
        self.disk, self.committed = Disk(), 0
        self.number = ruling.now.epoch
        self.changed: list[int] = []
        """Events that the release of a run has written."""
        self.slice_records = 3

    def open(self, span: Span | None) -> None:
        """Loads or rebuilds state, as ``EnrichAgent.open``."""
        self.shard = shard = Shard(0, self.disk.get_many)
        shard.load_meta()
        shard.load_watched(self.disk.scan)
        shard.epoch = self.number
        fresh = shard.log_id != LOG
        if span is not None:
            reached = self.committed if fresh else shard.applied + 1
            if (
                reached <= span.begin
                or max(reached, self.committed) < span.until
                or (deferred.is_stored(self.disk.scan))
            ):
                shard.deferred = Deferred(span, Changes(self.disk.get_many))
        over = shard.deferred is not None and shard.deferred.is_over(shard.applied)
        if fresh or over:
            goal = shard.deferred.goal(self.committed) if shard.deferred else self.committed
            self.restore(shard, goal)
        if shard.deferred is not None and shard.applied + 1 == shard.deferred.span.begin:
            judged_at = self.ruling.judged_at(LOG, 0)
            records = self.log[first_pending(shard, self.disk.scan) : shard.applied + 1]
            self.write(restate(shard, records, judged_at, CODEC))

    def restore(self, shard: Shard, until: int) -> None:
        """Folds the enriched records below ``until`` without publishing."""
        comparison = Comparison(
            NO_SETTINGS, self.topics.source, CODEC, self.ruling, TP(RAW, 0), self.disk.scan,
            self.completing, from_ms=0, one_fold=False,
        )  # fmt: skip
        restorer = Restorer(
            NO_SETTINGS, CODEC, self.ruling, lambda _: self.store(), lambda: None,
            self.topics.source, comparison, slice_records=self.slice_records,
        )  # fmt: skip
        asyncio.run(restorer.restore(shard, LOG, until))
        shard.begin_log(LOG)
        shard.applied = max(shard.applied, until - 1)
        self.store()

    async def completing(
        self, tp: TP, shard: Shard, records: Any, effects: Effects, look_ups: LookUps,
        *, raws: RawRecords,
    ) -> Completed:  # fmt: skip
        """What ``EnrichAgent.completed`` gives a restore."""
        found = await raws.get(tp, wanted(effects))
        return complete(effects, found, codec=CODEC, look_ups=look_ups, log_id=LOG, partition=0)

    def fold(self, end: int) -> None:
        """Folds up to offset ``end``."""
        until = self.shard.deferred.span.until if self.shard.deferred else 0
        records: Any = self.log[self.shard.applied + 1 : end]
        for part in slices(records, until):
            folded = step(self.shard, part, self.ruling.now, CODEC)
            effects = self.completed(folded, self.ruling.now)
            kept = self.shard.deferred
            if kept is not None and not kept.is_past(self.shard.applied):
                kept.silence(effects)
            self.write(effects)

    def completed(self, effects: Effects, look_ups: LookUps) -> Completed:
        """What ``EnrichAgent.completed`` gives."""
        return completed(self.shard, effects, dict(enumerate(self.log)), look_ups)

    def write(self, effects: Completed) -> None:
        """What ``EnrichAgent.hand_over`` sends."""
        for row in effects.enriched:
            self.topics.send(row[0], row[1], row[2])
        self.topics.suppressions += effects.suppressions
        self.topics.engagement += [record for _, record in effects.engagement]

    def checkpoint(self, *, cut_off: bool = False) -> None:
        """Publishes or defers counts, then stores state; ``cut_off`` stops before that."""
        shard = self.shard
        kept = shard.deferred
        over = kept is None or kept.is_over(shard.applied)
        if kept is not None and over:
            self.release(kept)
        if over:
            for key, vector in shard.minutes.changed():
                self.topics.minutes.append((key, shard.as_of, list(vector)))
        if cut_off:
            return
        self.store()
        if kept is not None and over:
            for begin, end in deferred.KEPT:
                self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])
            shard.deferred = None
        self.committed = shard.applied + 1

    def release(self, kept: Deferred) -> None:
        """What ``Reprocessing.release`` publishes."""
        shard, topics = self.shard, self.topics
        for one in kept.changes.changed(self.disk.scan):
            found = dict(enumerate(topics.rows))
            topics.send(*released(one, found, self.ruling.now, CODEC))
            self.changed.append(one.offset)
        stale = {
            key
            for key, version, _ in topics.minutes
            if deferred.is_stale(version, self.number, kept.span.begin)
        }
        keys = (stale | set(deferred.held_keys(self.disk.scan))) - shard.minutes.dirty.keys()
        for key in keys:
            (data,) = self.disk.get_many([pack_key(key)])
            vector = shard.minutes.zero() if data is None else vectors.unpack(data)
            topics.minutes.append((key, shard.as_of, vector))
        wrong = Withdrawals(LOG, 0, kept.span, lambda ids: kept.seen(self.disk.get_many, ids))
        wrong.add(topics.engagement)
        topics.engagement += wrong.records()

    def store(self) -> None:
        """As ``EnrichAgent.write_shard``."""
        for begin, end in self.shard.cleared():
            self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])
        self.disk.write(self.shard.writes())
        self.shard.saved()
        for begin, end in self.shard.useless_ranges():
            self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])


def epoch(number: int, text: str, span: Span) -> Epoch:
    """An epoch of one partition."""
    return Epoch(number, LOG, number, 0, number, text, (span,))


def ruling(first: str, *epochs: Epoch) -> Ruling:
    """The ruling of ``epochs`` over workers whose own rules are ``first``."""
    history = History(e.record() for e in epochs)
    return Ruling.of(history, replace(LookUps(), rules=Rules.load(first)))
