"""A ``ChunkApp`` without a broker: Faust's real consumer, conductor, queue and streams over a
fake of the consumer's thread, which has the logs in memory."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from faust.transport.conductor import Conductor

from streams.transport.app import ChunkApp
from streams.transport.assignment import ClaimAssignor
from streams.transport.chunks import TP, Chunk, Taken, take
from streams.transport.consumer import ChunkConsumer
from streams.transport.thread import Look

TOPIC = "in"


@dataclass(frozen=True)
class FakeRecord:
    """A record, as far as the transport and its tests use it."""

    offset: int
    value: bytes = b"v"
    key: bytes = b"k"
    timestamp: int = 0
    timestamp_type: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = TOPIC
    partition: int = 0
    checksum: None = None
    serialized_key_size: int = 1
    serialized_value_size: int = 1


@dataclass
class FakeLog:
    """Records by offset; ``end`` may be above the last one (transaction markers)."""

    records: list[FakeRecord]
    end: int

    @classmethod
    def of(cls, offsets: Iterable[int], end: int | None = None) -> "FakeLog":
        records = [FakeRecord(offset) for offset in offsets]
        return cls(records, (records[-1].offset + 1 if records else 0) if end is None else end)


class FakeThread:
    """Replaces ``ChunkThread``: the same promises, without threads and broker."""

    def __init__(self, app: ChunkApp, logs: Mapping[TP, FakeLog]) -> None:
        self.app = app
        self.logs = dict(logs)
        self.assigned: set[TP] = set()
        self.offsets: dict[TP, int] = {}
        self.positions: dict[TP, int] = {}
        self.sessions: dict[TP, int] = {}
        self.commits: list[dict[TP, int]] = []
        self.commits_succeed = True
        self.resets = False
        """Below the log's start, a fetch continues at the start, as aiokafka's reset does."""
        self.assignor = ClaimAssignor()

    def assignment(self) -> set[TP]:
        return set(self.assigned)

    async def seek_to_committed(self) -> dict[TP, int | None]:
        for tp in self.assigned:
            self.positions[tp] = self.offsets.get(tp, 0)
        return {tp: self.offsets.get(tp) for tp in self.assigned}

    async def start_sessions(self, starts: Mapping[TP, tuple[int | None, int]]) -> set[TP]:
        await asyncio.sleep(0)
        for tp, (offset, session) in starts.items():
            if tp in self.assigned:
                self.positions[tp] = offset or 0
                self.sessions[tp] = session
        return starts.keys() & self.assigned

    async def take(
        self, wanted: set[TP], places: dict[str, int], timeout_s: float
    ) -> dict[TP, Taken | list[FakeRecord]]:
        await asyncio.sleep(0)
        result: dict[TP, Taken | list[FakeRecord]] = {}
        for tp in sorted(wanted & self.assigned):
            log, position = self.logs[tp], self.positions[tp]
            if self.resets and log.records:
                position = max(position, log.records[0].offset)
            ahead = [record for record in log.records if record.offset >= position]
            if tp.topic not in self.app.chunk_topics:
                if ahead:
                    result[tp] = ahead
                    self.positions[tp] = log.end
            elif tp in self.sessions and places[tp.topic] > 0 and position < log.end:
                places[tp.topic] -= 1
                records, ended = take(ahead, self.app.chunk_records_max, self.app.chunk_bytes_max)
                self.positions[tp] = log.end if ended else records[-1].offset + 1
                result[tp] = Taken(
                    self.sessions[tp], records, position, self.positions[tp], log.end
                )
        if not result:
            await asyncio.sleep(min(timeout_s, 0.001))
        return result

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        await asyncio.sleep(0)
        if self.commits_succeed:
            self.commits.append(dict(offsets))
            self.offsets.update(offsets)
        return self.commits_succeed

    def highwater(self, tp: TP) -> int:
        return self.logs[tp].end

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        return {tp: self.logs[tp].end for tp in tps}

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        logs = {tp: self.logs[tp] for tp in tps}
        return {tp: log.records[0].offset if log.records else log.end for tp, log in logs.items()}

    async def look(self, tps: set[TP]) -> dict[TP, Look]:
        return {tp: Look(self.logs[tp].end, self.positions.get(tp)) for tp in tps}


@dataclass
class FakeHooks:
    """An engine that checkpoints on request."""

    done: dict[TP, int] = field(default_factory=dict)
    events: list[tuple[str, frozenset[TP]]] = field(default_factory=list)
    closed: set[TP] = field(default_factory=set)
    revoking: Callable[[set[TP]], Awaitable[None]] | None = None

    def next_offset(self, tp: TP) -> int | None:
        return self.done.get(tp)

    def is_open(self, tp: TP) -> bool:
        return tp not in self.closed

    async def on_revoke(self, tps: set[TP]) -> None:
        self.events.append(("revoke", frozenset(tps)))
        if self.revoking is not None:
            await self.revoking(tps)

    async def on_assign(self, tps: set[TP]) -> None:
        self.events.append(("assign", frozenset(tps)))


_numbers = itertools.count()


class Rig:
    """An app with one agent that puts what it gets into ``chunks``; ``gate`` blocks it."""

    def __init__(self, logs: Mapping[TP, FakeLog], **options: Any) -> None:
        self.fatal: list[str] = []
        self.hooks = FakeHooks()
        settings: dict[str, Any] = {
            "chunk_topics": [TOPIC], "chunk_records_max": 10, "chunk_bytes_max": 1 << 20,
            "hooks": self.hooks, "on_fatal": self.fatal.append, **options,
        }  # fmt: skip
        self.app = ChunkApp(
            f"rig-{next(_numbers)}", broker="kafka://127.0.0.1:1", store="memory://",
            web_enabled=False, stream_wait_empty=False, topic_disable_leader=True, **settings,
        )  # fmt: skip
        self.app.loop = asyncio.get_running_loop()
        self.consumer = cast(ChunkConsumer, self.app.consumer)
        self.thread = FakeThread(self.app, logs)
        self.consumer._thread = self.thread  # type: ignore[assignment]
        self.chunks: list[Chunk] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.held: Chunk | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, agent: Callable[[Any], Awaitable[None]] | None = None) -> None:
        """Starts the agent and the loop that feeds it; nothing is assigned yet."""
        agents = self.app.agent(self.app.chunk_topic(TOPIC))(agent or self._agent)
        await agents.start()
        await asyncio.sleep(0)
        await self.index()
        self.consumer.stop_flow()
        fetcher: Any = SimpleNamespace(_stopped=asyncio.Event())
        drain = self.consumer._drain_messages(fetcher)
        self._tasks.append(asyncio.create_task(drain))
        self._agents = agents

    async def index(self) -> None:
        """Tells Faust's conductor about topics for which agents were added."""
        await cast(Conductor, self.app.topics)._update_indices()

    async def stop(self) -> None:
        self.app._stopped.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._agents.stop()

    async def _agent(self, stream: Any) -> None:
        async for chunk in stream:
            self.held = chunk
            await self.gate.wait()
            self.chunks.append(chunk)
            self.held = None

    async def assign(self, *tps: TP) -> None:
        """What aiokafka and Faust do after a group was joined."""
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
        """Waits for something that must happen; the test's time limit ends a vain wait."""
        while not condition():  # noqa: ASYNC110 - conditions of many kinds, none has an event
            await asyncio.sleep(0.001)

    async def settle(self, rounds: int = 200) -> None:
        """Runs everything that happens without an outside event."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    def offsets(self, tp: TP) -> list[int]:
        """Offsets that the agent has finished, in order."""
        return [r.offset for chunk in self.chunks if chunk.tp == tp for r in chunk.records]


RigMaker = Callable[..., Awaitable[Rig]]
"""Type of the fixture ``rig_of``."""


def tiles(chunks: Sequence[Chunk]) -> bool:
    """Whether chunks of one partition follow each other without gaps or overlaps."""
    return all(left.last + 1 == right.first for left, right in itertools.pairwise(chunks))
