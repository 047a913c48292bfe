"""Faust as it comes: record by record, state in a table on RocksDB, outputs by ``topic.send``."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.topics import PARTITIONS_DEFAULT
from streams.enrich.shard import Shard
from streams.enrich.step import step
from tests.bench.engine_peers import (
    CHECKPOINT_S,
    CODEC,
    LOOK_UPS,
    Clock,
    Kept,
    StoredRecord,
    minute_rows,
    outputs_of,
)
from tests.bench.rolling import Rolling

WRITTEN = ("bench.out", "bench.side", "bench.minutes", "bench.rates")


class StockFaust:
    """The app.

    Args:
        partitions: of every topic.
        rolling: merge the minute counts in a second agent, and publish rates.
    """

    def __init__(
        self,
        bootstrap: str,
        source: str,
        clock: Clock,
        directory: Path,
        partitions: int = PARTITIONS_DEFAULT,
        rolling: Rolling | None = None,
    ) -> None:
        import faust

        self.clock, self.rolling = clock, rolling
        self.app = app = faust.App(
            f"bench-faust-{os.getpid()}", broker=f"kafka://{bootstrap}",
            store="rocksdb://?driver=rocksdict", datadir=str(directory), web_enabled=False,
            topic_partitions=partitions, topic_replication_factor=1,
            table_standby_replicas=0, consumer_auto_offset_reset="earliest",
            topic_disable_leader=True, value_serializer="raw", key_serializer="raw",
            producer_acks=-1, broker_max_poll_records=5000, stream_buffer_maxsize=65_536,
            producer_linger=0.005, producer_max_batch_size=900_000,
            broker_commit_interval=CHECKPOINT_S,
            broker_session_timeout=10, broker_rebalance_timeout=10, broker_heartbeat_interval=2,
        )  # fmt: skip
        app.producer.buffer.max_messages = 10_000
        raw = app.topic(source, value_type=bytes, value_serializer="raw", partitions=partitions)
        self.out = {
            name: app.topic(name, value_type=bytes, value_serializer="raw", key_serializer="raw")
            for name in WRITTEN
        }
        self.table = app.Table(
            "state", partitions=partitions, key_type=bytes, value_type=bytes
        )  # bytes are stored raw
        self.shards: dict[int, Shard] = {}
        self.kept = Kept()
        self.flushed: dict[int, float] = {}
        self.merged = asyncio.Event()
        app.agent(raw)(self.enrich)
        if rolling is not None:
            app.agent(self.out["bench.minutes"])(self.campaigns)

    async def enrich(self, stream: Any) -> None:
        """Events in."""
        async for event in stream.events():
            self.clock.start()
            await self._take(event.message, event.value)
            if self.clock.done >= self.clock.count:
                await self._end()

    async def _take(self, message: Any, value: bytes) -> None:
        shard = self.shards.get(message.partition)
        if shard is None:
            table = self.table
            shard = self.shards[message.partition] = Shard(
                message.partition, lambda keys: [table.get(key) for key in keys]
            )
            shard.begin_log("bench")
        at_ms = int(message.timestamp * 1000)
        record = StoredRecord(message.offset, at_ms, message.key, value)
        effects = self.kept.complete(shard, [record], step(shard, [record], LOOK_UPS, CODEC))
        for name, key, content in outputs_of(effects):
            await self.out[name].send(key=key, value=content)
        self.clock.done += 1
        self._store(shard.unit_writes())
        shard.units_saved()
        now = time.monotonic()
        if now - self.flushed.setdefault(message.partition, now) > CHECKPOINT_S:
            self.flushed[message.partition] = now  # minute counts once a second, as the others do
            await self._flush(shard)

    async def _flush(self, shard: Shard) -> None:
        for _, key, value in minute_rows(shard):
            await self.out["bench.minutes"].send(key=key, value=value)
            if self.rolling is not None:
                self.rolling.written += 1
        self._store(shard.writes())
        shard.saved()

    async def _end(self) -> None:
        for shard in self.shards.values():
            await self._flush(shard)
        if self.rolling is not None:
            if not self.rolling.is_done:
                self.merged.clear()
                await self.merged.wait()  # by the other agent
            await self._publish(self.rolling, last=True)
        await self.app.producer.flush()
        self.clock.finish()

    async def campaigns(self, stream: Any) -> None:
        """Minute counts in, rates out."""
        assert self.rolling is not None
        async for event in stream.events():
            self.rolling.merge(event.value)
            if self.rolling.is_done:
                self.merged.set()
            await self._publish(self.rolling)

    async def _publish(self, rolling: Rolling, *, last: bool = False) -> None:
        for key, value in rolling.rates(last=last):
            await self.out["bench.rates"].send(key=key, value=value)

    def _store(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in changes:
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value


async def stock_faust(*given: Any) -> None:
    """Runs ``StockFaust`` until its clock ends the process."""
    await StockFaust(*given).app.start()
    await asyncio.sleep(3600)
