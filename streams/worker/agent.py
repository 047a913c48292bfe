"""What both agents share: state per partition, checkpoints, assignment and revocation.

Invariants:
1. A checkpoint is: outputs acknowledged, then state and offset stored in one write, and only then
   may the offset be committed (``next_offset``). Whatever happens in between, replaying from the
   committed offset gives the same result.
2. A shard's lock is held from a step until its outputs are handed over, and over a checkpoint: a
   checkpoint never sees a step whose outputs are only half sent. A round of checkpoints holds the
   locks of its partitions together, taken in their order; nothing else holds two.
3. Any error ends the worker; nothing is skipped.
4. A chunk that begins beyond what was read is not handled while the log still holds records in
   between. Those are read first: a commit past them would lose them.
5. Partitions are opened beside each other (``streams.worker.opening``), a lost store from its
   newest usable snapshot (``streams.worker.snapshotting``).
6. Damaged state (``streams.worker.damage``) is the exception to 3. It is set aside and rebuilt up
   to what is committed, and its partition is read again from there while others go on. A store that
   is damaged a second time in one process ends the worker. So is state in a form that this version
   does not know, as after a roll-back.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from schemas.errors import MailpulseError
from streams.enrich.message_bytes import StateError
from streams.kafka.stretches import OpenStretches
from streams.transport.app import ChunkApp
from streams.transport.chunks import TP, Chunk
from streams.worker import snapshot_manifest
from streams.worker.damage import DamagedState, LastingDamage
from streams.worker.opening import Abandoned, Openings
from streams.worker.outputs import Flight
from streams.worker.pace import Standing, due, lag_of
from streams.worker.paced_source import paced
from streams.worker.setting_aside import DAMAGED_KEPT_MAX
from streams.worker.snapshot_manifest import Lineage
from streams.worker.snapshotting import Opening
from streams.worker.work import PartitionWork, Resources

log = structlog.get_logger(__name__)


class Agent(ABC):
    """Owns the partitions of one topic: opens, restores, checkpoints and closes their state.

    Args:
        name: stage in metrics and prefix of the state's directories.
    """

    topic: str
    name: str
    rebuilt_from: str
    """The topic that lost state is rebuilt from."""

    def __init__(self, shared: Resources) -> None:
        self.settings = shared.settings
        self.codec = shared.codec
        self.directory = shared.directory
        self.outputs = shared.outputs
        self.metrics = shared.metrics
        self.log_id = shared.log_id
        self.source = shared.source
        self.snapshots = shared.snapshots
        self.app: ChunkApp | None = None
        self.assigned: set[TP] = set()
        self.assignment = 0
        self.openings = Openings(self.ready)
        self._reach: dict[TP, int] = {}
        self._work: dict[TP, PartitionWork] = {}
        self._damaged: set[TP] = set()
        self._to_read_again: set[TP] = set()

    # --- for the subclass

    @abstractmethod
    async def open(self, work: PartitionWork) -> None:
        """Loads and restores the partition's state; sets ``work.next_offset`` if it is known."""

    @abstractmethod
    async def process(self, work: PartitionWork, chunk: Chunk) -> None:
        """Folds a chunk in and hands its outputs over; holds ``work.lock`` while it does."""

    @abstractmethod
    async def before_checkpoint(self, work: PartitionWork) -> None:
        """Hands over what is published at checkpoints only."""

    @abstractmethod
    def store_state(self, work: PartitionWork) -> int:
        """Stores state and offset in one write; returns the offset that may be committed."""

    @abstractmethod
    def reached(self, tp: TP) -> int:
        """The offset behind the last record that the open partition's state holds."""

    @abstractmethod
    def forget(self, tp: TP) -> None:
        """Drops the partition's state from memory."""

    @abstractmethod
    def lineages(self, tp: TP) -> frozenset[Lineage]:
        """Lineages of a snapshot that a partition can go on from."""

    @abstractmethod
    def standing(self, work: PartitionWork) -> snapshot_manifest.Standing | None:
        """How far the stored state of an open partition is; ``None``: no snapshot of it now."""

    # --- for the app

    async def run(self, stream: Any) -> None:
        """The agent's loop; an exception here ends the worker."""
        async for chunk in stream:
            await self.handle(chunk)

    async def handle(self, chunk: Chunk) -> None:
        """One chunk; checkpoints are made beside it, unless too many records wait for one."""
        work = self._work.get(chunk.tp)
        if work is None or not work.live:
            return  # revoked while it was queued; the partition's owner reads it
        if not await self._follows(work, chunk):
            return
        async with self.rebuilding(work):
            await self.process(work, chunk)
            self._note_lag(work, chunk)
        waiting = sum(work.since_checkpoint for work in self._work.values())
        if waiting >= self.settings.checkpoint_records_max:
            await self.checkpoint_due()

    def _note_lag(self, work: PartitionWork, chunk: Chunk) -> None:
        left = max(0, chunk.highwater - chunk.last - 1)
        self.metrics.lag_records.labels(self.topic, str(chunk.tp.partition)).set(left)
        if chunk.records or not left:
            age_s = time.time() - chunk.records[-1].timestamp / 1000 if chunk.records else 0.0
            work.lag_s = lag_of(age_s, left)

    async def _follows(self, work: PartitionWork, chunk: Chunk) -> bool:
        """Whether everything before the chunk that the log still holds was read (invariant 4).

        Otherwise a chunk was dropped on its way here, and is read again. Records that the log does
        not hold any more are reported as ``lost``.
        """
        reached = self.reached(work.tp)
        if chunk.first <= reached:
            return True
        assert self.app is not None
        begin = await self.app.begin_offset(work.tp)
        if not work.live:
            return False
        again_from = max(begin, reached)
        if again_from >= chunk.first:
            self.lost(work.tp, reached, chunk.first)
            return True
        log.error(
            "a chunk was dropped before it was handled: it is read again", topic=work.tp.topic,
            partition=work.tp.partition, first=again_from, before=chunk.first,
        )  # fmt: skip
        await self.app.seek(work.tp, again_from)
        return False

    def lost(self, tp: TP, first: int, until: int) -> None:
        """Reports that the log no longer holds offsets ``first`` up to but without ``until``."""
        log.error(
            "records were removed from the log before they were read: its retention is too short",
            topic=tp.topic, partition=tp.partition, first=first, records=until - first,
        )  # fmt: skip

    async def keep_open(self) -> None:
        """Opens partitions as soon as they are assigned (invariant 5); runs for ever.

        It does not wait for records, because rates also change with time alone.
        """
        await self.openings.run(lambda: self.assigned)

    async def ready(self, tp: TP) -> PartitionWork | None:
        """The partition's work with its state restored; ``None``: not assigned, or not any more."""
        async with self.openings.locks[tp]:
            while True:
                work = self._work.get(tp)
                if tp not in self.assigned or work is not None:
                    return work
                try:
                    return await self._open(tp)
                except (DamagedState, StateError) as error:
                    self.forget(tp)
                    self._set_aside(tp, error)

    async def _open(self, tp: TP) -> PartitionWork | None:
        name = self._store_name(tp)
        touch = partial(self._touch, tp, self.assignment)
        self.metrics.restoring.inc()
        try:
            if not self.directory.is_there(name):
                await self._bring(tp, name, touch)
            store = self.directory.store(name)
            work = PartitionWork(tp, store, Flight(self.outputs), touch=touch)
            await self.open(work)
            if tp in self._to_read_again:
                assert self.app is not None
                await self.app.seek(tp, self.app.committed_now(tp) or 0)
                self._to_read_again.discard(tp)
            touch()
        except Abandoned:
            self.forget(tp)
            self.directory.release(name)
            return None
        finally:
            self.metrics.restoring.dec()
        self._work[tp] = work
        return work

    async def _bring(self, tp: TP, name: str, touch: Callable[[], None]) -> None:
        """Puts a snapshot in the place of a store that is not there, if one can be used."""
        app = self.app
        assert app is not None
        changelog = TP(self.rebuilt_from, tp.partition)
        opening = Opening(
            self.name, name, self.lineages(tp), partial(app.begin_offset, changelog), touch
        )
        async with self.openings.transfers:
            await self.snapshots.bring(opening)

    def _touch(self, tp: TP, assignment: int) -> None:
        """See ``PartitionWork.touch``; also for the partitions that wait for their turn."""
        if assignment != self.assignment or tp not in self.assigned:
            raise Abandoned
        assert self.app is not None
        for one in self.assigned:
            if not self.is_open(one):
                self.app.touch(one)

    def source_beside(self, work: PartitionWork) -> OpenStretches:
        """``source`` for restoring a partition: live events of others keep their share."""
        return paced(self.source, lambda: self.openings.share(beside=bool(self._work)), work.touch)

    def check_unnoted(
        self, work: PartitionWork, is_of_this_log: bool, reaches: int, committed: int
    ) -> None:
        """Refuses a store whose note is gone and that holds less than what is committed.

        A store with a note is complete: if it holds less, another worker has moved the partition
        on. A store from a version that wrote no notes is trusted.

        Args:
            reaches: the offset behind what the state holds.

        Raises:
            DamagedState: it holds less.
        """
        store = work.store
        if store.number and not store.is_noted and is_of_this_log and reaches < committed:
            said = f"its note is gone, and it holds {reaches} of the {committed} offsets committed"
            raise DamagedState(store.path, said)

    @asynccontextmanager
    async def rebuilding(self, work: PartitionWork) -> AsyncIterator[None]:
        """Sets damaged state aside, whatever was being done with it (invariant 6)."""
        try:
            yield
        except (DamagedState, StateError) as error:
            await self._rebuild(work, error)

    async def _rebuild(self, work: PartitionWork, error: DamagedState | StateError) -> None:
        async with work.lock:  # after what is being done with it
            if self._work.get(work.tp) is not work:
                return
            work.live = False
            del self._work[work.tp]
            self._reach.pop(work.tp, None)
            self.forget(work.tp)
            self._set_aside(work.tp, error)
        self._to_read_again.add(work.tp)
        self.openings.ask()

    def _set_aside(self, tp: TP, error: DamagedState | StateError) -> None:
        name = self._store_name(tp)
        damage = DamagedState.of(error, self.directory.path / name)
        if not self.snapshots.damaged(name, damage.reason):
            if tp in self._damaged:
                raise LastingDamage(damage) from error
            self._damaged.add(tp)
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{now % 1 * 1000:03.0f}Z"
        kept = self.directory.set_aside(name, stamp)
        if not damage.is_foreign:
            self.metrics.damaged.labels(self.name).inc()
        what = "was written by another version of mailpulse" if damage.is_foreign else "is damaged"
        log.error(
            f"state {what}: it is set aside and rebuilt from {self.rebuilt_from}; its "
            "partition waits for that, others go on. State older than what that topic holds is "
            "lost: an event from that time that is sent again is counted again",
            state=str(self.directory.path / name), partition=tp.partition, reason=damage.reason,
            set_aside_as=kept.path.name if kept.is_kept else "removed: the disk has no room for it",
            bytes=kept.bytes, kept_at_most=DAMAGED_KEPT_MAX,
        )  # fmt: skip

    def _store_name(self, tp: TP) -> str:
        return f"{self.name}-{tp.partition}"

    @property
    def is_ready(self) -> bool:
        """Whether every assigned partition has its state."""
        return all(self.is_open(tp) for tp in self.assigned)

    def is_open(self, tp: TP) -> bool:
        """Whether the partition has its state: its chunks may come."""
        work = self._work.get(tp)
        return work is not None and work.live

    async def measure_waiting(self) -> None:
        """Sets the lag of partitions that are not read yet since their state is being restored."""
        app = self.app
        assert app is not None
        waiting = [tp for tp in self.assigned if not self.is_open(tp)]
        try:
            begins = await asyncio.gather(*map(app.begin_offset, waiting))
            ends = await asyncio.gather(*map(app.end_offset, waiting))
        except KafkaError:
            return
        for tp, begin, end in zip(waiting, begins, ends, strict=True):
            if tp in self.assigned and not self.is_open(tp):
                left = max(0, end - max(begin, app.committed_now(tp) or 0))
                self.metrics.lag_records.labels(self.topic, str(tp.partition)).set(left)

    async def checkpoint_due(self) -> None:
        """Checkpoints the partitions that are due (``streams.worker.pace``). Call it often."""
        now = time.monotonic()
        standings = [
            Standing(tp, work.since_checkpoint, now - work.checkpointed_at, work.lag_s)
            for tp, work in self._work.items()
            if work.live
        ]
        tps = due(standings, self.checkpoint_interval_s, self.settings.checkpoint_records_max)
        await self.checkpoint(*[self._work[tp] for tp in tps])

    @property
    def checkpoint_interval_s(self) -> float:
        """How long a partition waits for its next checkpoint."""
        return self.settings.checkpoint_interval_ms / 1000

    async def checkpoint(self, *works: PartitionWork) -> None:
        """One round: the outputs of all partitions acknowledged, then the state and offset of each
        stored; then the offsets are free (invariant 1)."""
        started = time.monotonic()
        damaged: list[tuple[PartitionWork, DamagedState]] = []
        async with AsyncExitStack() as locks:
            handed_over: list[PartitionWork] = []
            for work in sorted(works, key=lambda work: work.tp):
                await locks.enter_async_context(work.lock)
                if self._work.get(work.tp) is not work:
                    continue  # closed while this waited for the lock
                try:
                    await self._hand_over_rest(work)
                    handed_over.append(work)
                except (DamagedState, StateError) as error:
                    damaged.append((work, DamagedState.of(error, work.store.path)))
            for work in handed_over:
                await work.flight.landed()
            for work in handed_over:
                try:
                    self._store(work)
                except (DamagedState, StateError) as error:
                    damaged.append((work, DamagedState.of(error, work.store.path)))
                await asyncio.sleep(0)
        for work, damage in damaged:
            await self._rebuild(work, damage)
        if works:
            self.metrics.checkpoint_seconds.labels(self.name).observe(time.monotonic() - started)

    async def _hand_over_rest(self, work: PartitionWork) -> None:
        if work.handing_over:
            raise MailpulseError(f"{work.tp}: a step's outputs were not all sent")
        await self.before_checkpoint(work)

    def _store(self, work: PartitionWork) -> None:
        if work.since_checkpoint:
            work.next_offset = self._reach[work.tp] = self.store_state(work)
            work.since_checkpoint = 0
        work.checkpointed_at = time.monotonic()

    async def reopen(self, work: PartitionWork, before: Callable[[int], Awaitable[None]]) -> None:
        """Checkpoints and closes the partition, and has it opened and read again.

        Args:
            before: awaited before closing, while nothing is folded, with the offset that may be
                committed.
        """
        async with self.rebuilding(work), work.lock:
            if self._work.get(work.tp) is not work or not work.live:
                return
            await self._hand_over_rest(work)
            await work.flight.landed()
            self._store(work)
            await before(work.next_offset or 0)
            work.live = False
            del self._work[work.tp]
            self.forget(work.tp)
            self.directory.release(self._store_name(work.tp))
        self._to_read_again.add(work.tp)
        self.openings.ask()

    def works(self) -> list[PartitionWork]:
        """The partitions whose state is open."""
        return list(self._work.values())

    def claims(self) -> dict[TP, int]:
        """Partitions whose state is on this machine, opened or not -> the offset it reaches."""
        out = {}
        for name in self.directory.names():
            prefix, _, partition = name.rpartition("-")
            if prefix == self.name and partition.isdigit():
                tp = TP(self.topic, int(partition))
                out[tp] = self._reach.get(tp, 0)
        return out

    def next_offset(self, tp: TP) -> int | None:
        """The offset that may be committed, ``None`` while nothing was checkpointed."""
        work = self._work.get(tp)
        return work.next_offset if work else None

    async def on_assign(self, tps: Iterable[TP]) -> None:
        """New partitions; ``keep_open`` restores their state before their first chunk.

        Another worker may have moved them on since they were revoked, so nothing that was kept in
        memory from before is used.
        """
        self.assignment += 1
        self.assigned = set(tps)
        self._to_read_again.clear()  # what is assigned is read from what is committed
        kept = {tp for tp, work in self._work.items() if work.live} & self.assigned
        self.release(self._work.keys() - kept)
        self.openings.ask()

    async def on_revoke(self, tps: Iterable[TP]) -> None:
        """Checkpoints these partitions and stops handling their chunks."""
        tps = set(tps)
        self.assigned -= tps
        if tps:  # Faust revokes all at once; a gauge left behind would be exported for ever
            self.metrics.lag_records.clear()
            self.metrics.event_age_seconds.clear()
        works = [work for tp in tps if (work := self._work.get(tp)) is not None and work.live]
        for work in works:
            work.live = False
        await self.checkpoint(*works)

    def release(self, tps: Iterable[TP]) -> None:
        """Closes the state of these partitions, without a checkpoint."""
        for tp in tps:
            if self._work.pop(tp, None) is not None:
                self.forget(tp)
                self.directory.release(self._store_name(tp))

    def close(self) -> None:
        """Closes everything without a checkpoint."""
        self.release(list(self._work))
