"""Folds a partition by newer rules beside its live state, so that live figures go on meanwhile.

The second store is a folder of its own beside the live one. It is brought to where the epoch
begins, and then folds the raw topic by the new rules, for a share of a core, until it is where the
live state is. Then the partition is closed and opened again, and the second store is its state.

Invariants:
1. Until the topic of rules has the record that the partition was set back, its epoch is the earlier
   one: live events are judged by the earlier rules, and their counts are published. That record is
   the switch. Whoever opens the partition before it goes on by the earlier rules; whoever opens it
   after it has the new ones, with the second store or by a rebuild from the enriched topic.
2. Before the switch the second store writes only events, as every run does: of a later revision,
   and the same ones whenever it folds a record again. They are acknowledged before the store says
   that it holds them. Counts, suppressions and engagement are deferred.
3. It never folds a record that the live state does not hold and has not acknowledged. So on the
   enriched topic the first record of each raw offset is the live one, in order: a rebuild finds the
   same sequence as without a second store.
4. At the switch the committed offset goes back to the last record before it, so what is deferred
   (``streams.enrich.deferred``) is released before that record is committed again. A worker that
   is killed in between, or another one without the store, releases it again, as a whole.
5. It never grows the disk beyond what is free: it does not begin without room, and says so.
6. A second store that is damaged, or of another epoch, is deleted and made anew: nothing depends on
   it before the switch.
"""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.groups import progress_group
from schemas.settings import Settings
from schemas.topics import RAW
from streams.enrich.deferred import Deferred
from streams.enrich.epochs import Span
from streams.enrich.message_bytes import StateError
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.kafka.clients import offset_keeper
from streams.kafka.stretches import OpenStretches, Stretches
from streams.transport.chunks import TP
from streams.worker.agent import PartitionWork
from streams.worker.damage import DamagedState
from streams.worker.outputs import Flight
from streams.worker.raw_records import RawRecords
from streams.worker.restore import Restorer

log = structlog.get_logger(__name__)

SLICE_RECORDS = 500
"""Records folded before live events get a turn: about 20 ms of work."""
STORE_EVERY = 10_000
"""Records between two writes of the second store."""
NEAR_RECORDS = 2_000
"""So close behind the live state, the rest is folded while live events wait."""
LOOK_EVERY_S = 1.0
SPACE_FACTOR, SPACE_BYTES = 2, 256 << 20
"""Free disk that a second store needs: so many times the live one's size, and so many bytes."""
SPACE_AGAIN_S = 60.0
_NEVER = 1 << 62
"""End of a span whose end the switch decides."""


class Gone(Exception):
    """The partition was revoked or closed: its second store stays as it is stored."""


class _Lost(Exception):
    """The second store is damaged."""


class Live(Protocol):
    """What a second store needs of the agent whose partition it follows (``EnrichAgent``)."""

    settings: Settings
    directory: Any
    outputs: Any
    source: OpenStretches
    codec: Any
    ruling: Any
    log_id: str
    metrics: Any

    def works(self) -> list[PartitionWork]:
        """The partitions whose state is open."""

    async def completed(self, *args: Any, **named: Any) -> Any:
        """The effects of a step, with the raw records that its corrections carry."""

    async def hand_over(self, work: PartitionWork, shard: Shard, effects: Any) -> None:
        """Sends the effects of one step."""

    async def reopen(self, work: PartitionWork, before: Callable[[int], Any]) -> None:
        """Checkpoints, awaits ``before``, closes, and opens again."""

    def write_shard(self, work: PartitionWork, shard: Shard) -> None:
        """Stores a shard's changes."""


def name_of(tp: TP) -> str:
    """Name of a partition's second store; no partition's live store is called so."""
    return f"enrich-{tp.partition}.second"


class SecondStores:
    """The second stores of a worker, one folded after the other.

    Args:
        agent: whose partitions.
        number: of the newest epoch.
        restate: see ``Reprocessing.restate``.
    """

    def __init__(
        self,
        agent: Live,
        number: int,
        restate: Callable[[PartitionWork, Shard], Any],
    ) -> None:
        self._agent = agent
        self._number = number
        self._restate = restate
        self._locks: defaultdict[TP, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.waiting: dict[TP, int] = {}
        """Partitions that are judged by the earlier rules -> where the newest epoch begins."""

    async def reached(self, tp: TP) -> int:
        """The offset behind what the second store holds by the newest rules; -1: there is none."""
        async with self._locks[tp]:  # after its fold, which ends once the partition is closed
            name = name_of(tp)
            if not (self._agent.directory.path / name).exists():
                return -1
            try:
                shard = _loaded(tp, self._agent.directory.store(name))
            except (DamagedState, StateError) as error:
                log.warning("a second store is damaged: it is made anew", reason=str(error))
                self._agent.directory.discard(name)
                return -1
            finally:
                self._agent.directory.release(name)
            is_mine = shard.epoch == self._number and shard.log_id == self._agent.log_id
            return shard.applied + 1 if is_mine else -1

    async def adopt(self, work: PartitionWork, live_name: str) -> bool:
        """Makes the second store the partition's state; ``False``: there is none to adopt."""
        if await self.reached(work.tp) < 0:
            self._agent.directory.discard(name_of(work.tp))
            return False
        work.store = self._agent.directory.replace(live_name, name_of(work.tp))
        return True

    async def run(self) -> None:
        """Folds what waits, for ever."""
        while True:
            waiting = [
                work for work in self._agent.works() if work.live and work.tp in self.waiting
            ]
            for work in waiting:
                await self.follow(work, self.waiting[work.tp])
            await asyncio.sleep(LOOK_EVERY_S)

    async def follow(self, work: PartitionWork, begin: int) -> None:
        """Folds one partition until it is switched, or closed."""
        if not self._has_room(work):
            await asyncio.sleep(SPACE_AGAIN_S)
            return
        async with self._locks[work.tp]:
            name = name_of(work.tp)
            try:
                second = PartitionWork(
                    work.tp, self._agent.directory.store(name), Flight(self._agent.outputs)
                )
                group = progress_group(self._agent.settings.consumer_group)
                async with offset_keeper(self._agent.settings, group) as keeper:
                    await _Fold(
                        self._agent, work, second, begin, self._number, self._restate, keeper
                    ).run()
            except Gone:
                log.info("a second store waits: its partition was closed", store=name)
            except (DamagedState, StateError, _Lost) as error:
                log.warning("a second store is damaged: it is made anew", reason=str(error))
                self._agent.directory.discard(name)
            finally:
                self._agent.directory.release(name)

    def _has_room(self, work: PartitionWork) -> bool:
        free = shutil.disk_usage(self._agent.directory.path).free
        needed = SPACE_FACTOR * work.store.disk_bytes() + SPACE_BYTES
        if free < needed:
            log.error(
                "history is not reprocessed: the disk has no room for a second store; live events "
                "go on by the earlier rules",
                partition=work.tp.partition, free_bytes=free, needed_bytes=needed,
            )  # fmt: skip
        return free >= needed


def _loaded(tp: TP, store: Any) -> Shard:
    shard = Shard(tp.partition, store.get_many)
    shard.load_meta()
    return shard


class _Fold:
    """One partition's fold beside its live state."""

    def __init__(
        self,
        agent: Live,
        live: PartitionWork,
        second: PartitionWork,
        begin: int,
        number: int,
        restate: Callable[[PartitionWork, Shard], Any],
        keeper: Any,
    ) -> None:
        self._agent, self._live, self._second = agent, live, second
        self._keeper = keeper
        self._place = TopicPartition(RAW, live.tp.partition)
        keeper.assign([self._place])
        self._begin, self._number, self._restate = begin, number, restate
        self._source = paced(agent.source, agent.settings.reprocess_core_share, self._still)
        self._raws = RawRecords(agent.settings, self._source)
        self._since = 0
        self._shard = Shard(live.tp.partition, second.store.get_many)

    def _still(self) -> None:
        if not self._live.live:
            raise Gone

    async def run(self) -> None:
        """From wherever the store is up to the switch."""
        await self._open()
        while True:
            self._still()
            until = self._live.next_offset or 0
            if until - self._shard.applied - 1 <= NEAR_RECORDS:
                break
            await self._fold(until)
            await self._store()
        await self._agent.reopen(self._live, self._finish)

    async def _finish(self, until: int) -> None:
        try:
            await self._fold(until)
            await self._store()
        except (DamagedState, StateError) as error:
            raise _Lost(str(error)) from error  # the live store is not the one that is damaged

    async def _open(self) -> None:
        shard, second, agent = self._shard, self._second, self._agent
        shard.load_meta()
        if shard.epoch != self._number or shard.log_id not in ("", agent.log_id):
            second.store.clear()
            shard = self._shard = Shard(second.tp.partition, second.store.get_many)
        shard.load_watched(second.store.scan)
        shard.epoch = self._number
        shard.deferred = Deferred(Span(self._begin, _NEVER))
        if shard.log_id != agent.log_id or shard.applied + 1 < self._begin:
            await self._restore(shard)
        await self._restate(second, shard)
        await self._store()

    async def _restore(self, shard: Shard) -> None:
        agent, second = self._agent, self._second
        restorer = Restorer(
            agent.settings, agent.codec, agent.ruling, lambda s: agent.write_shard(second, s),
            self._still, self._source, partial(agent.completed, second.tp),
        )  # fmt: skip
        await restorer.restore(shard, agent.log_id, self._begin)
        shard.begin_log(agent.log_id)
        shard.applied = max(shard.applied, self._begin - 1)
        agent.write_shard(second, shard)

    async def _fold(self, until: int) -> None:
        """Folds the raw topic up to but without ``until``, which the live state holds."""
        agent, shard, second = self._agent, self._shard, self._second
        look_ups = agent.ruling.by_epoch[self._number]
        if shard.applied + 1 >= until:
            return
        async with self._source(agent.settings, RAW, second.tp.partition) as raw:
            if raw.begin > shard.applied + 1:
                log.error(
                    "records were removed from the log before they were reprocessed: its "
                    "retention is too short",
                    partition=second.tp.partition, records=raw.begin - shard.applied - 1,
                )  # fmt: skip
            begin = max(raw.begin, shard.applied + 1)
            async for records, position in raw.read(begin, until, SLICE_RECORDS):
                effects = step(shard, records, look_ups, agent.codec)
                self._raws.note(second.tp, records)
                done = await agent.completed(
                    second.tp, shard, records, effects, look_ups, raws=self._raws
                )
                await agent.hand_over(second, shard, done)
                shard.applied = max(shard.applied, position - 1)
                await self._count(len(records))
        shard.applied = max(shard.applied, until - 1)

    async def _count(self, records: int) -> None:
        agent, part = self._agent, str(self._second.tp.partition)
        agent.metrics.reprocessed.labels(part).inc(records)
        left = (self._live.next_offset or 0) - self._shard.applied - 1
        agent.metrics.reprocess_left.labels(part).set(max(0, left))
        self._since += records
        if self._since >= STORE_EVERY:
            await self._store()

    async def _store(self) -> None:
        """Invariant 2: events first."""
        await self._second.flight.landed()
        self._agent.write_shard(self._second, self._shard)
        self._since = 0
        await self._tell()

    async def _tell(self) -> None:
        """Says how far it is, for ``mailpulse reprocess`` to watch; nothing depends on it."""
        reached = max(self._shard.applied + 1, self._begin)
        try:
            await self._keeper.commit({self._place: (reached, str(self._number))})
        except KafkaError as error:
            log.warning("progress of reprocessing is not written", reason=repr(error))


def paced(source: OpenStretches, share: float, check: Callable[[], None]) -> OpenStretches:
    """``source`` for a reader that may use ``share`` of a core.

    After each step of the reader it waits; time that others used on the event loop meanwhile counts
    as the reader's, so it yields more while they are busy.

    Args:
        check: called before every wait; what it raises ends the reading.
    """

    @asynccontextmanager
    async def opened(settings: Settings, topic: str, partition: int) -> AsyncIterator[Stretches]:
        inner: AbstractAsyncContextManager[Stretches] = source(settings, topic, partition)
        async with inner as stretches:
            yield _Paced(stretches, share, check)

    return opened


class _Paced:
    def __init__(self, inner: Stretches, share: float, check: Callable[[], None]) -> None:
        self._inner, self._share, self._check = inner, share, check
        self.begin, self.end = inner.begin, inner.end

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """See ``Stretches``."""
        async for batch in self._inner.read(position, until, records_max):
            begun = time.thread_time()
            yield batch
            self._check()
            await asyncio.sleep((time.thread_time() - begun) * (1 / self._share - 1))
