"""Folds a partition by newer rules beside its live state, so that live figures go on meanwhile.

The second store is a folder of its own beside the live one. It is folded like state that was lost:
from the enriched topic, up to where the epoch begins by the earlier rules, and then by the new
ones, for a share of a core, until it is where the live state is. What the new rules make of each
event is compared with what stands (``streams.worker.comparing``). Then the partition is closed and
opened again, and the second store is its state.

Invariants:
1. Until the topic of rules has the record that the partition was set back, its epoch is the earlier
   one: live events are judged by the earlier rules, and their counts are published. That record is
   the switch. Whoever opens the partition before it goes on by the earlier rules; whoever opens it
   after it has the new ones, with the second store or by the same fold once more.
2. Before the switch nothing of the new rules is written, to no topic: ended before it, a run has
   changed nothing. Events, counts and engagement are deferred.
3. It never folds a record that the live state does not hold and has not acknowledged. The enriched
   topic then has all outputs of the live state that it is compared with.
4. At the switch the committed offset goes back to the last record before it, so what is deferred
   (``streams.enrich.deferred``) is released before that record is committed again, and before a
   later one is folded. A worker that is killed in between, or another one without the store,
   releases it again.
5. It leaves live state its disk: it does not begin without room, is deleted when the disk is nearly
   full, and says so.
6. A second store that is damaged, or of another epoch, is deleted and made anew: nothing depends on
   it before the switch.
"""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import (
    AsyncExitStack,
    contextmanager,
    suppress,
)
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import Unavailable
from schemas.groups import progress_group
from schemas.history_log import PREFIX
from schemas.settings import Settings
from schemas.topics import RAW
from streams.enrich.changes import Changes
from streams.enrich.deferred import Deferred
from streams.enrich.epochs import Span
from streams.enrich.message_bytes import StateError
from streams.enrich.shard import Shard
from streams.kafka.clients import offset_keeper
from streams.kafka.stretches import OpenStretches
from streams.transport.chunks import TP
from streams.worker.comparing import Comparison, OtherFold
from streams.worker.damage import DamagedState
from streams.worker.erasing import Erasing
from streams.worker.outputs import Flight
from streams.worker.paced_source import paced
from streams.worker.restore import Restorer
from streams.worker.work import PartitionWork

log = structlog.get_logger(__name__)

SLICE_RECORDS = 500
"""Records folded before live events get a turn: about 20 ms of work."""
STORE_EVERY = 10_000
"""Records between two writes of the second store."""
NEAR_RECORDS = 2_000
"""So close behind the live state, the rest is folded while live events wait."""
LOOK_EVERY_S = 1.0
TELLING_S = 5.0
SPACE_FACTOR, SPACE_BYTES, NOTE_BYTES = 2, 256 << 20, 100
"""Free disk that a second store needs: so many times the live one's size, so many bytes, and so
many for each record that is processed: notes on its event, and some events as a whole."""
SPACE_LEFT_BYTES = 128 << 20
"""With less free disk than this, a second store is deleted."""
SPACE_AGAIN_S = 60.0
_NEVER = 1 << 62
"""End of a span whose end the switch decides."""


class Gone(Exception):
    """The partition was revoked or closed: its second store stays as it is stored."""


class _Lost(Exception):
    """The second store is damaged."""


class _Away(Exception):
    """Kafka does not answer the second fold; live events have retries of their own."""


class _Full(Exception):
    """The disk has too little left for live state to go on safely."""


class Live(Protocol):
    """What a second store needs of the agent whose partition it follows (``EnrichAgent``)."""

    settings: Settings
    directory: Any
    outputs: Any
    source: OpenStretches
    codec: Any
    ruling: Any
    erasing: Erasing
    log_id: str
    metrics: Any

    def works(self) -> list[PartitionWork]:
        """The partitions whose state is open."""

    async def completed(self, *args: Any, **named: Any) -> Any:
        """The effects of a step, with the raw records that its corrections carry."""

    async def reopen(self, work: PartitionWork, before: Callable[[int], Any]) -> None:
        """Checkpoints, awaits ``before``, closes, and opens again."""

    def write_shard(self, work: PartitionWork, shard: Shard) -> None:
        """Stores a shard's changes."""


def name_of(tp: TP) -> str:
    """Name of a partition's second store; no partition's live store is called so."""
    return f"enrich-{tp.partition}.second"


class Compare(Protocol):
    """Makes the comparison of a second store (``Reprocessing.comparison``)."""

    def __call__(  # noqa: D102
        self, work: PartitionWork, source: OpenStretches, *, one_fold: bool = False
    ) -> Comparison: ...


class SecondStores:
    """The second stores of a worker, one folded after the other.

    Args:
        agent: whose partitions.
        number: of the newest epoch.
        give_up: has a partition set back instead, live events waiting, when it is opened again.
    """

    def __init__(
        self, agent: Live, number: int, compare: Compare, give_up: Callable[[PartitionWork], Any]
    ) -> None:
        self._agent = agent
        self._number = number
        self._compare, self._give_up = compare, give_up
        self._locks: defaultdict[TP, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._grown: dict[TP, int] = {}
        """Partitions whose second store filled the disk -> its bytes then."""
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
                begin = self.waiting.get(work.tp)
                if begin is not None and work.live:  # not closed while another one was folded
                    await self.follow(work, begin)
            await asyncio.sleep(LOOK_EVERY_S)

    async def follow(self, work: PartitionWork, begin: int) -> None:
        """Folds one partition until it is switched, or closed."""
        if not self._has_room(work, begin):
            await asyncio.sleep(SPACE_AGAIN_S)
            return
        async with self._locks[work.tp]:
            name = name_of(work.tp)
            try:
                second = PartitionWork(
                    work.tp, self._agent.directory.store(name), Flight(self._agent.outputs)
                )
                group = progress_group(self._agent.settings.consumer_group)
                async with AsyncExitStack() as stack:
                    with _answering():
                        keeper = await stack.enter_async_context(
                            offset_keeper(self._agent.settings, group)
                        )
                    await _Fold(
                        self._agent, work, second, begin, self._number, self._compare, keeper
                    ).run()
            except Gone:
                log.info("a second store waits: its partition was closed", store=name)
            except _Away as error:
                log.warning("a second store waits: Kafka does not answer", reason=str(error))
            except _Full:
                self._grown[work.tp] = second.store.disk_bytes()
                log.error(
                    "a second store is deleted: the disk is nearly full; live events go on by the "
                    "earlier rules, and it is made anew once there is room",
                    partition=work.tp.partition, bytes=self._grown[work.tp],
                )  # fmt: skip
                self._agent.directory.discard(name)
            except OtherFold as error:
                await self._set_back(work, str(error))
            except (DamagedState, StateError, _Lost) as error:
                log.warning("a second store is damaged: it is made anew", reason=str(error))
                self._agent.directory.discard(name)
            finally:
                self._agent.directory.release(name)

    async def _set_back(self, work: PartitionWork, reason: str) -> None:
        """Events that another fold wrote can't be compared: live events wait for the run."""
        log.warning(
            "live events wait while history is reprocessed", reason=reason,
            partition=work.tp.partition,
        )  # fmt: skip
        self._agent.directory.discard(name_of(work.tp))

        async def give_up(_: int) -> None:
            self._give_up(work)

        await self._agent.reopen(work, give_up)

    async def discard(self, tp: TP) -> None:
        """Deletes what an earlier run has left."""
        async with self._locks[tp]:
            if (self._agent.directory.path / name_of(tp)).exists():
                self._agent.directory.discard(name_of(tp))

    def _has_room(self, work: PartitionWork, begin: int) -> bool:
        free = shutil.disk_usage(self._agent.directory.path).free
        records = max(0, (work.next_offset or 0) - begin)
        needed = SPACE_FACTOR * work.store.disk_bytes() + SPACE_BYTES + NOTE_BYTES * records
        needed = max(needed, SPACE_FACTOR * self._grown.get(work.tp, 0) + SPACE_BYTES)
        if free < needed:
            log.error(
                "history is not reprocessed: the disk has no room for a second store; live events "
                "go on by the earlier rules",
                partition=work.tp.partition, free_bytes=free, needed_bytes=needed,
            )  # fmt: skip
        return free >= needed


@contextmanager
def _answering() -> Iterator[None]:
    """Tells Kafka's absence from failures of live outputs, which must end the worker."""
    try:
        yield
    except (KafkaError, Unavailable) as error:
        raise _Away(repr(error)) from error


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
        compare: Compare,
        keeper: Any,
    ) -> None:
        self._agent, self._live, self._second = agent, live, second
        self._begin, self._number, self._compare = begin, number, compare
        self._keeper = keeper
        self._place = TopicPartition(RAW, live.tp.partition)
        keeper.assign([self._place])
        self._shard = Shard(live.tp.partition, second.store.get_many)
        self._counted = begin
        self._ended = asyncio.Event()

    def _still(self) -> None:
        if not self._live.live:
            raise Gone

    async def run(self) -> None:
        """From wherever the store is up to the switch."""
        await self._agent.erasing.fresh()
        self._open()
        telling = asyncio.create_task(self._tell_on())
        share = self._agent.settings.reprocess_core_share
        source = paced(self._agent.source, lambda: share, self._still)
        try:
            restorer = self._restorer(source)
            while True:
                self._still()
                await self._fold(restorer, self._live.next_offset or 0)
                if (self._live.next_offset or 0) - self._shard.applied - 1 <= NEAR_RECORDS:
                    break
            await self._agent.reopen(self._live, self._finish)
        finally:
            self._ended.set()
            await asyncio.wait([telling], timeout=TELLING_S)  # a commit that is cut off logs noise
            telling.cancel()
            left = self._agent.metrics.reprocess_left
            part = str(self._live.tp.partition)
            left.labels(part)
            left.remove(part)  # a gauge left behind would be exported for ever

    async def _finish(self, until: int) -> None:
        try:
            await self._fold(self._restorer(self._agent.source), until)
        except (DamagedState, StateError) as error:
            raise _Lost(str(error)) from error  # the live store is not the one that is damaged

    def _open(self) -> None:
        shard, second, agent = self._shard, self._second, self._agent
        shard.load_meta()
        begun = shard.log_id in ("", agent.log_id) or shard.log_id.startswith(PREFIX)
        if shard.epoch != self._number or not begun:
            second.store.clear()
            shard = self._shard = Shard(second.tp.partition, second.store.get_many)
        agent.erasing.opened(second, shard)
        shard.load_watched(second.store.scan)
        shard.epoch = self._number
        self._counted = self._reached()
        shard.deferred = Deferred(Span(self._begin, _NEVER), Changes(second.store.get_many))

    def _reached(self) -> int:
        """The offset behind what is folded of the raw topic."""
        if self._shard.log_id != self._agent.log_id:
            return self._begin  # history comes before it
        return max(self._begin, self._shard.applied + 1)

    def _restorer(self, source: OpenStretches) -> Restorer:
        agent, second = self._agent, self._second
        return Restorer(
            agent.settings, agent.codec, agent.ruling, lambda s: agent.write_shard(second, s),
            self._touch, source, self._compare(second, source, one_fold=True),
            slice_records=SLICE_RECORDS, store_every=STORE_EVERY,
            doing="history is processed by newer rules", erasing=agent.erasing,
        )  # fmt: skip

    def _touch(self) -> None:
        self._still()
        if shutil.disk_usage(self._agent.directory.path).free < SPACE_LEFT_BYTES:
            raise _Full
        agent, part = self._agent, str(self._second.tp.partition)
        reached = self._reached()
        if reached > self._counted:
            agent.metrics.reprocessed.labels(part).inc(reached - self._counted)
            self._counted = reached
        left = (self._live.next_offset or 0) - reached
        agent.metrics.reprocess_left.labels(part).set(max(0, left))

    async def _fold(self, restorer: Restorer, until: int) -> None:
        """Folds what the enriched topic has of the raw records below ``until``; stores it."""
        agent, shard = self._agent, self._shard
        with _answering():
            await restorer.restore(shard, agent.log_id, until)
        shard.begin_log(agent.log_id)
        shard.applied = max(shard.applied, until - 1)
        agent.write_shard(self._second, shard)
        self._touch()

    async def _tell_on(self) -> None:
        """Says how far it is, for ``mailpulse reprocess`` to watch; nothing depends on it."""
        while not self._ended.is_set():
            reached = self._reached()
            try:
                await self._keeper.commit({self._place: (reached, str(self._number))})
            except KafkaError as error:
                log.warning("progress of reprocessing is not written", reason=repr(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), LOOK_EVERY_S)
