"""A chunk that is dropped on the way to its agent is read again, whatever dropped it."""

from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from streams.transport.chunks import TP
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import PARTITIONS, Broker, Clock, EngineMaker, EngineRig

EVENTS = 60


def feed(broker: Broker, begin: int, end: int) -> None:
    """Delivered messages with the numbers of a range, in all partitions."""
    broker.feed(
        event(
            event_id=f"{number:032x}", event_type="delivered", message_id=f"m{number}",
            received_at=RECEIVED_AT + number * 1_000, occurred_at=RECEIVED_AT + number * 1_000,
        )
        for number in range(begin, end)
    )  # fmt: skip


def drop(rig: EngineRig, topic: str, after: int) -> list[Any]:
    """Drops one chunk of each partition of a topic, after ``after`` chunks.

    Returns:
        The list of dropped chunks.
    """
    dropped: list[Any] = []
    take, seen = rig.thread.take, dict.fromkeys(range(PARTITIONS), 0)

    async def taking(*args):  # type: ignore[no-untyped-def]  # as FakeThread.take
        taken = await take(*args)
        for tp in [tp for tp in taken if tp.topic == topic]:
            seen[tp.partition] += 1
            if seen[tp.partition] == after + 1:
                dropped.append(taken.pop(tp))
        return taken

    rig.thread.take = taking  # type: ignore[method-assign]
    return dropped


async def opened(rig: EngineRig) -> None:
    """Waits until chunks of every partition may come."""
    raw = [TP(topics.RAW, partition) for partition in range(PARTITIONS)]
    await rig.until(lambda: all(map(rig.worker.enrich.is_open, raw)))


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("topic", [topics.RAW, topics.MINUTES])
async def test_what_was_dropped_is_read_again(
    topic: str, after: int, engine_of: EngineMaker, tmp_path: Path
) -> None:
    """The first chunk since the state was opened, or one in the middle of reading."""
    broker = Broker()
    rig = await engine_of(broker, tmp_path, Clock())
    dropped = drop(rig, topic, after)
    await opened(rig)  # else all comes in one chunk
    for begin in range(0, EVENTS, 20):
        feed(broker, begin, begin + 20)
        await rig.settle()
        for work in rig.worker.enrich.works():
            await rig.worker.enrich.checkpoint(work)  # minutes come with it
        await rig.settle()
    await rig.work_off()
    assert dropped
    found = broker.decoded(topics.ENRICHED, "enriched_event")
    assert sorted(int(one["event"]["event_id"], 16) for one in found) == list(range(EVENTS))
    await rig.tick()
    newest = broker.decoded(topics.RATES, "campaign_rates")[-1]
    assert newest["windows"][-1]["counts"]["delivered"] == EVENTS


@pytest.mark.parametrize("read_before", [0, 20])
async def test_what_retention_took_is_counted_and_passed(
    read_before: int, engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Right after a start and while reading, the worker goes on with what is left."""
    broker = Broker()
    rig = await engine_of(broker, tmp_path, Clock())
    rig.thread.resets = True
    feed(broker, 0, read_before)
    await opened(rig)  # what is lost later counts
    await rig.work_off()
    read = {tp: log.end for tp, log in broker.logs.items() if tp.topic == topics.RAW}
    feed(broker, read_before, EVENTS)
    lost = 0
    for tp, begin in read.items():
        log = broker.logs[tp]
        kept = [record for record in log.records if record.offset >= begin + 5]
        lost += len([record for record in log.records if record.offset >= begin]) - len(kept)
        log.records[:] = kept
    await rig.work_off()
    assert lost
    assert len(broker.decoded(topics.ENRICHED, "enriched_event")) == EVENTS - lost
    assert rig.worker.metrics.records.labels("lost")._value.get() == lost


async def test_a_seek_that_comes_late_leaves_no_old_state(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Faust's seek after one assignment happens during the next rebalance.

    aiokafka still reports the old assignment then. What is opened because of it is assigned to
    another worker in that rebalance, is processed further there, and comes back.
    """
    broker, clock = Broker(), Clock()
    first = await engine_of(broker, tmp_path / "first", clock)
    feed(broker, 0, 20)
    await first.work_off()
    old = set(first.thread.assigned)
    await first.revoke()
    first.thread.assigned = old  # as aiokafka has it until the group was joined
    await first.consumer.perform_seek()
    await first.settle()
    second = await engine_of(broker, tmp_path / "second", clock)  # with every partition
    first.thread.assigned = set()
    feed(broker, 20, 40)
    await second.work_off()
    await second.revoke()
    await first.revoke()
    feed(broker, 40, EVENTS)
    await first.assign()
    await first.work_off()
    found = broker.decoded(topics.ENRICHED, "enriched_event")
    assert sorted(int(one["event"]["event_id"], 16) for one in found) == list(range(EVENTS))
    await first.tick()
    newest = broker.decoded(topics.RATES, "campaign_rates")[-1]
    assert newest["windows"][-1]["counts"]["delivered"] == EVENTS
