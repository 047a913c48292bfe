"""A worker for the transport's live tests: an engine that keeps its checkpoints in a journal.

The journal has one line per checkpoint: which offsets of which partition were finished, and how
many records they held. A line is on disk before the transport is told that it may be committed, so
a commit above the highest line is a defect of the transport.

From a shell: ``python -m tests.live.chunk_worker '{"bootstrap": …}'`` with ``Task``'s fields.
"""

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.settings import Settings
from streams.transport.app import ChunkApp
from streams.transport.chunks import TP, Chunk
from streams.transport.runner import faust_options, run


@dataclass(frozen=True)
class Task:
    """What a worker has to do.

    Attributes:
        mode: ``work``; or a fault: ``raise`` and ``return`` end the agent at its first chunk,
            ``hang`` never finishes it.
        checkpoint_chunks: chunks between checkpoints.
        pace_s: pause per chunk, so that there is unfinished work when something happens.
    """

    bootstrap: str
    topic: str
    group: str
    journal: str
    mode: str = "work"
    checkpoint_chunks: int = 3
    pace_s: float = 0.0
    session_timeout_ms: int = 6_000
    chunk_records_max: int = 500
    watchdog_s: float = 60.0


@dataclass(frozen=True)
class Line:
    """A checkpoint: offsets ``first`` to ``last`` of ``partition`` are finished."""

    worker: int
    partition: int
    first: int
    last: int
    records: int


@dataclass
class Engine:
    """Finishes chunks, checkpoints every few of them and when partitions are revoked."""

    task: Task
    app: ChunkApp | None = None
    checkpointed: dict[TP, int] = field(default_factory=dict)
    pending: dict[TP, list[Chunk]] = field(default_factory=dict)
    expected: dict[TP, int | None] = field(default_factory=dict)
    chunks: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def next_offset(self, tp: TP) -> int | None:
        return self.checkpointed.get(tp)

    def is_open(self, tp: TP) -> bool:
        return True

    async def on_assign(self, tps: set[TP]) -> None:
        assert self.app is not None
        assert not self.pending, "chunks came before their partitions were assigned"
        for tp in tps:
            self.expected[tp] = self.app.committed_now(tp)

    async def on_revoke(self, tps: set[TP]) -> None:
        chunks = self.chunks
        await self.idle.wait()
        assert self.chunks - chunks <= 1, "a chunk came after its partition was revoked"
        self.checkpoint(tps)
        for tp in tps:
            self.expected.pop(tp, None)
            self.pending.pop(tp, None)
        # What was checkpointed stays known: right after this the transport asks for it.

    def checkpoint(self, tps: set[TP]) -> None:
        for tp in tps & self.pending.keys():
            chunks = self.pending.pop(tp)
            line = Line(
                os.getpid(), tp.partition, chunks[0].first, chunks[-1].last,
                sum(len(chunk.records) for chunk in chunks),
            )  # fmt: skip
            with Path(self.task.journal).open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(asdict(line)) + "\n")
            self.checkpointed[tp] = line.last + 1

    async def agent(self, stream: Any) -> None:
        """The agent: finishes chunks in order, asserts that none is skipped."""
        async for chunk in stream:
            if self.task.mode == "return":
                return
            self.idle.clear()
            try:
                await self._finish(chunk)
            finally:
                self.idle.set()

    async def _finish(self, chunk: Chunk) -> None:
        if self.task.mode == "raise":
            raise ValueError("poison record")
        if self.task.mode == "hang":
            await asyncio.Event().wait()
        expected = self.expected[chunk.tp]
        if expected is not None:  # without a commit the log may start anywhere
            assert chunk.first == expected, f"{chunk.tp}: {chunk.first} came instead of {expected}"
        offsets = [record.offset for record in chunk.records]
        assert offsets == sorted(set(offsets))
        assert not offsets or chunk.first <= offsets[0] <= offsets[-1] <= chunk.last
        await asyncio.sleep(self.task.pace_s)
        self.chunks += 1
        self.expected[chunk.tp] = chunk.last + 1
        self.pending.setdefault(chunk.tp, []).append(chunk)
        if self.chunks % self.task.checkpoint_chunks == 0 or chunk.last + 1 >= chunk.highwater:
            self.checkpoint(set(self.pending))


def worker(task: Task) -> tuple[ChunkApp, Engine]:
    """An app that is not started, and its engine."""
    engine = Engine(task)
    settings = Settings(
        kafka_bootstrap=task.bootstrap, consumer_group=task.group,
        session_timeout_ms=task.session_timeout_ms, rebalance_timeout_ms=15_000,
        checkpoint_interval_ms=200,
    )  # fmt: skip
    app = ChunkApp(
        settings.consumer_group, chunk_topics=[task.topic],
        chunk_records_max=task.chunk_records_max, chunk_bytes_max=1 << 20, hooks=engine,
        on_fatal=lambda message: print(f"FATAL {message}", flush=True),
        watchdog_s=task.watchdog_s, **faust_options(settings),
    )  # fmt: skip
    engine.app = app
    app.agent(app.chunk_topic(task.topic), name="keep")(engine.agent)
    return app, engine


async def main(task: Task) -> int:
    """Works until a signal arrives or something fails."""
    app, _ = worker(task)
    return await run(app, grace_s=20)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    sys.exit(asyncio.run(main(Task(**json.loads(sys.argv[1])))))
