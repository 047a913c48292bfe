"""The part of chunk delivery that runs in the thread of aiokafka's consumer.

Invariants:
1. A chunk partition is read only while it has a session, known by its number. Seeking and opening
   the session are one step, so that nothing is read and lost in between.
2. At most one chunk of a partition is taken at a time, and no more chunks of a topic than its
   queue has places. What stays in aiokafka's buffer keeps it from fetching more.
3. Partitions take turns.
"""

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

import aiokafka
from aiokafka.consumer.fetcher import FetchResult, OffsetResetStrategy
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from mode.threads import WorkerThread

from schemas.metadata_pace import paced
from streams.transport.assignment import ClaimAssignor
from streams.transport.chunks import TP, Taken, take
from streams.transport.internals import check_internals

__all__ = ["ChunkThread", "Look", "committed_in"]

log = logging.getLogger(__name__)

FETCH_WAIT_MS_MAX = 500
"""How long a broker may delay the answer to a fetch that finds nothing; Faust sets 1.5 s."""
_PAUSE_S = 0.01
"""Wait while a rebalance is under way."""


class Look(NamedTuple):
    """Where a partition stands on the broker and in aiokafka.

    Attributes:
        end: end of the log: the last stable offset.
        position: next offset that aiokafka returns; ``None``: not known yet.
    """

    end: int
    position: int | None


class _DaemonThread(WorkerThread):
    """Does not keep a process alive that has decided to end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.daemon = True


class ChunkThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer, in a thread and an event loop of its own."""

    Worker = _DaemonThread
    consumer: Any  # a ``streams.transport.consumer.ChunkConsumer``

    def __init__(self, *args: Any, **options: Any) -> None:
        # Partitions that may be read, each with the number of its session. Only this thread writes.
        self._sessions: dict[TP, int] = {}
        self.assignor = ClaimAssignor()
        super().__init__(*args, **options)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = paced(super()._create_worker_consumer(transport))
        # Faust has no settings for these. aiokafka reads them when the fetcher is started.
        _replace(consumer, "_isolation_level", "read_committed")
        _replace(consumer, "_fetch_max_wait_ms", FETCH_WAIT_MS_MAX)
        if self._assignor is RoundRobinPartitionAssignor:  # Faust's own is needed for its tables
            _replace(consumer, "_partition_assignment_strategy", [self.assignor])
        return consumer

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """As Faust's; reading ends first."""
        self._sessions.clear()
        await super().on_partitions_revoked(revoked)

    async def start_sessions(self, starts: Mapping[TP, tuple[int | None, int]]) -> set[TP]:
        """Seeks and opens sessions, by ``(offset, session)`` each; ``None``: none committed.

        Returns:
            the partitions that are still assigned; the others were left alone.
        """
        result: set[TP] = await self.call_thread(self._start_sessions, starts)
        return result

    async def _start_sessions(self, starts: Mapping[TP, tuple[int | None, int]]) -> set[TP]:
        consumer = self._ensure_consumer()
        started = set()
        for tp, (offset, session) in starts.items():
            partition = TopicPartition(tp.topic, tp.partition)
            if not consumer._subscription.is_assigned(partition):
                continue
            if offset is not None:
                consumer._fetcher.seek_to(partition, offset)
            elif tp in self._sessions:  # read before in this assignment: back to the start
                consumer._fetcher.request_offset_reset([partition], OffsetResetStrategy.EARLIEST)
            self._sessions[tp] = session
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
        left = self.consumer.app.chunk_records_max
        for partition in list(buffered):
            if left <= 0:
                break  # a longer call would keep the GIL from the other thread's event loop
            tp = TP(partition.topic, partition.partition)
            if tp not in wanted:
                if not fetcher._subscriptions.is_assigned(partition):
                    del buffered[partition]
                continue
            chunked = tp.topic in topics
            if chunked and (tp not in self._sessions or places[tp.topic] <= 0):
                continue
            result = buffered[partition]
            if type(result) is not FetchResult:
                if drained:
                    return drained  # the error is raised next time, when nothing was taken
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
                    left -= len(got.records)
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
        return Taken(self._sessions[tp], records, first, following, self._end(result))

    def _end(self, result: FetchResult) -> int:
        state = result._assignment.state_value(result._topic_partition)
        if state.lso is not None and state.lso >= 0:
            return int(state.lso)
        return int(state.highwater)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        if coordinator.generation == driver.DEFAULT_GENERATION_ID:
            # The group has removed this member. Without a generation the broker would accept the
            # commit if the group is empty, and undo what others have committed since.
            return False
        notes, assigned = self.consumer.app.commit_notes, self.assignment()
        wanted = {
            TopicPartition(*tp): OffsetAndMetadata(offset, notes.get(tp.topic, ""))
            for tp, offset in offsets.items()
            if tp in assigned
        }
        try:
            await self._ensure_consumer().commit(wanted)
        except CommitFailedError:  # the group has rebalanced
            return False
        except Exception as error:
            await self.crash(error)
            return False
        return True

    async def seek_to_committed(self) -> Mapping[TP, Any]:
        """Seeks to the committed offsets; ``None``: nothing is committed.

        A commit of another log gives offset 0 (``commit_notes`` of ``ChunkApp``).
        """
        found: Mapping[TP, Any] = await self.call_thread(self._seek_to_committed)
        return found

    async def _seek_to_committed(self) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        partitions = consumer.assignment()
        found = await consumer._coordinator.fetch_committed_offsets(list(partitions))
        offsets: dict[TP, int | None] = {}
        for partition in partitions:
            tp = TP(partition.topic, partition.partition)
            offsets[tp] = offset = committed_in(self.consumer.app.commit_notes, tp, found)
            if offset is not None and consumer._subscription.is_assigned(partition):
                consumer._fetcher.seek_to(partition, offset)
        return offsets

    async def look(self, tps: set[TP]) -> dict[TP, Look]:
        """Where logs end and reading stands, without partitions that are no longer assigned."""
        looks: dict[TP, Look] = await self.call_thread(self._look, tps)
        return looks

    async def _look(self, tps: set[TP]) -> dict[TP, Look]:
        consumer = self._ensure_consumer()
        ends = await consumer.end_offsets([TopicPartition(*tp) for tp in tps])
        subscription = consumer._subscription.subscription
        assignment = subscription.assignment if subscription else None
        looks = {}
        for tp in tps:
            state = assignment.state_value(tp) if assignment else None
            if state is not None:
                position = state.position if state.has_valid_position else None
                looks[tp] = Look(ends[tp], position)
        return looks


def committed_in(
    notes: Mapping[str, str], tp: TP, found: Mapping[TopicPartition, OffsetAndMetadata]
) -> int | None:
    """The committed offset of a partition, or 0 if that is of another log; ``None``: none."""
    committed = found.get(TopicPartition(*tp))
    if committed is None or committed.offset < 0:
        return None
    note = notes.get(tp.topic)
    if note and committed.metadata and committed.metadata != note:
        log.warning("%s: offset %s was committed of another log, %s", tp, committed.offset,
                    committed.metadata)  # fmt: skip
        return 0
    return int(committed.offset)


def _replace(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute that must exist: one with another name would never be read."""
    check_internals([(owner, name)])
    setattr(owner, name, value)


def _as_read(partition: TopicPartition, record: Any) -> Any:
    """Replaces aiokafka's copy of every record."""
    return record
