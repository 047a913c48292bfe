"""One round of checkpoints for all partitions: what is stored, what is not, how many batches."""

from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.errors import Unavailable
from streams.worker.damage import DamagedState
from streams.worker.work import PartitionWork
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import PARTITIONS, Broker, Clock, EngineMaker, EngineRig

CAMPAIGNS = 40
BY_HAND = {"checkpoint_interval_ms": 600_000}
"""Only the test makes checkpoints."""


async def read_in(engine_of: EngineMaker, folder: Path) -> EngineRig:
    """A worker that has read messages of many campaigns in all partitions, not yet stored."""
    broker = Broker()
    rig = await engine_of(broker, folder, Clock(), **BY_HAND)
    broker.feed(
        event(
            event_id=f"{number:032x}", event_type="delivered", message_id=f"m{number}",
            recipient=f"u{number}@mail.example", recipient_identity=f"u{number}@mail.example",
            campaign_id=f"c{number % CAMPAIGNS}", received_at=RECEIVED_AT, occurred_at=RECEIVED_AT,
        )
        for number in range(400)
    )  # fmt: skip
    await rig.until(lambda: all(rig.reached(topics.RAW, n) for n in range(PARTITIONS)))
    return rig


async def test_a_round_has_one_batch_for_each_partition_of_the_minutes(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Not one for each pair of an input and an output partition."""
    rig = await read_in(engine_of, tmp_path)
    producer: Any = rig.worker.outputs.producer
    send, batches = producer.send_batch, []

    async def counting(batch: Any, topic: str, *, partition: int) -> Any:
        batches.append((topic, partition))
        return await send(batch, topic, partition=partition)

    producer.send_batch = counting
    agent = rig.worker.enrich
    await agent.checkpoint(*agent.works())
    minutes = [place for place in batches if place[0] == topics.MINUTES]
    assert sorted(minutes) == [(topics.MINUTES, number) for number in range(PARTITIONS)]
    assert all(agent.next_offset(work.tp) == agent.reached(work.tp) for work in agent.works())


async def test_nothing_of_a_round_is_stored_before_all_is_acknowledged(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Partitions share batches, so one that fails holds all of them back."""
    rig = await read_in(engine_of, tmp_path)
    producer: Any = rig.worker.outputs.producer
    send = producer.send_batch

    async def failing(batch: Any, topic: str, *, partition: int) -> Any:
        future = await send(batch, topic, partition=partition)
        if (topic, partition) == (topics.MINUTES, PARTITIONS - 1):
            failed = type(future)(loop=future.get_loop())
            failed.set_exception(Unavailable("away"))
            return failed
        return future

    producer.send_batch = failing
    agent = rig.worker.enrich
    for _ in range(2):  # asking again does not help
        with pytest.raises(Unavailable):
            await agent.checkpoint(*agent.works())
    assert all(agent.next_offset(work.tp) is None for work in agent.works())
    assert not any(work.lock.locked() for work in agent.works())


async def test_a_damaged_store_does_not_stop_the_others_of_its_round(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """They are stored; its partition alone is rebuilt, and in the end no figure differs."""
    rig = await read_in(engine_of, tmp_path)
    agent = rig.worker.enrich
    first, *others = agent.works()
    write = first.store.write

    def damaged(*_: Any, **__: Any) -> None:
        first.store.write = write  # type: ignore[method-assign]  # once
        raise DamagedState(first.store.path, "said the test")

    first.store.write = damaged  # type: ignore[method-assign]
    await agent.checkpoint(*agent.works())
    assert all(agent.next_offset(work.tp) == agent.reached(work.tp) for work in others)
    assert not agent.is_open(first.tp)
    await rig.until(lambda: rig.worker.ready)
    await rig.work_off()
    await rig.tick()
    rates = rig.broker.decoded(topics.RATES, "campaign_rates")
    newest = {one["campaign_id"]: one["windows"][-1]["counts"]["delivered"] for one in rates}
    assert sum(newest.values()) == 400


async def test_records_that_wait_for_a_checkpoint_are_bounded_for_the_worker(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Without a clock that asks: the agent itself stores before it reads on."""
    broker = Broker()
    rig = await engine_of(broker, tmp_path, Clock(), **BY_HAND, checkpoint_records_max=100)
    agent, most = rig.worker.enrich, 0
    for begin in range(0, 1_000, 20):
        broker.feed(
            event(
                event_id=f"{number:032x}", event_type="delivered", message_id=f"m{number}",
                recipient=f"u{number}@mail.example", recipient_identity=f"u{number}@mail.example",
            )
            for number in range(begin, begin + 20)
        )  # fmt: skip
        await rig.until(lambda: all(rig.reached(topics.RAW, n) for n in range(PARTITIONS)))
        most = max(most, sum(work.since_checkpoint for work in agent.works()))
    assert 0 < most < 100 + 20


async def told_after(rig: EngineRig, begin: int) -> int:
    """Rate records after 20 more messages were counted and the worker has looked once."""
    rig.broker.feed(
        event(event_id=f"{number:032x}", event_type="delivered", message_id=f"m{number}")
        for number in range(begin, begin + 20)
    )
    await rig.work_off()
    before = len(rig.broker.records(topics.RATES))
    await rig.worker.campaigns.tick()
    return len(rig.broker.records(topics.RATES)) - before


async def test_counts_after_a_quiet_look_are_published_at_once(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Those that come soon after a publication wait until the interval is over."""
    rig = await engine_of(
        Broker(), tmp_path, Clock(), **BY_HAND, rates_interval_ms=600_000
    )  # fmt: skip
    agent = rig.worker.campaigns
    agent.before_checkpoint = quiet  # type: ignore[method-assign]  # here only looks publish
    await agent.tick()
    assert await told_after(rig, 0) == 1
    assert await told_after(rig, 20) == 0
    agent._looked.clear()  # the interval is over
    await agent.tick()
    assert len(rig.broker.records(topics.RATES)) == 2


async def quiet(work: PartitionWork) -> None:
    """Publishes nothing."""
