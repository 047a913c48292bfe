"""The whole engine over topics in memory: real agents, real state on disk, Faust's real consumer
and streams (``tests/streams/rig.py``), a fake broker and a fake clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import TopicPartition
from faust.transport.conductor import Conductor

from schemas import topics
from schemas.event import Event, message_key
from schemas.settings import Settings
from streams.kafka.stretches import PartitionStretches
from streams.transport.chunks import TP
from streams.transport.consumer import ChunkConsumer
from streams.worker.worker import Worker
from tests.builders import RECEIVED_AT
from tests.streams.damaging import killed
from tests.streams.folding import CODEC, LOG
from tests.streams.rig import FakeLog, FakeRecord, FakeThread

PARTITIONS = 2
_NAMES = (topics.RAW, topics.ENRICHED, topics.MINUTES, topics.RATES, topics.ALERTS)


@dataclass
class FakeConsumer:
    """aiokafka's consumer of one partition, as far as ``streams.kafka.stretches`` uses it.

    Attributes:
        grows: records that are appended during each fetch.
    """

    log: FakeLog
    grows: int = 0
    at: int = 0

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Goes to ``offset``."""
        self.at = offset

    async def position(self, tp: TopicPartition) -> int:
        """The next offset."""
        return self.at

    async def getmany(
        self, tp: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[FakeRecord]]:
        """Returns all available records, and appends more meanwhile."""
        await asyncio.sleep(0)
        got = [record for record in self.log.records if record.offset >= self.at][:max_records]
        if got:
            self.at = got[-1].offset + 1
        for _ in range(self.grows):
            self.log.records.append(FakeRecord(self.log.end))
            self.log.end += 1
        return {tp: got}


@dataclass
class Broker:
    """Topics and commits; it outlives an engine.

    Attributes:
        answers: while cleared, requests for restoring state are not answered.
    """

    logs: dict[TP, FakeLog] = field(default_factory=dict)
    committed: dict[TP, int] = field(default_factory=dict)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()
        for name in _NAMES:
            for number in range(PARTITIONS):
                self.log(name, number)

    def log(self, topic: str, partition: int) -> FakeLog:
        """The log of a partition."""
        return self.logs.setdefault(TP(topic, partition), FakeLog([], 0))

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int
    ) -> int:
        """Writes a record; returns its offset."""
        log = self.log(topic, partition)
        log.records.append(
            FakeRecord(
                log.end, cast(bytes, value), cast(bytes, key), timestamp,
                topic=topic, partition=partition,
            )
        )  # fmt: skip
        log.end += 1
        return log.end - 1

    def feed(self, events: Iterable[Event]) -> None:
        """Raw events, each to the partition of its message."""
        for event in events:
            key = message_key(event) or b""
            value = CODEC.encode("raw_event", event)
            self.append(topics.RAW, sum(key) % PARTITIONS, key, value, event["received_at"] // 1000)

    def records(self, topic: str) -> list[FakeRecord]:
        """All records of a topic, partition after partition."""
        return [
            record for tp, log in sorted(self.logs.items()) if tp.topic == topic
            for record in log.records
        ]  # fmt: skip

    def decoded(self, topic: str, schema: str) -> list[dict[str, Any]]:
        """The values of a topic."""
        return [
            CODEC.decode(record.value, schema)
            for record in self.records(topic)
            if record.value is not None
        ]

    @asynccontextmanager
    async def stretches(
        self, settings: Settings, topic: str, partition: int
    ) -> AsyncIterator[PartitionStretches]:
        """As ``streams.kafka.stretches.stretches_of``."""
        if topic != topics.RAW:
            await self.answers.wait()
        log = self.log(topic, partition)
        place = TopicPartition(topic, partition)
        yield PartitionStretches(FakeConsumer(log), place, 0, log.end)


class FakeBatch:
    """aiokafka's record batch."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes | None, bytes | None, int]] = []

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: int, headers: Any
    ) -> object:
        """Never full."""
        self.rows.append((key, value, timestamp))
        return self.rows

    def record_count(self) -> int:
        """How many rows."""
        return len(self.rows)


@dataclass
class FakeProducer:
    """aiokafka's producer into a ``Broker``: every batch is acknowledged at once."""

    broker: Broker

    def create_batch(self) -> FakeBatch:
        """An empty one."""
        return FakeBatch()

    async def partitions_for(self, topic: str) -> set[int]:
        """All topics have the same number."""
        return set(range(PARTITIONS))

    async def send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """Writes a batch."""
        offsets = [self.broker.append(topic, partition, *row) for row in batch.rows]
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=offsets[0]))
        return done


@dataclass
class Clock:
    """A clock that is set by hand."""

    now_s: float = RECEIVED_AT / 1e6

    def now_ns(self) -> int:
        """As ``time.time_ns``."""
        return int(self.now_s * 1e9)


class EngineRig:
    """A worker over a ``Broker``; ``start`` and ``assign`` it.

    Args:
        folder: of its state.
        options: settings; ``rulebook`` is the worker's, ``log_id`` that of the raw topic.
    """

    def __init__(
        self, broker: Broker, folder: Path, clock: Clock, options: Mapping[str, Any] | None = None
    ) -> None:
        given = dict(options or {})
        rulebook, log_id = given.pop("rulebook", None), given.pop("log_id", LOG)
        self.broker, self.folder, self.clock = broker, folder, clock
        settings = Settings(
            state_dir=folder, log_id=log_id, partitions=PARTITIONS, consumer_group="rig",
            kafka_bootstrap="127.0.0.1:1", **given,
        )  # fmt: skip
        self.worker = Worker(
            settings, log_id=log_id, codec=CODEC, source=broker.stretches, now_ns=clock.now_ns,
            rulebook=rulebook,
        )  # fmt: skip
        self.worker.outputs.producer = FakeProducer(broker)
        self.app = self.worker.app
        self.app.loop = asyncio.get_running_loop()
        self.consumer = cast(ChunkConsumer, self.app.consumer)
        self.thread = FakeThread(self.app, broker.logs)
        self.thread.offsets = broker.committed
        self.consumer._thread = self.thread  # type: ignore[assignment]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def start(self) -> None:
        """Starts the agents and what feeds them; nothing is assigned yet."""
        for agent in self.app.agents.values():
            await agent.start()
        await asyncio.sleep(0)
        await cast(Conductor, self.app.topics)._update_indices()
        self.consumer.stop_flow()
        fetcher: Any = SimpleNamespace(_stopped=asyncio.Event())
        self._tasks = [asyncio.create_task(self.consumer._drain_messages(fetcher))]
        self._tasks += [
            asyncio.create_task(self.worker.guarded("opening", agent.keep_open()))
            for agent in self.worker.agents
        ]
        reprocessing = self.worker.enrich.reprocessing.second.run()
        self._tasks.append(asyncio.create_task(self.worker.guarded("reprocessing", reprocessing)))

    async def assign(self, *partitions: int) -> None:
        """What aiokafka and Faust do after a group was joined; by default all partitions."""
        numbers = partitions or range(PARTITIONS)
        tps = {TP(agent.topic, number) for agent in self.worker.agents for number in numbers}
        self.app.consumer_generation_id += 1
        self.thread.assigned = set(tps)
        self.consumer._set_active_tps(set(tps))
        await self.app.topics.on_partitions_assigned(set(tps))
        self.consumer.resume_partitions(set(tps))
        await self.consumer.perform_seek()
        self.app.flow_control.resume()
        self.consumer.resume_flow()

    async def revoke(self) -> None:
        """What they do before a group is joined again: everything is released."""
        revoked = set(self.thread.assigned)
        self.thread.sessions.clear()
        await self.consumer.on_partitions_revoked(revoked)
        self.thread.assigned = set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that must happen.

        Raises:
            AssertionError: the worker ended instead.
        """
        while not condition():
            assert self.app.failure is None, self.app.failure
            await asyncio.sleep(0.001)

    async def settle(self, rounds: int = 200) -> None:
        """Runs everything that happens without an outside event."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    def reached(self, topic: str, partition: int) -> bool:
        """Whether the agent of a topic has reached the end of a partition."""
        tp = TP(topic, partition)
        states: Any = (
            self.worker.enrich.shards if topic == topics.RAW else self.worker.campaigns.states
        )
        return tp in states and states[tp].applied + 1 >= self.broker.logs[tp].end

    async def work_off(self) -> None:
        """Processes all records, checkpoints and commits: raw events first, then minutes."""
        for agent in self.worker.agents:
            mine = [tp for tp in self.thread.assigned if tp.topic == agent.topic]
            done = False
            while not done:
                await self.until(lambda mine=mine: all(self.reached(*tp) for tp in mine))  # type: ignore[misc]
                for work in agent.works():
                    await agent.checkpoint(work)  # what it finds damaged is opened again
                await asyncio.sleep(0)  # what is being opened needs its turn
                done = all(agent.is_open(tp) and self.reached(*tp) for tp in mine)
        assert await self.consumer.commit_chunks()

    async def tick(self) -> None:
        """What the worker does periodically: rates, idle checkpoints."""
        self.worker.campaigns._due_at = 0.0  # the pause between two looks is real time's
        self.worker.campaigns._looked.clear()
        await self.worker.tick()

    async def kill(self, into: Path) -> None:
        """As ``kill -9``: nothing is checkpointed; the files on disk are copied to ``into``."""
        killed(self.worker.directory._open.values(), self.folder, into)
        await self.stop()

    async def stop(self) -> None:
        """Ends without a checkpoint."""
        if self._stopped:
            return
        self._stopped = True
        self.app._stopped.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for agent in self.app.agents.values():
            await agent.stop()
        for mine in self.worker.agents:
            mine.close()
        self.worker.directory.close()


EngineMaker = Callable[..., Awaitable[EngineRig]]
"""Type of the fixture ``engine_of``."""
