"""The cost of folding history by newer rules beside live events, per core.

Needs no broker: the enriched topic is in memory, the store is real. The figure is enriched records
a second of processor time: reading them out, folding, comparing each verdict with the one that
stands, and writing state, for rules that judge one open or click in eight otherwise.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from schemas.event import message_key
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW
from streams.classify.actor_rules import Rules
from streams.enrich.changes import Changes
from streams.enrich.deferred import Deferred
from streams.enrich.effects import Completed, Effects, complete, wanted
from streams.enrich.epochs import Epoch, History, Ruling, Span
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.transport.chunks import TP
from streams.worker.comparing import Comparison
from streams.worker.raw_records import RawRecords
from streams.worker.restore import Restorer
from streams.worker.second_store import SLICE_RECORDS, STORE_EVERY
from streams.worker.store import StateDirectory
from tests.bench.engine_peers import CODEC, LOOK_UPS
from tests.bench.traffic import Shape, events

EVENTS, QUICK_EVENTS = 100_000, 5_000
LOG, NEVER = "bench", 1 << 62
NETWORK = '[[networks]]\nreason = "scanner_network"\ncidrs = ["203.0.113.0/27"]\n'


class Record(NamedTuple):
    """A record of either topic."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes


class Topic:
    """The enriched topic (``streams.kafka.stretches.Stretches``)."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.begin, self.end = 0, len(records)

    @asynccontextmanager
    async def opened(self, _: Settings, topic: str, _partition: int) -> AsyncIterator["Topic"]:
        """As ``stretches_of``."""
        assert topic == ENRICHED
        yield self

    async def read(
        self, position: int, until: int, records_max: int
    ) -> AsyncIterator[tuple[list[Any], int]]:
        """As ``Stretches.read``."""
        while position < min(until, self.end):
            end = min(until, self.end, position + records_max)
            yield list(self._records[position:end]), end
            position = end


def enriched(count: int) -> tuple[list[Record], int]:
    """What a worker has written of some traffic, and how many raw records that were."""
    raw = [
        Record(at, one["received_at"] // 1000, message_key(one), CODEC.encode("raw_event", one))
        for at, one in enumerate(events(count, Shape(events_per_s=200)))
    ]
    shard, out = Shard(0, lambda keys: [None] * len(keys)), list[Record]()
    shard.begin_log(LOG)
    for begin in range(0, count, SLICE_RECORDS):
        effects = step(shard, raw[begin : begin + SLICE_RECORDS], LOOK_UPS, CODEC)
        found = {offset: raw[offset].value for offset in wanted(effects)}
        done = complete(effects, found, codec=CODEC, look_ups=LOOK_UPS, log_id=LOG, partition=0)
        for key, value, timestamp in done.enriched:
            out.append(Record(len(out), timestamp, key, value))
    return out, count


def newer() -> Ruling:
    """An epoch of all records, by rules that know one more network of scanners."""
    text = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
    text = text.replace("version = 2", "version = 3", 1) + NETWORK
    version = Rules.load(text).version
    epoch = Epoch(1, LOG, 0, 0, version, text, (Span(0, NEVER),))
    return Ruling.of(History([epoch.record()]), replace(LOOK_UPS))


async def _completed(
    tp: TP, shard: Shard, records: Any, effects: Effects, look_ups: Any, *, raws: RawRecords
) -> Completed:
    found = await raws.get(tp, wanted(effects))
    return complete(
        effects, found, codec=CODEC, look_ups=look_ups, log_id=shard.log_id, partition=0
    )


def cpu_seconds(records: Sequence[Record], until: int, folder: Path) -> tuple[float, int]:
    """Processor time of a second fold, and how many events it found to be judged otherwise."""
    settings = Settings(state_dir=folder)
    ruling, topic = newer(), Topic(records)
    with StateDirectory(folder) as directory:
        store = directory.store("enrich-0.second")
        shard = Shard(0, store.get_many)
        shard.epoch = 1
        shard.deferred = Deferred(Span(0, NEVER), Changes(store.get_many))

        def write(_: Shard) -> None:
            store.write(shard.writes(), offset=shard.applied)
            shard.saved()

        comparison = Comparison(
            settings, topic.opened, CODEC, ruling, TP(RAW, 0), store.scan, _completed,
            from_ms=0, one_fold=True,
        )  # fmt: skip
        restorer = Restorer(
            settings, CODEC, ruling, write, lambda: None, topic.opened, comparison,
            slice_records=SLICE_RECORDS, store_every=STORE_EVERY,
        )  # fmt: skip
        begun = time.process_time()
        asyncio.run(restorer.restore(shard, LOG, until))
        write(shard)
        spent = time.process_time() - begun
        return spent, sum(1 for _ in shard.deferred.changes.changed(store.scan))


def figures(quick: bool) -> dict[str, float]:
    """``reprocess_events_per_s``: raw records of history a second, of one core.

    Raises:
        RuntimeError: the newer rules changed nothing.
    """
    records, count = enriched(QUICK_EVENTS if quick else EVENTS)
    with TemporaryDirectory() as folder:
        spent, changed = cpu_seconds(records, count, Path(folder))
    if not changed:
        raise RuntimeError("the newer rules judge nothing otherwise")
    return {"reprocess_events_per_s": count / spent}
