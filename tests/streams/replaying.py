"""``enrich`` on one partition as its shell runs it, over topics in memory.

The topics keep everything; in ClickHouse the highest version of a key counts. Both are read as
consumers read them.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

from schemas.glossary import COUNTER_NAMES
from schemas.versions import ROW_OFFSET_BITS
from streams.classify.actor_rules import Rules
from streams.enrich import deferred, vectors
from streams.enrich.deferred import Deferred, Withdrawals
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects
from streams.enrich.epochs import Epoch, History, Ruling, Span
from streams.enrich.minute_counts import Key, pack_key
from streams.enrich.revisions import first_pending, restate
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.enrich.telling import Told
from streams.worker.enrich_agent import slices
from streams.worker.restore import Refolded, by_epoch
from tests.streams.folding import CODEC, LOG, Disk, LogRecord, completed

LAX = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
STRICT = (
    LAX.replace("version = 2", "version = 3", 1)
    .replace("open_too_soon_s = 0", "open_too_soon_s = 90.0")
    .replace("click_too_soon_s = 0", "click_too_soon_s = 150.0")
    .replace("links_min = 5", "links_min = 2")
    .replace("agents_min = 3", "agents_min = 2")
)


@dataclass
class Topics:
    """Everything that was ever published."""

    enriched: list[dict[str, Any]] = field(default_factory=list)
    minutes: list[tuple[Key, int, list[int]]] = field(default_factory=list)
    engagement: list[dict[str, Any]] = field(default_factory=list)
    suppressions: list[Told] = field(default_factory=list)

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
                shard.deferred = Deferred(span)
        if fresh:
            shard.begin_log(LOG)
            self.rebuild(shard)
            shard.applied = self.committed - 1
            self.store()
        if shard.deferred is not None and shard.applied + 1 == shard.deferred.span.begin:
            judged_at = self.ruling.judged_at(LOG, 0)
            records = self.log[first_pending(shard, self.disk.scan) : shard.applied + 1]
            self.write(restate(shard, records, judged_at, CODEC))

    def rebuild(self, shard: Shard) -> None:
        """Folds the committed records without publishing, as ``Restorer``."""
        run = [
            Refolded(r.offset, r.timestamp, r.key, r.value or b"", CODEC.raw_head(r.value or b""))
            for r in self.log[: self.committed]
        ]
        for look_ups, part in by_epoch(run, self.ruling.changes(LOG, 0, LOG)):
            again = shard.deferred is not None and look_ups.epoch == shard.epoch
            effects = step(shard, part, look_ups, CODEC, emit=again, read=lambda r: r.head)
            if shard.deferred is not None and again:
                shard.deferred.silence(self.completed(effects, look_ups))

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
        for _, value, _ in effects.enriched:
            self.topics.enriched.append(CODEC.decode(value, "enriched_event"))
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
            for begin, end in (
                (deferred.HELD, deferred.HELD_END),
                (deferred.TOLD, deferred.TOLD_END),
            ):
                self.disk.write([(key, None) for key, _ in self.disk.scan(begin, end)])
            shard.deferred = None
        self.committed = shard.applied + 1

    def release(self, kept: Deferred) -> None:
        """What ``Reprocessing.release`` publishes."""
        shard, topics = self.shard, self.topics
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
        """As ``EnrichAgent._write``."""
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
