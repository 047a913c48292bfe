"""Catching up: never a record beyond the requested end, whatever a fetch returns."""

from typing import Any

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.settings import Settings
from streams.enrich.epochs import History, Ruling
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.kafka.stretches import PartitionStretches
from streams.worker.restore import Restorer
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import Broker, FakeConsumer
from tests.streams.folding import CODEC, LOG, LOOK_UPS, Disk, LogRecord, log_of
from tests.streams.rig import FakeLog

TP = TopicPartition("minutes", 0)


@given(
    offsets=st.sets(st.integers(0, 60), min_size=1),
    begin=st.integers(0, 60),
    until=st.integers(0, 80),
    at_once=st.integers(1, 20),
    grows=st.integers(0, 5),
)
async def test_a_stretch_ends_where_it_was_asked_to(
    offsets: set[int], begin: int, until: int, at_once: int, grows: int
) -> None:
    """Every record from ``begin`` up to the end or ``until``, none beyond ``until``."""
    log = FakeLog.of(sorted(offsets))
    end = log.end
    stretches = PartitionStretches(FakeConsumer(log, grows), TP, 0, end)
    found: list[int] = []
    positions = [begin]
    async for records, position in stretches.read(begin, until, at_once):
        found += [record.offset for record in records]
        positions.append(position)
    wanted = {offset for offset in offsets if begin <= offset < until}
    assert wanted <= set(found)
    assert all(begin <= offset < until for offset in found)
    assert found == sorted(set(found))
    assert positions == sorted(positions)
    assert positions[-1] <= max(begin, until)
    assert positions[-1] >= min(end, until)


def raw(count: int) -> list[LogRecord]:
    """A raw partition with that many events."""
    return log_of(
        [
            event(event_id=f"{number:032x}", message_id=f"m{number}",
                  received_at=RECEIVED_AT + number * 1_000_000)
            for number in range(count)
        ]
    )  # fmt: skip


def shard_of(disk: Disk) -> Shard:
    """The state on a disk."""
    shard = Shard(0, disk.get_many)
    shard.load_meta()
    shard.load_watched(disk.scan)
    return shard


def write_outputs(broker: Broker, shard: Shard, records: list[LogRecord]) -> None:
    """Writes what a worker does that owns ``records``."""
    for row in step(shard, records, LOOK_UPS, CODEC).enriched:
        broker.append(topics.ENRICHED, 0, *row)


async def restored(broker: Broker, disk: Disk, committed: int) -> Shard:
    """State restored up to ``committed``, as by a worker that opens the partition."""

    def write(shard: Shard) -> None:
        disk.write(shard.writes())
        shard.saved()

    def touch() -> None:
        """Ignored."""

    shard = shard_of(disk)
    ruling: Any = Ruling.of(History(), LOOK_UPS)
    await Restorer(Settings(), CODEC, ruling, write, touch, broker.stretches).restore(
        shard, LOG, committed
    )
    shard.begin_log(LOG)
    shard.applied = max(shard.applied, committed - 1)
    write(shard)
    return shard


async def test_a_restore_finds_what_was_not_committed_the_last_time() -> None:
    """A worker that restores while another one owns the partition sees outputs of offsets that
    are not committed yet. It once skipped them for ever: later events were counted twice."""
    records, broker = raw(30), Broker()
    owner = Shard(0, Disk().get_many)
    owner.begin_log(LOG)
    write_outputs(broker, owner, records[:20])
    slow = Disk()
    await restored(broker, slow, committed=10)
    write_outputs(broker, owner, records[20:])
    shard = await restored(broker, slow, committed=30)
    repeats = [
        LogRecord(30 + number, record.timestamp, record.key, record.value)
        for number, record in enumerate(records)
    ]
    effects = step(shard, repeats, LOOK_UPS, CODEC)
    assert (len(effects.enriched), effects.duplicates) == (0, 30)
