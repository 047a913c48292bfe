"""The agent ``campaigns``: minute counts in; rates and incidents out.

Invariants:
1. Merging is idempotent (``streams.campaigns.windows``), so reading a partial again changes
   nothing.
2. Rates of campaigns whose sums changed, by partials or by time alone, are published once per
   ``rates_interval_ms`` (less often where that would take more than ``PUBLISH_SHARE_MAX``), and
   always before the checkpoint that forgets that they changed.
3. ``as_of`` of rates is this host's clock; everything else is a function of the partials read. A
   window of n minutes is published when its last minute has ended; ``total`` includes the running
   minute.
4. Windows move with time alone: rates are published whether or not records come, and after a pause
   also those of campaigns whose windows have become empty.
5. Incidents are judged by the log's time (``CampaignState.log_time_us``).
6. Records of incidents are read back from their topic when a partition is opened. So a worker
   without the earlier state opens none of them again, and closes those that another one opened.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from schemas import cloudevents, topics
from schemas.cloudevents import cloud_event
from schemas.codec import PREFIX_BYTES, Codec
from schemas.errors import DecodeError, MailpulseError
from schemas.glossary import COUNTER_NAMES
from streams.campaigns.incidents import look, recalled
from streams.campaigns.lines import Lines
from streams.campaigns.rates import MINUTE_US, encode_rates
from streams.campaigns.state import FORM, CampaignState
from streams.campaigns.windows import Partial, PartialKey, Windows
from streams.enrich.minute_counts import read_record
from streams.transport.chunks import TP, Chunk, Record
from streams.worker.agent import Agent
from streams.worker.outputs import Row
from streams.worker.pace import pause_s
from streams.worker.snapshot_manifest import Lineage, Standing
from streams.worker.work import PartitionWork, Resources

log = structlog.get_logger(__name__)

SLICE_RECORDS = 1000
PUBLISH_SHARE_MAX = 0.1
"""Share of a core, for all partitions of a worker: with very many active campaigns rates are
published, and checkpoints that need them made, less often, so that other work goes on."""
PUBLISH_PAUSE_S_MAX = 10.0
PUBLISH_SLICE = 50
"""Campaigns published before the event loop gets a turn."""


def _parts(campaigns: Sequence[str]) -> Iterator[Sequence[str]]:
    """What is published before the event loop gets a turn."""
    for begin in range(0, len(campaigns), PUBLISH_SLICE):
        yield campaigns[begin : begin + PUBLISH_SLICE]


def partials_of(codec: Codec, records: Iterable[Record]) -> tuple[list[Partial], list[Record]]:
    """Decoded partials in order, and the records that are not partials."""
    out = []
    bad = []
    frame = codec.prefix("campaign_minute")
    for record in records:
        value = record.value
        if value is None:
            continue
        try:
            out.append(_partial(codec, frame, value))
        except DecodeError:
            bad.append(record)
    return out, bad


def _partial(codec: Codec, frame: bytes, value: bytes) -> Partial:
    if value.startswith(frame):
        try:
            (campaign, mailbox, minute), log_id, partition, offset, counts = read_record(
                value, PREFIX_BYTES
            )
        except Exception:  # unusual or broken: the general decoder decides
            pass
        else:
            return Partial(PartialKey(campaign, mailbox, minute, log_id, partition), offset, counts)
    fields = codec.decode(value, "campaign_minute")
    key = PartialKey(
        fields["campaign_id"], fields["mailbox_provider"], fields["minute"] // 60_000,
        fields["log_id"], fields["partition"],
    )  # fmt: skip
    return Partial(key, fields["offset"], tuple(fields[name] for name in COUNTER_NAMES))


class CampaignsAgent(Agent):
    """Merges partials into rolling windows and publishes them."""

    topic = topics.MINUTES
    name = "campaigns"
    rebuilt_from = topics.MINUTES

    def __init__(self, shared: Resources, *, lines: Lines, now_ns: Callable[[], int]) -> None:
        super().__init__(shared)
        self._now_ns = now_ns
        self.lines = lines
        self.states: dict[TP, CampaignState] = {}
        self.windows: dict[TP, Windows] = {}
        self._due_at = 0.0
        self._looked: dict[TP, tuple[float, bool]] = {}
        self._interval_s = 0.0
        self._spent_s = 0.0

    async def open(self, work: PartitionWork) -> None:
        """Loads the state, reads what other workers merged since, and fills the windows."""
        assert self.app is not None
        state = CampaignState(work.store.get_many, work.store.scan)
        state.restore()
        committed = self.app.committed_now(work.tp) or 0
        self.check_unnoted(work, state.log_id == self.log_id, state.applied + 1, committed)
        end = await self.app.end_offset(work.tp)
        if state.log_id != self.log_id or state.applied >= end:
            state.begin_log(self.log_id)  # the topics were recreated
        windows = Windows(state, self._minute_now(), state.judge_also)
        self.states[work.tp], self.windows[work.tp] = state, windows
        if state.applied + 1 < committed:
            async with self.openings.turn(committed - state.applied - 1):
                await self._catch_up(work, state, windows, committed)
        await self._recall_alerts(work, state)
        windows.series.clear()
        windows.fill(state.seen_through_us // 60_000_000)
        windows.changed |= state.busy()
        if state.applied >= 0:
            work.next_offset = state.applied + 1

    async def _catch_up(
        self, work: PartitionWork, state: CampaignState, windows: Windows, until: int
    ) -> None:
        """Merges partials below ``until`` that this worker's state does not hold."""
        source = self.source_beside(work)
        async with source(self.settings, work.tp.topic, work.tp.partition) as minutes:
            position = max(minutes.begin, state.applied + 1)
            async for records, end in minutes.read(position, until, SLICE_RECORDS):
                partials, _ = partials_of(self.codec, records)
                state.note_histories(partials)
                windows.apply(partials)
                self.metrics.restored.inc(len(partials))
                if records:
                    then_us = records[-1].timestamp * 1000  # another worker read it then
                    state.read_until(then_us, then_us)
                state.applied = end - 1
                self._write(work, state, windows)

    async def _recall_alerts(self, work: PartitionWork, state: CampaignState) -> None:
        """Restores incidents from the records that were sent (invariant 6).

        A campaign's incidents have the same partition number as its minutes.
        """
        assert self.app is not None
        place = TP(topics.ALERTS, work.tp.partition)
        end = await self.app.end_offset(place)
        if end == state.alerts_read:
            return
        async with self.source_beside(work)(self.settings, *place) as alerts:
            begin = state.alerts_read if state.alerts_read < end else 0  # it was recreated
            async for records, read in alerts.read(max(alerts.begin, begin), end, SLICE_RECORDS):
                values = [record.value for record in records if record.value is not None]
                decoded, _ = self.codec.decode_batch(values, "alert")
                state.hold(recalled((alert for _, alert in decoded), state.held))
                state.alerts_read = read

    async def process(self, work: PartitionWork, chunk: Chunk) -> None:
        """Merges a chunk slice by slice."""
        state, windows = self.states[work.tp], self.windows[work.tp]
        records = chunk.records
        for begin in range(0, len(records), SLICE_RECORDS):
            async with work.lock:
                if not work.live:
                    return
                part = records[begin : begin + SLICE_RECORDS]
                partials, bad = partials_of(self.codec, part)
                for record in bad:
                    log.error(
                        "minutes record skipped: not a campaign_minute",
                        topic=work.tp.topic, partition=work.tp.partition, offset=record.offset,
                    )  # fmt: skip
                state.note_histories(partials)
                applied = windows.apply(partials)
                self.metrics.partials.labels("merged").inc(applied)
                self.metrics.partials.labels("stale").inc(len(partials) - applied)
                state.applied = max(state.applied, part[-1].offset)
                state.read_until(part[-1].timestamp * 1000, self._now_ns() // 1000)
                work.since_checkpoint += len(part)
            await asyncio.sleep(0)
        async with work.lock:
            if work.live and chunk.last > state.applied:
                state.applied = chunk.last
                work.since_checkpoint += 1

    async def tick(self) -> None:
        """Moves windows to the present and publishes what changed. Call it often."""
        now = time.monotonic()
        if now < self._due_at:
            return
        for work in self.works():
            closed = self._work.get(work.tp) is not work or not work.live
            if closed or not self._is_due(work.tp, now):
                continue
            async with self.rebuilding(work), work.lock:
                if self._work.get(work.tp) is not work:
                    continue  # closed while this waited for the lock
                await self._publish(work)
        self._due_at = now + self._pause_s(0.0)

    def _is_due(self, tp: TP, now: float) -> bool:
        """Whether a partition's rates are to be looked at: once per interval, or at once when
        counts come after a look that found nothing."""
        looked_at, had_news = self._looked.get(tp, (-math.inf, False))
        if now - looked_at >= self.settings.rates_interval_ms / 1000:
            return True
        return not had_news and bool(self.windows[tp].changed)

    async def checkpoint(self, *works: PartitionWork) -> None:
        """See ``Agent.checkpoint``; what it publishes is within the same budget."""
        await super().checkpoint(*works)
        if works:
            self._interval_s = self._pause_s(0.0)
            self._due_at = max(self._due_at, time.monotonic() + self._interval_s)

    @property
    def checkpoint_interval_s(self) -> float:
        """See ``Agent.checkpoint_interval_s``."""
        return max(self._interval_s, super().checkpoint_interval_s)

    def _pause_s(self, least_s: float) -> float:
        """The pause after what was published since the last call."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return pause_s(spent_s, PUBLISH_SHARE_MAX, least_s, PUBLISH_PAUSE_S_MAX)

    async def _publish(self, work: PartitionWork) -> None:
        if work.handing_over:
            raise MailpulseError(f"{work.tp}: rates were not all sent")
        work.handing_over = True
        windows = self.windows[work.tp]
        # a clock that was set back publishes nothing from before what it has published
        now_us = max(self._now_ns() // 1000, windows.minute * MINUTE_US)
        windows.advance(now_us // MINUTE_US)
        changed, windows.changed = sorted(windows.changed), set()
        rows: list[Row] = []
        for some in _parts(changed):
            with self._publishing():
                rows += [self._rates_row(work.tp, campaign, now_us) for campaign in some]
            await asyncio.sleep(0)
        self._looked[work.tp] = (time.monotonic(), bool(rows))
        if rows:
            await work.flight.send_keyed(topics.RATES, rows)
            self.metrics.rates.inc(len(rows))
        await self._judge(work, self.states[work.tp])
        work.handing_over = False

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Counts the CPU time of what publishes; nothing else may run meanwhile."""
        begun_s = time.thread_time()
        yield
        self._spent_s += time.thread_time() - begun_s

    def _rates_row(self, tp: TP, campaign: str, now_us: int) -> Row:
        revision = now_us // 1000
        value = self.codec.prefix("campaign_rates") + encode_rates(
            self.windows[tp], campaign, as_of_us=now_us,
            complete_through_us=self.states[tp].seen_through_us, revision=revision,
        )  # fmt: skip
        headers = cloud_event(
            "campaign_rates", cloudevents.CAMPAIGNS, f"{campaign}-{revision}", now_us
        )
        return Row(campaign.encode(), value, now_us // 1000, headers)

    async def _judge(self, work: PartitionWork, state: CampaignState) -> None:
        """Publishes what changed of incidents.

        Time alone opens none: what leaves a window makes no news of what stays.
        """
        if not state.seen_through_us:
            return  # nothing was read yet, so there is no time
        at_us = state.log_time_us(self._now_ns() // 1000)
        rows: list[Row] = []
        for some in _parts(sorted(state.due())):
            with self._publishing():
                for campaign in some:
                    judged = state.judged_of(campaign)
                    records, changed = look(campaign, judged, state.held, self.lines, at_us)
                    if changed:
                        work.since_checkpoint += 1  # they must be stored
                        state.hold(changed)
                    rows += [self._row(record) for record in records]
            await asyncio.sleep(0)
        if rows:
            await work.flight.send_keyed(topics.ALERTS, rows)

    def _row(self, record: dict[str, Any]) -> Row:
        as_of = record["as_of"]
        is_change = as_of == record["changed_at"]
        self.metrics.alerts.labels(record["state"] if is_change else "refreshed").inc()
        identity = f"{record['incident_id']}-{record['sequence']}-{as_of}"
        headers = cloud_event("alert", cloudevents.CAMPAIGNS, identity, as_of)
        value = self.codec.encode("alert", record)
        return Row(record["campaign_id"].encode(), value, as_of // 1000, headers)

    async def before_checkpoint(self, work: PartitionWork) -> None:
        """Publishes what changed since the last time (invariant 2)."""
        if work.since_checkpoint:
            await self._publish(work)

    def store_state(self, work: PartitionWork) -> int:
        """Stores the state."""
        state, windows = self.states[work.tp], self.windows[work.tp]
        self._write(work, state, windows)
        windows.forget_quiet()
        return state.applied + 1

    def _write(self, work: PartitionWork, state: CampaignState, windows: Windows) -> None:
        for campaign, mailbox in windows.touched:
            state.touch(campaign, mailbox, windows.of_campaign(campaign)[mailbox])
        windows.touched.clear()
        work.store.write(state.writes(), offset=state.applied)
        state.saved()

    def lineages(self, tp: TP) -> frozenset[Lineage]:
        """See ``Agent.lineages``; absolute counts of every epoch are merged alike."""
        return frozenset({Lineage(self.log_id, 0, FORM)})

    def standing(self, work: PartitionWork) -> Standing | None:
        """See ``Agent.standing``."""
        if work.next_offset is None:
            return None
        lineage = Lineage(self.states[work.tp].log_id, 0, FORM)
        return Standing(lineage, work.next_offset, work.next_offset)

    def reached(self, tp: TP) -> int:
        """See ``Agent.reached``."""
        return self.states[tp].applied + 1

    def forget(self, tp: TP) -> None:
        """Drops the partition's state from memory."""
        self.states.pop(tp, None)
        self.windows.pop(tp, None)
        self._looked.pop(tp, None)

    def _minute_now(self) -> int:
        return self._now_ns() // 60_000_000_000
