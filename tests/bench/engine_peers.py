"""Contenders of the engine bench: the same ``step``, another shell.

Each reads ``COUNT`` raw events of a topic and does the whole work of ``enrich`` with them — decode,
dedupe against RocksDB state, enrich, count, encode, produce with ``acks=all`` — then prints one
JSON line (``tests.bench.contender``). Here are mailpulse, a loop written by hand and what all
share; Faust and Quix are in ``faust_peer`` and ``quix_peer``.

Invariants:
1. Every contender folds with ``streams.enrich.step.step`` and keeps the same bytes in RocksDB; what
   differs is who delivers the records, who keeps the state, and how outputs are sent.
2. The clock runs from the first record folded to the last output acknowledged; CPU seconds of the
   process beside it.
"""

import asyncio
import json
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.codec import Codec
from schemas.partition import partition_of
from schemas.settings import Settings
from streams.enrich import minute_counts
from streams.enrich.derive import LookUps
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.worker.enrich_agent import enriched_rows
from streams.worker.outputs import Flight, Outputs, Row
from streams.worker.store import StateDirectory
from streams.worker.worker import Worker

CODEC = Codec()
LOOK_UPS = LookUps()
CHECKPOINT_S = 1.0


class Clock:
    """From the first record to the last acknowledgement."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self.begun = 0.0
        self.cpu = 0.0

    def start(self) -> None:
        """The first record is about to be folded; later calls do nothing."""
        if not self.begun:
            self.begun, self.cpu = time.monotonic(), time.process_time()

    def finish(self) -> None:
        """Everything is acknowledged: prints the result and ends the process."""
        ended = time.monotonic()
        print(
            json.dumps(
                {
                    "events": self.done,
                    "begun": self.begun,
                    "ended": ended,
                    "events_per_s": self.done / (ended - self.begun),
                    "cpu_us_per_event": (time.process_time() - self.cpu) / self.done * 1e6,
                    "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            ),
            flush=True,
        )
        os._exit(0)  # peers have no orderly end of their own


def settings_for(bootstrap: str, directory: Path, name: str) -> Settings:
    """Settings of one contender."""
    return Settings(
        kafka_bootstrap=bootstrap, data_dir=directory, consumer_group=f"bench-{name}-{os.getpid()}",
        session_timeout_ms=10_000, rebalance_timeout_ms=10_000, log_id="bench",
    )  # fmt: skip


def minute_rows(shard: Shard) -> list[tuple[str, bytes, bytes]]:
    """Campaign, key and value of every changed partial."""
    return [
        (
            key[0],
            minute_counts.record_key(key, shard.log_id, shard.partition),
            CODEC.prefix("campaign_minute")
            + minute_counts.record(key, vector, shard.log_id, shard.partition, shard.applied),
        )
        for key, vector in shard.minutes.changed()
    ]


class Kept:
    """Raw records that corrections carry: a contender keeps all it has read."""

    def __init__(self) -> None:
        self._values: dict[int, dict[int, bytes]] = {}

    def complete(self, shard: Shard, records: Iterable[Any], effects: Effects) -> Completed:
        """The effects of folding ``records`` as they are to be written."""
        values = self._values.setdefault(shard.partition, {})
        values.update({record.offset: record.value for record in records})
        raws = {offset: values[offset] for offset in wanted(effects)}
        return complete(
            effects, raws, codec=CODEC, look_ups=LOOK_UPS, log_id=shard.log_id,
            partition=shard.partition,
        )  # fmt: skip


# --- mailpulse ------------------------------------------------------------------------------------


async def mailpulse(bootstrap: str, source: str, clock: Clock, directory: Path) -> None:
    """The worker as shipped, ``enrich`` alone."""
    settings = settings_for(bootstrap, directory, "mailpulse")
    worker = Worker(settings, log_id="bench", stages=("enrich",))
    agent = worker.enrich
    process = agent.process

    async def timed(work: Any, chunk: Any) -> None:
        clock.start()
        await process(work, chunk)
        clock.done += len(chunk.records)
        if clock.done >= clock.count:
            for each in agent.works():
                await agent.checkpoint(each)
            clock.finish()

    agent.process = timed  # type: ignore[method-assign]  # the bench's clock around it
    assert source == agent.topic
    await worker.run()
    raise RuntimeError(f"the worker ended: {worker.app.failure}")


# --- a loop written by hand -----------------------------------------------------------------------


async def hand_loop(bootstrap: str, source: str, clock: Clock, directory: Path) -> None:
    """aiokafka's consumer and producer, nothing else: what Faust's presence is measured against."""
    from aiokafka import AIOKafkaConsumer

    settings = settings_for(bootstrap, directory, "hand")
    outputs = Outputs(settings)
    await outputs.start()
    consumer = AIOKafkaConsumer(
        source, **settings.kafka_client_options(), group_id=settings.consumer_group,
        auto_offset_reset="earliest", enable_auto_commit=False, max_partition_fetch_bytes=4 << 20,
        fetch_max_bytes=16 << 20,
    )  # fmt: skip
    await consumer.start()
    state = StateDirectory(directory / "state")
    shards: dict[int, tuple[Shard, Flight, float]] = {}
    kept = Kept()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=500, max_records=2000)).items():
            clock.start()
            if tp.partition not in shards:
                shard = Shard(tp.partition, state.store(str(tp.partition)).get_many)
                shard.begin_log("bench")
                shards[tp.partition] = (shard, Flight(outputs), time.monotonic())
            shard, flight, at = shards[tp.partition]
            for begin in range(0, len(records), 500):
                some = records[begin : begin + 500]
                effects = kept.complete(shard, some, step(shard, some, LOOK_UPS, CODEC))
                await _send(flight, tp.partition, effects)
                await asyncio.sleep(0)
            clock.done += len(records)
            if time.monotonic() - at > CHECKPOINT_S or clock.done >= clock.count:
                await _checkpoint(outputs, flight, shard, state)
                await consumer.commit({tp: shard.applied + 1})
                shards[tp.partition] = (shard, flight, time.monotonic())
        if clock.done >= clock.count:
            for shard, flight, _ in shards.values():
                await _checkpoint(outputs, flight, shard, state)
            clock.finish()


def sides(effects: Completed) -> list[tuple[bytes, bytes | None]]:
    """Suppressions and engagement, key and value."""
    told: list[tuple[bytes, bytes | None]] = [
        (
            one.addressee.identity.encode(),
            None if one.record is None else CODEC.encode("suppression", one.record),
        )
        for one in effects.suppressions
    ]
    return told + [(key.encode(), CODEC.encode("engagement", r)) for key, r in effects.engagement]


async def _send(flight: Flight, partition: int, effects: Completed) -> None:
    await flight.send_to("bench.out", partition, enriched_rows(effects))
    if some := [Row(key, value, 0) for key, value in sides(effects)]:
        await flight.send_keyed("bench.side", some)


async def _checkpoint(
    outputs: Outputs, flight: Flight, shard: Shard, state: StateDirectory
) -> None:
    count = await outputs.partitions("bench.minutes")
    by_partition: dict[int, list[Row]] = {}
    for campaign, key, value in minute_rows(shard):
        rows = by_partition.setdefault(partition_of(campaign.encode(), count), [])
        rows.append(Row(key, value, 0))
    for partition, rows in by_partition.items():
        await flight.send_to("bench.minutes", partition, rows)
    await flight.landed()
    state.store(str(shard.partition)).write(shard.writes())
    shard.saved()


# --- for other peers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as ``step`` wants one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def outputs_of(effects: Completed) -> list[tuple[str, bytes | None, bytes | None]]:
    out: list[tuple[str, bytes | None, bytes | None]] = [
        ("bench.out", key, value) for key, value, _ in effects.enriched
    ]
    return out + [("bench.side", key, value) for key, value in sides(effects)]
