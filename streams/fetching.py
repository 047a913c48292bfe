"""The Faust consumer that delivers chunks: aiokafka's buffer on one side, agents on the other.

Laws of this file:
1. A chunk partition is read only inside a session (``streams.chunks``). Seeking and opening the
   session are one step in the consumer's thread, so nothing can be read in between and lost.
2. Offsets of chunk topics come from ``Hooks.next_offset`` alone. Faust's own books (acks, gaps,
   read offsets) are not kept for them: those commit past unfinished messages.
3. Partitions are let go in this order: flow stopped, queues cleared, ``Hooks.on_revoke``, commit.
4. Whatever is buffered is bounded: a topic's queue in chunks, a chunk in records and bytes; what
   has no place stays in aiokafka's buffer, which then fetches no more.
5. Everything else (other topics, changelogs, assignment, recovery) is Faust's code, unchanged.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Protocol

import aiokafka
from aiokafka.consumer.fetcher import FetchResult, OffsetResetStrategy
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import TopicPartition
from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver
from mode import Service
from mode.threads import WorkerThread
from mode.utils.queues import ThrowableQueue

from streams.chunks import TP, ChunkMessage, Session, Taken, describe, take
from streams.watchdog import Progress, Watchdog

__all__ = ["ChunkConsumer", "ChunkTopic", "ChunkTransport", "Hooks"]

_PAUSE_S = 0.01
"""Wait while every queue is full. Faust waits a whole second."""

_TAKE_S = 0.2
"""Longest wait for records in one go; also how late a new assignment is noticed."""

_HOOK_S = 30.0
"""Longest time for ``Hooks.on_assign``: below Faust's own limit, past which it would hang."""


class Hooks(Protocol):
    """What the engine decides. All are called in the app's event loop."""

    def next_offset(self, tp: TP) -> int | None:
        """The offset that may be committed: everything below is checkpointed. ``None``: nothing."""

    async def on_revoke(self, tps: set[TP]) -> None:
        """Finish or abandon what is in work on ``tps`` and checkpoint.

        No further chunk of them comes. Right after it ``next_offset`` of each is committed and the
        partitions are let go, also when they come back in the same rebalance (Faust has no
        incremental rebalances). Called at shut-down too, but not after a fatal error.
        """

    async def on_assign(self, tps: set[TP]) -> None:
        """``tps`` are ours now; no chunk of them came yet. Must be quick: restore state later."""


class ChunkTopic(Topic):  # type: ignore[misc]  # faust's types are Any here
    """A topic whose events' values are ``Chunk``; its queue counts chunks."""

    def _compile_decode(self) -> None:
        create_event = self.app.create_event

        async def decode(message: ChunkMessage, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        self.decode = decode

    @property
    def queue(self) -> ThrowableQueue:
        """The queue between the consumer and the agent."""
        if self._queue is None:
            self._queue = _ChunkQueue(
                maxsize=self.maxsize, flow_control=self.app.flow_control, clear_on_resume=True
            )
        return self._queue


class _ChunkQueue(ThrowableQueue):  # type: ignore[misc]  # mode's types are Any here
    """Faust clears queues when flow stops and again when it resumes; nothing may get lost by it."""

    def clear(self) -> None:
        for event in tuple(self._queue):
            event.message.lost()
        super().clear()


class _DaemonThread(WorkerThread):  # type: ignore[misc]  # mode's types are Any here
    """Does not keep a process alive that has decided to end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.daemon = True


class _ChunkThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # untyped base
    """aiokafka's consumer, in a thread and an event loop of its own."""

    Worker = _DaemonThread
    consumer: "ChunkConsumer"

    def __init__(self, *args: Any, **options: Any) -> None:
        # Partitions that may be read, each with the epoch of its session. Only this thread writes.
        self._epochs: dict[TP, int] = {}
        super().__init__(*args, **options)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        app = self.consumer.app
        # Faust has no settings for these. Read at start, when the fetcher is made.
        consumer._isolation_level = app.isolation_level
        consumer._fetch_max_wait_ms = app.fetch_wait_ms_max
        return consumer

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Ends reading before anything else."""
        self._epochs.clear()
        await super().on_partitions_revoked(revoked)

    async def start_sessions(self, starts: Mapping[TP, tuple[int | None, int]]) -> set[TP]:
        """Seeks and opens sessions, given ``(offset, epoch)`` each; ``None``: no committed offset.

        Returns:
            the partitions that are still assigned; the others were left alone.
        """
        result: set[TP] = await self.call_thread(self._start_sessions, starts)
        return result

    async def _start_sessions(self, starts: Mapping[TP, tuple[int | None, int]]) -> set[TP]:
        consumer = self._ensure_consumer()
        started = set()
        for tp, (offset, epoch) in starts.items():
            partition = TopicPartition(tp.topic, tp.partition)
            if not consumer._subscription.is_assigned(partition):
                continue
            if offset is not None:
                consumer._fetcher.seek_to(partition, offset)
            elif tp in self._epochs:  # read before in this assignment: back to the start
                consumer._fetcher.request_offset_reset([partition], OffsetResetStrategy.EARLIEST)
            self._epochs[tp] = epoch
            started.add(tp)
        return started

    async def take(self, wanted: set[TP], places: dict[str, int], timeout_s: float) -> Any:
        """Records of other topics as lists, and at most one ``Taken`` of each chunk partition."""
        return await self.call_thread(self._take, wanted, places, timeout_s)

    async def _take(
        self, wanted: set[TP], places: dict[str, int], timeout_s: float
    ) -> dict[TP, Any]:
        consumer = self._ensure_consumer()
        fetcher, subscription = consumer._fetcher, consumer._subscription
        end_s = monotonic() + timeout_s
        with subscription.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError()
                if subscription.reassignment_in_progress or not self.consumer.flow_active:
                    await asyncio.sleep(_PAUSE_S)
                    return {}
                taken = self._drain(fetcher, wanted, places, consumer._max_poll_records)
                left_s = end_s - monotonic()
                if taken or left_s <= 0:
                    return taken
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=left_s)
                if waiter.done():
                    waiter.result()  # a coordinator's error, such as a missing permission
                else:
                    waiter.cancel()

    def _drain(
        self, fetcher: Any, wanted: set[TP], places: dict[str, int], records_max: int | None
    ) -> dict[TP, Any]:
        buffered = fetcher._records
        topics = self.consumer.app.chunk_topics
        drained: dict[TP, Any] = {}
        for partition in list(buffered):
            tp = TP(partition.topic, partition.partition)
            if tp not in wanted:
                if not fetcher._subscriptions.is_assigned(partition):
                    del buffered[partition]
                continue
            chunked = tp.topic in topics
            if chunked and (tp not in self._epochs or places[tp.topic] <= 0):
                continue
            result = buffered[partition]
            if type(result) is not FetchResult:
                if drained:
                    return drained  # the error is raised next time, when nothing is in hand
                del buffered[partition]
                fetcher._notify(fetcher._wait_consume_future)
                result.check_raise()
            got = self._take_chunk(tp, result) if chunked else result.getall(records_max)
            if result.has_more():
                buffered.move_to_end(partition)  # the others first, next time
            else:
                del buffered[partition]
                fetcher._notify(fetcher._wait_consume_future)
            if got:
                drained[tp] = got
                if chunked:
                    places[tp.topic] -= 1
        return drained

    def _take_chunk(self, tp: TP, result: FetchResult) -> Taken | None:
        app = self.consumer.app
        if not result.check_assignment(result._topic_partition) or not result.has_more():
            return None
        source = result._partition_records
        source._consumer_record = _as_read
        first = source.next_fetch_offset
        records, ended = take(source, app.chunk_records_max, app.chunk_bytes_max)
        result._update_position()
        following = source.next_fetch_offset
        if ended:
            result._partition_records = None
        if following == first:
            return None
        return Taken(self._epochs[tp], records, first, following, self._end(result))

    def _end(self, result: FetchResult) -> int:
        state = result._assignment.state_value(result._topic_partition)
        committed_only = self.consumer.app.isolation_level == "read_committed"
        if committed_only and state.lso is not None and state.lso >= 0:
            return int(state.lso)
        return int(state.highwater)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        if coordinator.generation == driver.DEFAULT_GENERATION_ID:
            # The group has put us out. Without a generation the broker would take the commit if
            # the group happened to be empty, and set back what others have done since.
            return False
        done: bool = await super()._commit(offsets)
        return done

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        """Committed offsets now, asked from the broker."""
        result: dict[TP, int | None] = await self.call_thread(self._committed, list(tps))
        return result

    async def _committed(self, tps: list[TP]) -> dict[TP, int | None]:
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(
            [TopicPartition(*tp) for tp in tps]
        )
        return {tp: found[tp].offset if tp in found else None for tp in tps}


def _as_read(partition: TopicPartition, record: Any) -> Any:
    """In place of aiokafka's copy of every record."""
    return record


class _ReadOffsets(defaultdict[TP, int | None]):
    """Faust's read offsets, blind for chunk topics.

    Faust drops messages below the read offset, and sets it after a delivery even when a seek came
    in between: after a seek back it would drop what was asked for. Sessions do this work.
    """

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(lambda: None)
        self._topics = topics

    def __getitem__(self, tp: TP) -> int | None:
        return None if tp.topic in self._topics else super().__getitem__(tp)


class ChunkConsumer(driver.Consumer):  # type: ignore[misc]  # faust's types are Any here
    """Faust's consumer, with chunks for the app's chunk topics."""

    app: Any  # a ``streams.transport.ChunkApp``
    _thread: _ChunkThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self._sessions: dict[TP, Session] = {}
        self._start: dict[TP, int | None] = {}
        self._epochs = itertools.count(1)
        self._release_lock = asyncio.Lock()
        self._opening_since_s: float | None = None
        super().__init__(*args, **options)
        self._read_offset = _ReadOffsets(self.app.chunk_topics)
        limit_s = self.app.watchdog_s
        self.watchdog = Watchdog(limit_s, min(1.0, limit_s / 5))

    def _new_consumer_thread(self) -> _ChunkThread:
        return _ChunkThread(self, loop=self.loop, beacon=self.beacon)

    # --- reading ---------------------------------------------------------------------------------

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP]]:
        await self._read_again()
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        places = {topic: self._places(topic) for topic in self.app.chunk_topics}
        wanted = {tp for tp in active if places.get(tp.topic, 1) > 0}
        if not wanted:
            await asyncio.sleep(_PAUSE_S)
            return {}, active
        # With a full queue come back soon: its place may be free before other records come.
        timeout = min(timeout, _TAKE_S) if len(wanted) == len(active) else _PAUSE_S
        return await self._thread.take(wanted, places, timeout), active

    def _places(self, topic: str) -> int:
        channels = self.app.topics._topic_name_index.get(topic, ())
        return min((c.queue.maxsize - c.queue.qsize() for c in channels), default=0)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """As Faust's, with one message a chunk.

        Faust seeks to the committed offsets when records come while the flow is stopped; here
        they are dropped. Whoever resumes the flow has sought before, and a seek in the middle of
        a rebalance fails or hangs.
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
        message = session.accept(taken, generation)
        if message is not None and expected is not None and taken.first != expected:
            self.log.error(
                "%s: asked for offset %s, the log went on at %s: records were removed before they "
                "were read, or the topic was made anew", tp, expected, taken.first,
            )  # fmt: skip
        self.app.monitor.track_tp_end_offset(tp, taken.highwater)
        return message

    def on_buffer_full(self, tp: TP) -> None:
        """Faust's brake, for other topics only: chunk topics are braked by places in the queue."""
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
        await super().perform_seek()
        tps = {tp for tp in self._start if tp.topic in self.app.chunk_topics}
        await self._open({tp: self._start[tp] for tp in tps})
        try:
            await asyncio.wait_for(self.app.hooks.on_assign(set(tps)), _HOOK_S)
        except Exception as error:
            self.app.fail(f"on_assign of {_names(tps)} failed: {error!r}", error)
        self._opening_since_s = None

    async def _open(self, starts: Mapping[TP, int | None]) -> None:
        numbered = {tp: (offset, next(self._epochs)) for tp, offset in starts.items()}
        for tp, (offset, epoch) in numbered.items():
            self._close(tp)
            self._sessions[tp] = Session(tp, epoch, offset)
        started = await self._thread.start_sessions(numbered)
        for tp in numbered.keys() - started:
            self._close(tp)

    def _close(self, tp: TP) -> None:
        session = self._sessions.get(tp)
        if session is not None:
            session.close()

    async def seek(self, partition: TP, offset: int) -> None:
        """For a chunk topic: the next chunk starts at ``offset``, queued ones are dropped.

        A chunk that an agent holds is not taken from it.
        """
        if partition.topic in self.app.chunk_topics:
            await self._open({TP(*partition): offset})
        else:
            await super().seek(partition, offset)

    async def _read_again(self) -> None:
        for tp, session in list(self._sessions.items()):
            if session.lost_from is not None and session.open:
                self.log.warning("%s: chunks were dropped, reads again from %s", tp,
                                 session.lost_from)  # fmt: skip
                await self.seek(tp, session.lost_from)

    def committed_at_start(self, tp: TP) -> int | None:
        """The committed offset that reading of ``tp`` started from; ``None``: there was none."""
        return self._start.get(tp)

    # --- letting go ------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """As Faust's; chunk partitions are checkpointed and committed first."""
        await self.release(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """As Faust's."""
        self._opening_since_s = monotonic() if assigned else None
        await super().on_partitions_assigned(assigned, generation_id)

    async def release(self, tps: Iterable[TP]) -> None:
        """Lets partitions go (law 3). The flow stays stopped."""
        async with self._release_lock:
            mine = {tp for tp in tps if tp in self._sessions}
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
            pass  # Faust's commit does nothing when another one is under way: wait for our turn
        await self.commit(wanted)
        return all(not self._should_commit(tp, self._new_offset(tp) or 0) for tp in wanted)

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
        # Chunk topics: no flush of Faust's producer first, the engine has its outputs
        # acknowledged; and only what was committed counts as committed.
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
        """Nothing: Faust compares two different clocks here, and only logs. See ``_watch``."""

    @Service.task
    async def _watch(self) -> None:
        watchdog = self.watchdog
        ends: Mapping[TP, int] = {}
        asked_s = 0.0
        while not self.should_stop:
            await self.sleep(watchdog.tick_s)
            now_s = monotonic()
            if now_s - asked_s > watchdog.limit_s / 4 and self._sessions:
                # Asked, not remembered from fetches: fetching itself may have stopped.
                ends, asked_s = await self._ends(), now_s
            partitions = {
                tp: Progress(self._committed_offset.get(tp), ends.get(tp)) for tp in self._sessions
            }
            for tp, stuck_s in watchdog.tick(now_s, partitions).items():
                self._report_stuck(tp, stuck_s, partitions[tp])
            since_s = self._opening_since_s
            if since_s is not None and now_s - since_s > max(watchdog.limit_s, 2 * _HOOK_S):
                self.app.fail(f"reading did not start within {now_s - since_s:.0f} s of assignment")

    async def _ends(self) -> Mapping[TP, int]:
        try:
            ends: Mapping[TP, int] = await self.highwaters(*self._sessions)
        except Exception as error:  # the broker is away: no end, no lag, nothing to report
            self.log.warning("ends of the log are not known: %r", error)
            return {}
        return {TP(*tp): end for tp, end in ends.items()}

    def _report_stuck(self, tp: TP, stuck_s: float, progress: Progress) -> None:
        session = self._sessions.get(tp)
        self.app.fail(
            f"{tp.topic}-{tp.partition}: no commit for {stuck_s:.0f} s although {progress.lag} "
            f"offsets wait (committed {progress.committed}, log ends at {progress.end}); "
            f"{describe(session.unfinished() if session else None)}"
        )


class ChunkTransport(driver.Transport):  # type: ignore[misc]  # faust's types are Any here
    """Faust's aiokafka transport with a ``ChunkConsumer``."""

    Consumer = ChunkConsumer


def _names(tps: Iterable[TP]) -> str:
    return ", ".join(f"{tp.topic}-{tp.partition}" for tp in sorted(tps))
