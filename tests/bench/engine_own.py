"""What the engine bench measures of mailpulse alone, each in a process of its own.

``python -m tests.bench.engine_own NAME BOOTSTRAP COUNT DIR`` prints one JSON line.

- ``half``: one of two workers of a group; it starts to count once it has half of the partitions.
- ``rebuild``: state of every partition from the enriched topic, into an empty directory.
- ``step``: the step alone, in memory, beside fastavro's decoding of the same records, slice by
  slice in turn: CPU time of each per event, and their ratio.
- ``state``: ``COUNT`` tracked messages in the state of one worker: bytes on disk after compaction,
  and memory after it has folded more events on top and keeps the rolling rates of ``CAMPAIGNS``
  active campaigns.
"""

import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

from schemas.codec import LATEST, PREFIX_BYTES, schema_json, without_logical_types
from schemas.event import message_key
from schemas.topics import PARTITIONS_DEFAULT
from streams.campaigns.state import CampaignState
from streams.campaigns.windows import Partial, PartialKey, Windows
from streams.enrich.epochs import History, Ruling
from streams.enrich.message import BY_TIME, FOR_SURE, Message, Pending
from streams.enrich.message_bytes import bucket_of, pack, pack_pending, pending_key
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.enrich.vectors import WIDTH
from streams.transport.runner import settle_garbage_collector
from streams.worker.restore import Restorer
from streams.worker.store import StateDirectory, Store
from streams.worker.worker import Worker
from tests.bench.engine_peers import CODEC, LOOK_UPS, Clock, StoredRecord, settings_for
from tests.bench.traffic import Shape, events

RULING = Ruling.of(History(), LOOK_UPS)
STATE_EVENTS = 40_000
"""Events folded on top of the stored messages before memory is read."""
OPEN_MESSAGES = 200_000
STEP_SLICE, STEP_ROUNDS = 500, 5
CAMPAIGNS = 10_000
MAILBOXES = ("gmail", "microsoft", "yahoo", "apple", "other")


async def half(bootstrap: str, count: int, directory: Path) -> None:
    """A worker of the group ``bench-halves``; it ends when its half of the topic is done."""
    settings = settings_for(bootstrap, directory, "half").model_copy(
        update={"consumer_group": f"bench-halves-{count}"}
    )
    worker = Worker(settings, log_id="bench", stages=("enrich",))
    agent, clock = worker.enrich, Clock(0)
    process = agent.process
    ends: dict[int, bool] = {}

    async def timed(work: Any, chunk: Any) -> None:
        while work.live and len(agent.assigned) != PARTITIONS_DEFAULT // 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the other worker is still to come
        if not work.live:
            return  # let go meanwhile, with its state
        clock.start()
        await process(work, chunk)
        clock.done += len(chunk.records)
        ends[chunk.tp.partition] = chunk.last + 1 >= chunk.highwater
        if len(ends) == PARTITIONS_DEFAULT // 2 and all(ends.values()):
            for each in agent.works():
                await agent.checkpoint(each)
            clock.finish()

    agent.process = timed  # type: ignore[method-assign]  # the bench's clock around it
    await worker.run()
    raise RuntimeError(f"the worker ended: {worker.app.failure}")


async def rebuild(bootstrap: str, _count: int, directory: Path) -> None:
    """Folds all enriched records into empty state, partition after partition, as a worker does."""
    settings = settings_for(bootstrap, directory, "rebuild")
    folded, begun, cpu = 0, time.monotonic(), time.process_time()
    with StateDirectory(directory / "state") as state:
        for partition in range(PARTITIONS_DEFAULT):
            store = state.store(str(partition))
            shard = Shard(partition, store.get_many)

            def write(changed: Shard, store: Any = store) -> None:
                store.write(changed.writes())
                changed.saved()

            restorer = Restorer(settings, CODEC, RULING, write, lambda: None)
            folded += await restorer.restore(shard, "bench", 1 << 62)
            write(shard)
    seconds, used = time.monotonic() - begun, time.process_time() - cpu
    _tell({"records_per_s": folded / seconds, "cpu_us": used / folded * 1e6, "folded": folded})


async def step_alone(_bootstrap: str, count: int, _directory: Path) -> None:
    """Folds ``count`` records in slices, each after fastavro has decoded it; the best of rounds."""
    schema = fastavro.parse_schema(without_logical_types(schema_json(LATEST["raw_event"])))
    records = _raw_records(count, Shape())
    best: list[dict[str, float]] = []
    for _ in range(STEP_ROUNDS):
        kept: dict[bytes, bytes] = {}
        shard = Shard(0, partial(_of, kept))
        shard.begin_log("bench")
        spent = {"decode": 0.0, "step": 0.0}
        for begin in range(0, count, STEP_SLICE):
            some = records[begin : begin + STEP_SLICE]
            started = time.process_time()
            for record in some:
                fastavro.schemaless_reader(
                    BytesIO((record.value or b"")[PREFIX_BYTES:]), schema, None
                )
            decoded = time.process_time()
            step(shard, some, LOOK_UPS, CODEC)
            spent["step"] += time.process_time() - decoded
            spent["decode"] += decoded - started
            if begin % (20 * STEP_SLICE) == 0:
                kept.update((key, value) for key, value in shard.writes() if value is not None)
                shard.saved()
        best.append(spent)
    each = {name: min(one[name] for one in best) / count * 1e6 for name in ("decode", "step")}
    ratio = statistics.median(one["step"] / one["decode"] for one in best)
    _tell({"cpu_us": each["step"], "cpu_us_decode": each["decode"], "vs_decode": ratio})


def _of(kept: dict[bytes, bytes], keys: list[bytes]) -> list[bytes | None]:
    return [kept.get(key) for key in keys]


def _raw_records(count: int, shape: Shape) -> list[StoredRecord]:
    """Raw records as ``step`` wants them, of the traffic of every part."""
    return [
        StoredRecord(
            offset, one["received_at"] // 1000, message_key(one), CODEC.encode("raw_event", one)
        )
        for offset, one in enumerate(events(count, shape))
    ]


async def state(_bootstrap: str, count: int, directory: Path) -> None:
    """Fills the stores of one worker, compacts, then folds."""
    with StateDirectory(directory / "state") as kept:
        stores = [kept.store(str(partition)) for partition in range(PARTITIONS_DEFAULT)]
        each = count // PARTITIONS_DEFAULT
        for store in stores:
            for begin in range(0, each, 50_000):
                store.write(_messages(begin, min(begin + 50_000, each)))
        for store in stores:
            store._db.flush()
            store._db.compact_range(None, None)
        disk = kept.disk_bytes()
        shards = [Shard(number, store.get_many) for number, store in enumerate(stores)]
        for shard in shards:
            shard.begin_log("bench")
        records = _raw_records(STATE_EVENTS, Shape(campaigns=CAMPAIGNS))
        for begin in range(0, STATE_EVENTS, 500):
            for number, shard in enumerate(shards):
                step(shard, records[begin + number : begin + 500 : 4], LOOK_UPS, CODEC)
            if begin % 10_000 == 0:
                for shard, store in zip(shards, stores, strict=True):
                    store.write(shard.writes())
                    shard.saved()
        windows = _active_campaigns(kept.store("campaigns"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "bytes_per_message": disk / (each * PARTITIONS_DEFAULT),
        "bytes_per_open_message": _open_bytes(directory / "open"), "rss_mb": peak,
    }  # fmt: skip
    _tell({**figures, "campaigns": len(windows.series)})


def _active_campaigns(store: Store) -> Windows:
    """Rolling windows of ``CAMPAIGNS`` campaigns, each with events of every mailbox provider."""
    state, minute = CampaignState(store.get_many, store.scan), int(time.time() // 60)
    windows = Windows(state, minute)
    for number in range(CAMPAIGNS):
        campaign = f"campaign-{number:05d}"
        windows.apply(
            [
                Partial(
                    PartialKey(campaign, mailbox, minute - back, "bench", 0),
                    number, tuple(range(WIDTH)),
                )
                for mailbox in MAILBOXES for back in (0, 3)
            ]
        )  # fmt: skip
        if number % 1000 == 999:
            for name, mailbox in windows.touched:
                state.touch(name, mailbox, windows.of_campaign(name)[mailbox])
            windows.touched.clear()
            store.write(state.writes())
            state.saved()
    return windows


def _open_bytes(directory: Path) -> float:
    """Disk space of a message whose correction window is open, its pending events included."""
    with StateDirectory(directory) as kept:
        store = kept.store("0")
        for begin in range(0, OPEN_MESSAGES, 50_000):
            store.write(_open_messages(begin, begin + 50_000))
        store._db.flush()
        store._db.compact_range(None, None)
        return kept.disk_bytes() / OPEN_MESSAGES


def _messages(begin: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Messages as they lie in state when they are settled: 2 of 5 opened once, 1 clicked."""
    at = int(time.time())
    for number in range(begin, end):
        message = _message(number, at - number % (20 * 86_400))
        message.settle_all()
        yield b"m" + os.urandom(16), pack(message)


def _open_messages(begin: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The same messages with their correction windows open."""
    at = int(time.time())
    for number in range(begin, end):
        key, message = os.urandom(16), _message(number, at - number % 86_400)
        yield b"m" + key, pack(message)
        yield pending_key(bucket_of(message), key), pack_pending(message)


def _message(number: int, delivered: int) -> Message:
    identity = int.from_bytes(os.urandom(8), "big")
    message = Message()
    message.campaign, message.mailbox = f"campaign-{number % 997:04d}", MAILBOXES[number % 5]
    message.due = delivered + 86_400
    happened = [("delivered", delivered)]
    if number % 5 <= 1:
        happened.append(("opened", delivered + 1800 + number % 977))
    if number % 5 == 0:
        happened.append(("clicked", delivered + 3600 + number % 991))
    for position, (kind, when) in enumerate(happened):
        judged = kind != "delivered"
        message.touched = when
        message.seen.append(identity ^ position)
        message.pending.append(
            Pending(
                number + position, identity ^ position, kind, when, when * 1_000_000,
                "human" if judged else "none", "", BY_TIME if judged else FOR_SURE, number + 1,
                number + 2, False, 0, False, message.campaign, True, judged, 0,
            )
        )  # fmt: skip
        setattr(message, f"{kind}_any_at" if judged else "delivered_at", when)
        if judged:
            setattr(message, f"{kind}_at", when)
        else:
            message.attempted_at = when
    return message


def _tell(figures: dict[str, float]) -> None:
    print(json.dumps(figures), flush=True)


CONTENDERS = {"half": half, "rebuild": rebuild, "step": step_alone, "state": state}


def main() -> None:
    """Runs what the command line names."""
    name, bootstrap, count, directory = sys.argv[1:]
    settle_garbage_collector()
    asyncio.run(CONTENDERS[name](bootstrap, int(count), Path(directory)))


if __name__ == "__main__":
    main()
