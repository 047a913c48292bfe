"""The Faust consumer that delivers chunks: sessions, commits, revocation, watchdog.

Invariants:
1. What was fetched before a seek or a rebalance is not delivered after it: every chunk belongs to
   a session (``streams.transport.chunks``), and only the open session of a partition delivers.
2. Committed offsets of chunk topics come from ``Hooks.next_offset`` alone. Faust's own accounting
   (acks, gaps, read offsets) is not used for them, since it commits past unfinished messages.
3. Partitions are released in this order: flow stopped, queues cleared, ``Hooks.on_revoke``, commit.
4. All buffers are bounded: a topic's queue in chunks, a chunk in records and bytes.
5. Everything else (other topics, changelogs, assignment, recovery) is Faust's code, unchanged.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from faust.transport.drivers import aiokafka as driver
from mode import Service

from streams.transport.chunks import TP, ChunkMessage, Session, Taken, describe
from streams.transport.read_offsets import ReadOffsets
from streams.transport.thread import ChunkThread, Look
from streams.transport.watchdog import PartitionProgress, Watchdog

__all__ = ["ChunkConsumer", "ChunkTransport"]

_PAUSE_S = 0.01
"""Wait while every queue is full. Faust waits a whole second."""

_TAKE_S = 0.2
"""Longest wait for records in one call, and so the delay until a new assignment is noticed."""

_HOOK_S = 30.0
"""Longest time for ``Hooks.on_assign``: less than Faust's own limit, after which it would hang."""


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, with chunks for the app's chunk topics."""

    app: Any  # a ``streams.transport.app.ChunkApp``
    _thread: ChunkThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self._sessions: dict[TP, Session] = {}
        self._start: dict[TP, int | None] = {}
        self._numbers = itertools.count(1)
        self._release_lock = asyncio.Lock()
        self._releases = 0
        self._opening_since_s: float | None = None
        super().__init__(*args, **options)
        self._read_offset = ReadOffsets(self.app.chunk_topics)
        limit_s = self.app.watchdog_s
        self.watchdog = Watchdog(limit_s, min(1.0, limit_s / 5))

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    # --- reading ---------------------------------------------------------------------------------

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP]]:
        await self._read_again()
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        active = self._get_active_partitions()
        places = {topic: self._places(topic) for topic in self.app.chunk_topics}
        wanted = {tp for tp in active if places.get(tp.topic, 1) > 0 and self._is_open(tp)}
        if not wanted:
            await asyncio.sleep(_PAUSE_S)
            return {}, active
        # With a full queue, or state that is not loaded yet, return soon: there may be a place
        # before other records come.
        timeout = min(timeout, _TAKE_S) if len(wanted) == len(active) else _PAUSE_S
        return await self._thread.take(wanted, places, timeout), active

    def _is_open(self, tp: TP) -> bool:
        return tp.topic not in self.app.chunk_topics or self.app.hooks.is_open(tp)

    def _places(self, topic: str) -> int:
        channels = self.app.topics._topic_name_index.get(topic, ())
        return min((c.queue.maxsize - c.queue.qsize() for c in channels), default=0)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """As Faust's, with one message a chunk.

        When records come while the flow is stopped, Faust seeks to the committed offsets; here the
        records are dropped. Resuming the flow always seeks first, and a seek in the middle of a
        rebalance fails or hangs.
        """
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        plain: dict[TP, Any] = {}
        for tp, taken in records.items():
            if not isinstance(taken, Taken):
                plain[tp] = taken
            elif (message := self._accept(tp, taken, generation)) is not None:
                yield tp, message
        for tp, record in self.scheduler.iterate(plain):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, self._to_message(tp, record)

    def _accept(self, tp: TP, taken: Taken, generation: int) -> ChunkMessage | None:
        session = self._sessions.get(tp)
        if session is None or not self.flow_active:
            return None
        expected = session.position
        if expected is not None and taken.first < expected and taken.session == session.number:
            # Its records would be taken for records that were handled before, and dropped.
            self.app.fail(
                f"{tp.topic}-{tp.partition}: asked for offset {expected}, the log went back to "
                f"{taken.first}: the topic was deleted and recreated"
            )
            return None
        self.app.monitor.track_tp_end_offset(tp, taken.highwater)
        return session.accept(taken, generation)

    def on_buffer_full(self, tp: TP) -> None:
        """Faust's backpressure, for other topics only: a chunk topic's is its bounded queue."""
        if tp.topic not in self.app.chunk_topics:
            super().on_buffer_full(tp)

    # --- sessions --------------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """As Faust's; keeps what it found."""
        offsets: Mapping[TP, int] = await super().seek_to_committed()
        self._start = {TP(*tp): offset for tp, offset in offsets.items()}
        return offsets

    async def perform_seek(self) -> None:
        """Faust calls this after every assignment, before the flow is resumed."""
        releases = self._releases
        await super().perform_seek()
        async with self._release_lock:
            if releases != self._releases:
                return  # released meanwhile; the next assignment seeks again
            tps = {tp for tp in self._start if tp.topic in self.app.chunk_topics}
            # Partitions that the next rebalance has taken away by now are not assigned to the
            # engine: nothing would ever release their state.
            tps = await self._open({tp: self._start[tp] for tp in tps})
            try:
                await asyncio.wait_for(self.app.hooks.on_assign(set(tps)), _HOOK_S)
            except Exception as error:
                self.app.fail(f"on_assign of {_names(tps)} failed: {error!r}", error)
            self._opening_since_s = None

    async def _open(self, starts: Mapping[TP, int | None]) -> set[TP]:
        """Opens sessions; returns the partitions that have one, since they are still assigned."""
        sessions = {tp: Session(tp, next(self._numbers), at) for tp, at in starts.items()}
        for tp, session in sessions.items():
            self._close(tp)
            self._sessions[tp] = session
        started = await self._thread.start_sessions(
            {tp: (starts[tp], session.number) for tp, session in sessions.items()}
        )
        for tp, session in sessions.items():
            if tp not in started and self._sessions.get(tp) is session:
                self._close(tp)
                del self._sessions[tp]
        return started

    def _close(self, tp: TP) -> None:
        session = self._sessions.get(tp)
        if session is not None:
            session.close()

    async def seek(self, partition: TP, offset: int) -> None:
        """As Faust's; for a chunk topic see ``ChunkApp.seek``."""
        if partition.topic in self.app.chunk_topics:
            if partition in self._sessions:
                await self._open({TP(*partition): offset})
        else:
            await super().seek(partition, offset)

    async def rewind(self, tp: TP, offset: int) -> bool:
        """See ``ChunkApp.rewind``."""
        self._committed_offset[tp] = None
        done = await self._commit_offsets({tp: offset})
        if not done or self._committed_offset[tp] != offset or tp not in self._sessions:
            return False
        await self.seek(tp, offset)
        return True

    async def _read_again(self) -> None:
        for tp, session in list(self._sessions.items()):
            if session.lost_from is not None and session.open:
                self.log.warning("%s: chunks were dropped, reads again from %s", tp,
                                 session.lost_from)  # fmt: skip
                await self.seek(tp, session.lost_from)

    def committed_now(self, tp: TP) -> int | None:
        """See ``ChunkApp.committed_now``."""
        offset: int | None = self._committed_offset.get(tp)
        return offset

    # --- releasing -------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """As Faust's; chunk partitions are checkpointed and committed first.

        All of them are released, not only ``revoked``: a late seek, during the previous rebalance,
        may have opened partitions that went to another worker in it. Their state would be out of
        date when they come back.
        """
        positions = {tp: session.position or 0 for tp, session in self._sessions.items()}
        await self.release(None)
        await super().on_partitions_revoked(revoked)
        # Called before every join, also the first, so the claims sent are up to date.
        claims = self.app.claims
        self._thread.assignor.claims = positions if claims is None else dict(claims())

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """As Faust's."""
        self._opening_since_s = monotonic() if assigned else None
        await super().on_partitions_assigned(assigned, generation_id)

    async def release(self, tps: Iterable[TP] | None) -> None:
        """Releases partitions (invariant 3); ``None``: all of them. The flow stays stopped."""
        async with self._release_lock:
            self._releases += 1
            mine = set(self._sessions if tps is None else self._sessions.keys() & set(tps))
            self.stop_flow()
            self.app.flow_control.suspend()
            for tp in mine:
                self._close(tp)
            self.app.flow_control.clear()
            if mine and not self.app.failed.is_set():
                await self._checkpoint(mine)
            for tp in mine:
                del self._sessions[tp]

    async def _checkpoint(self, tps: set[TP]) -> None:
        limit_s = self.app.conf.broker_rebalance_timeout * 0.8
        try:
            await asyncio.wait_for(self.app.hooks.on_revoke(set(tps)), limit_s)
        except TimeoutError:
            self.log.error(
                "%s: on_revoke took more than %.0f s; what is checkpointed is committed, the rest "
                "comes again", _names(tps), limit_s,
            )  # fmt: skip
        except Exception as error:
            self.app.fail(f"on_revoke of {_names(tps)} failed: {error!r}", error)
            return
        await self.commit_chunks(tps)

    # --- committing ------------------------------------------------------------------------------

    async def commit_chunks(self, tps: Iterable[TP] | None = None) -> bool:
        """Commits ``next_offset`` of each now; whether all of them are committed afterwards."""
        wanted = set(self._sessions if tps is None else tps)
        while await self.maybe_wait_for_commit_to_finish():
            pass  # Faust's commit does nothing while another one is under way: wait for our turn
        await self.commit(wanted)
        return not self.app.failed.is_set() and not self._filter_committable_offsets(wanted)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in self._sessions:
            if topics is None or tp in topics or tp.topic in topics:
                yield tp
        yield from super()._filter_tps_with_pending_acks(topics)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.app.chunk_topics:
            offset: int | None = super()._new_offset(tp)
            return offset
        session = self._sessions.get(tp)
        if session is None or self.app.failed.is_set():
            return None
        offset = self.app.hooks.next_offset(tp)
        if offset is not None and session.highwater is not None and offset > session.highwater:
            self.app.fail(
                f"{tp.topic}-{tp.partition}: offset {offset} was to be committed, but the log ends "
                f"at {session.highwater}: the local state is of another log"
            )
            return None
        return offset or None

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        # Chunk topics: Faust's producer is not flushed first, since the engine's outputs are
        # acknowledged already, and a refused commit does not count as committed.
        assigned = self.assignment()
        chunks = {
            tp: offset
            for tp, offset in offsets.items()
            if tp.topic in self.app.chunk_topics and tp in assigned
        }
        rest = {tp: o for tp, o in offsets.items() if tp.topic not in self.app.chunk_topics}
        done = True
        if chunks:
            done = await self._commit(chunks)
            if done:
                self._committed_offset.update(chunks)
                self.app.monitor.on_tp_commit(chunks)
        if rest:
            done = await super()._commit_offsets(rest, start_new_transaction) and done
        return done

    # --- watching --------------------------------------------------------------------------------

    async def verify_all_partitions_active(self) -> None:
        """Does nothing: Faust compares two different clocks here, and only logs. See ``_watch``."""

    @Service.task
    async def _watch(self) -> None:
        watchdog = self.watchdog
        looks: dict[TP, Look] = {}
        asked_s = 0.0
        while not self.should_stop:
            await self.sleep(watchdog.tick_s)
            now_s = monotonic()
            if now_s - asked_s > watchdog.limit_s / 4 and self._sessions:
                # Asked from the broker, not remembered from fetches, which may have stopped.
                looks, asked_s = await self._look(), now_s
            partitions = {tp: self._progress(tp, looks.get(tp)) for tp in self._sessions}
            for tp, stuck_s in watchdog.tick(now_s, partitions).items():
                self._report_stuck(tp, stuck_s, partitions[tp])
            since_s = self._opening_since_s
            if since_s is not None and now_s - since_s > max(watchdog.limit_s, 2 * _HOOK_S):
                self.app.fail(f"reading did not start within {now_s - since_s:.0f} s of assignment")

    async def _look(self) -> dict[TP, Look]:
        try:
            return await self._thread.look(set(self._sessions))
        except Exception as error:  # the broker is away: no end, no lag, nothing to report
            self.log.warning("ends of the log are not known: %r", error)
            return {}

    def _progress(self, tp: TP, look: Look | None) -> PartitionProgress:
        committed = self._committed_offset.get(tp)
        if look is None:
            return PartitionProgress(committed, None)
        position = self._sessions[tp].position
        done = position is None or (committed or 0) >= position
        if done and look.position is not None and look.position >= look.end:
            # All that can be read is committed, although the commit may be below the end:
            # retention may have removed the records between them.
            return PartitionProgress(committed, committed)
        return PartitionProgress(committed, look.end)

    def _report_stuck(self, tp: TP, stuck_s: float, progress: PartitionProgress) -> None:
        session = self._sessions.get(tp)
        self.app.fail(
            f"{tp.topic}-{tp.partition}: no commit for {stuck_s:.0f} s although {progress.lag} "
            f"offsets wait (committed {progress.committed}, log ends at {progress.end}); "
            f"{describe(session.unfinished() if session else None)}"
        )


class ChunkTransport(driver.Transport):
    """Faust's aiokafka transport with a ``ChunkConsumer``."""

    Consumer = ChunkConsumer


def _names(tps: Iterable[TP]) -> str:
    return ", ".join(f"{tp.topic}-{tp.partition}" for tp in sorted(tps))
