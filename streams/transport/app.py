"""Faust app whose agents get whole fetches: one chunk of records of one partition per event.

Faust delivers record by record, about 12,000 a second whatever an agent does. Here an event is a
``Chunk``; app, agents, group membership and rebalances are Faust's own.

Invariants:
1. The first failure ends the process: an agent that raises or returns, a crashed Faust service, a
   partition without progress, a missing internal of Faust or aiokafka. From then on nothing is
   delivered and nothing committed. Faust itself would skip the event and go on.
2. Delivery is at least once and in offset order per partition. Only what ``Hooks.next_offset``
   returns is committed.
3. One agent instance per chunk topic: two would work on one partition out of order.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, cast

import faust
from faust.agents import Agent
from faust.exceptions import ImproperlyConfigured
from faust.tables.manager import TableManager
from faust.topics import Topic
from mode.utils.queues import ThrowableQueue

from schemas.errors import MailpulseError
from streams.transport.batched import Batched
from streams.transport.chunks import TP, Chunk
from streams.transport.consumer import ChunkConsumer, ChunkTransport
from streams.transport.internals import check_internals

__all__ = ["TP", "Chunk", "ChunkApp", "Hooks", "check_internals"]

log = logging.getLogger(__name__)


class Hooks(Protocol):
    """What the engine decides. All are called in the app's event loop."""

    def next_offset(self, tp: TP) -> int | None:
        """The offset that may be committed, below which all is checkpointed; ``None``: nothing."""

    def is_open(self, tp: TP) -> bool:
        """Whether chunks of ``tp`` may come, since its state is loaded. Others do not wait."""

    async def on_revoke(self, tps: set[TP]) -> None:
        """Finish or abandon work in progress on ``tps``, and checkpoint.

        No more chunks of them come. Afterwards ``next_offset`` of each is committed and the
        partitions are revoked, even if the same rebalance assigns them again (Faust has no
        incremental rebalances). Called at shut-down too, but not after a fatal error. Cancelled
        after 0.8 of the rebalance time-out, since the group would go on without this member.
        """

    async def on_assign(self, tps: set[TP]) -> None:
        """``tps`` are assigned; no chunk of them has come yet. Must be quick: state is restored
        later, and chunks wait for it (``is_open``).

        All partitions are named, also those that were assigned before the rebalance: they had been
        revoked. Kept state may be used only if it reaches exactly ``committed_now``.
        """


class ChunkTopic(Topic):
    """A topic whose events' values are ``Chunk``; its queue counts chunks."""

    def _compile_decode(self) -> None:
        """Nothing to compile: a chunk is not decoded."""

    async def decode(self, message: Any, *, propagate: bool = False) -> Any:
        """The event of a chunk."""
        return self.app.create_event(None, message.value, None, message)

    @property
    def queue(self) -> ThrowableQueue[Any]:
        """The queue between the consumer and the agent."""
        if self._queue is None:
            self._queue = _ChunkQueue(
                maxsize=self.maxsize, flow_control=self.app.flow_control, clear_on_resume=True
            )
        return self._queue


class _ChunkQueue(ThrowableQueue[Any]):
    """Faust clears queues when flow stops and when it resumes; those chunks are read again."""

    _queue: deque[Any]  # asyncio.Queue's own

    def clear(self) -> None:
        for event in tuple(self._queue):
            event.message.lost()
        super().clear()


class _Tables(TableManager):
    """Faust waits a second here for tables to be declared; in a ``ChunkApp`` all are by then."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class ChunkAgent(Agent):
    """An agent that ends the process when it ends (invariant 1)."""

    app: Any  # a ``ChunkApp``

    def __init__(self, fun: Any, **options: Any) -> None:
        if options.get("concurrency", 1) != 1 or options.get("isolated_partitions"):
            raise ImproperlyConfigured("an agent of a ChunkApp has one instance (invariant 3)")
        super().__init__(fun, **options)

    async def _execute_actor(self, coro: Any, aref: Any) -> None:
        error: Exception | None = None
        try:
            await coro
            reason = "its function returned"
        except asyncio.CancelledError:
            if self.should_stop or self.app.should_stop:
                raise
            reason = "it was cancelled"
        except Exception as raised:
            error = raised
            reason = str(raised) if isinstance(raised, MailpulseError) else repr(raised)
        if not self.should_stop and not self.app.should_stop:
            self.app.fail(f"agent {self.name} ended: {reason}", error)


class ChunkApp(faust.App):
    """A Faust app with chunk topics.

    Args:
        chunk_topics: names of the topics to deliver in chunks.
        chunk_records_max: records in a chunk.
        chunk_bytes_max: bytes of keys, values and overhead in a chunk; one record may exceed it.
        hooks: see ``Hooks``.
        on_fatal: called once, in the event loop, with a message for the operator. The process
            should end then; ``streams.transport.runner.run`` does it.
        chunks_buffered_max: chunks queued per topic, next to the one in work.
        watchdog_s: seconds without a commit, while there is lag, after which the process ends.
        claims: partitions whose state is on this machine, with the offset that it reaches; called
            before every join, so that partitions are assigned to the member with the newest state
            (``streams.transport.assignment``). Default: what was read before the rebalance.
        commit_notes: topic -> metadata stored with each commit of it. A commit with other metadata
            is of another log under the same name, and reading starts at 0 then. One without
            metadata is valid.
        options: Faust's settings, see ``streams.transport.runner.faust_options``.

    Raises:
        InternalsMissing: the installed Faust or aiokafka is not the one this was written for.
    """

    def __init__(
        self,
        *args: Any,
        chunk_topics: Collection[str],
        chunk_records_max: int,
        chunk_bytes_max: int,
        hooks: Hooks,
        on_fatal: Callable[[str], None],
        chunks_buffered_max: int = 8,
        watchdog_s: float = 120.0,
        claims: Callable[[], Mapping[TP, int]] | None = None,
        commit_notes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        check_internals()
        self.chunk_topics = frozenset(chunk_topics)
        self.chunk_records_max = chunk_records_max
        self.chunk_bytes_max = chunk_bytes_max
        self.chunks_buffered_max = chunks_buffered_max
        self.hooks = hooks
        self.watchdog_s = watchdog_s
        self.claims = claims
        self.commit_notes = dict(commit_notes or {})
        self.failed = asyncio.Event()
        self.failure: str | None = None
        self._on_fatal = on_fatal
        self._topics_made: dict[str, ChunkTopic] = {}
        self._begins = Batched(lambda tps: self._chunks.earliest_offsets(*tps))
        self._ends = Batched(lambda tps: self._chunks.highwaters(*tps))
        options.setdefault("Agent", ChunkAgent)
        options.setdefault("TableManager", _Tables)
        super().__init__(*args, **options)

    def chunk_topic(self, name: str) -> ChunkTopic:
        """The topic whose events' values are ``Chunk``.

        Raises:
            ValueError: ``name`` is not among the app's ``chunk_topics``.
        """
        if name not in self.chunk_topics:
            raise ValueError(f"{name} is not among the app's chunk topics")
        if name not in self._topics_made:
            # acks=False: Faust keeps no offsets (``streams.transport.consumer``, invariant 2)
            self._topics_made[name] = ChunkTopic(
                self, topics=[name], acks=False, maxsize=self.chunks_buffered_max
            )
        return self._topics_made[name]

    async def seek(self, tp: TP, offset: int) -> None:
        """Makes the next chunk of ``tp`` start at ``offset``; queued chunks are dropped.

        An agent keeps the chunk it is working on. Without effect once ``tp`` is revoked.
        """
        await self._chunks.seek(tp, offset)

    async def rewind(self, tp: TP, offset: int) -> bool:
        """Commits ``offset``, below what is committed, and makes the next chunk start there.

        As with ``seek``, an agent keeps the chunk it is working on.

        Returns:
            Whether it is committed; ``False``: the group has rebalanced, or the app has failed.
        """
        return await self._chunks.rewind(tp, offset)

    def committed_now(self, tp: TP) -> int | None:
        """The offset that this app last committed for ``tp``, or found when it was assigned.

        A commit that the group refused, because another member has the partition now, does not
        count.
        """
        return self._chunks.committed_now(tp)

    async def end_offset(self, tp: TP) -> int:
        """The present end of the partition's log: the last stable offset.

        Raises:
            aiokafka.errors.KafkaError: the broker does not answer in time.
        """
        return await self._ends.of(tp)

    async def begin_offset(self, tp: TP) -> int:
        """The first offset that the partition's log still holds.

        Raises:
            aiokafka.errors.KafkaError: the broker does not answer in time.
        """
        return await self._begins.of(tp)

    def touch(self, tp: TP) -> None:
        """Tells the watchdog that long work on ``tp``, such as a restore, goes on."""
        self._chunks.watchdog.touch(tp)

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """Ends the app (invariant 1), from any thread; only the first call counts."""
        try:
            inside = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            inside = False
        if inside:
            self._fail(message, error)
        else:
            self.loop.call_soon_threadsafe(self._fail, message, error)

    def _fail(self, message: str, error: BaseException | None) -> None:
        if self.failed.is_set():
            return
        self.failed.set()
        self.failure = message
        self.flow_control.suspend()
        if self._consumer is not None:
            self._consumer.stop_flow()
        log.critical("%s", message, exc_info=error)
        self._on_fatal(message)

    @property
    def _chunks(self) -> ChunkConsumer:
        return cast(ChunkConsumer, self.consumer)

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_consumer, self)

    def _crash(self, reason: BaseException) -> None:
        # Every crashed service of the app gets here, from any thread.
        super()._crash(reason)
        if not self.should_stop:
            self.fail(f"Faust stopped working: {reason!r}", reason)

    async def _stop_consumer(self) -> None:
        if self._consumer is not None:
            await self._chunks.release(None)
        await super()._stop_consumer()

    def _on_rebalance_when_stopped(self) -> None:
        # Faust would close aiokafka's client here, from the wrong event loop. It is closed anyway.
        pass

    def _create_directories(self) -> None:
        # Faust would make a directory for its tables; there are none.
        pass
