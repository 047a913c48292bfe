"""State is opened when its partition is assigned: time passes whether or not records arrive."""

from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.event import Event
from streams.campaigns.lines import HOLD_S, Lines
from streams.transport.chunks import TP
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import PARTITIONS, Broker, Clock, EngineMaker, EngineRig
from tests.streams.rig import TOPIC, FakeLog, RigMaker

MESSAGES, HARD = 150, 45
MINUTE_S = 60.0
P0, P1 = TP(TOPIC, 0), TP(TOPIC, 1)


def mailing() -> list[Event]:
    """150 messages within a minute, 45 of them hard bounces."""
    return [
        event(
            event_id=f"{number:032x}",
            event_type="bounced" if number < HARD else "delivered",
            bounce_class="hard" if number < HARD else "none",
            message_id=f"m{number}",
            received_at=RECEIVED_AT + number * 1_000,
            occurred_at=RECEIVED_AT + number * 1_000,
        )
        for number in range(MESSAGES)
    ]


def hard_bounces(broker: Broker, window: str) -> list[tuple[int, Any]]:
    """Hard bounces and their rate in a window, as published."""
    found = []
    for record in broker.decoded(topics.RATES, "campaign_rates"):
        one = next(each for each in record["windows"] if each["window"] == window)
        rate = next(each for each in one["rates"] if each["name"] == "hard_bounce_rate")
        found.append((one["counts"]["bounced_hard"], rate["value"]))
    return found


async def mailed(engine_of: EngineMaker, broker: Broker, folder: Path, clock: Clock) -> EngineRig:
    """A worker that has published the mailing's figures."""
    rig = await engine_of(broker, folder, clock)
    broker.feed(mailing())
    await rig.work_off()
    await rig.tick()
    assert hard_bounces(broker, "5m")[-1] == (0, None)  # its minute has not ended
    assert hard_bounces(broker, "total")[-1] == (HARD, pytest.approx(HARD / MESSAGES))
    clock.now_s += MINUTE_S
    await rig.tick()
    assert hard_bounces(broker, "5m")[-1] == (HARD, pytest.approx(HARD / MESSAGES))
    return rig


async def test_rates_go_on_after_a_kill(engine_of: EngineMaker, tmp_path: Path) -> None:
    """Eight minutes later the 5-minute window is empty, although no record has arrived since."""
    broker, clock = Broker(), Clock()
    killed = await mailed(engine_of, broker, tmp_path / "1", clock)
    await killed.kill(tmp_path / "2")
    clock.now_s += 8 * MINUTE_S
    rig = await engine_of(broker, tmp_path / "2", clock)
    await rig.until(lambda: rig.worker.ready)
    await rig.tick()
    assert hard_bounces(broker, "5m")[-1] == (0, None)
    assert hard_bounces(broker, "1h")[-1] == (HARD, pytest.approx(HARD / MESSAGES))


async def test_rates_and_incidents_end_that_ran_empty_while_nobody_worked(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """A day and an hour later no window has the campaign any more: that is published, too."""
    broker, clock = Broker(), Clock()
    killed = await mailed(engine_of, broker, tmp_path / "1", clock)
    for work in killed.worker.campaigns.works():
        await killed.worker.campaigns.checkpoint(work)
    assert {one["state"] for one in broker.decoded(topics.ALERTS, "alert")} == {"opened"}
    await killed.kill(tmp_path / "2")
    clock.now_s += 25 * 60 * MINUTE_S
    rig = await engine_of(broker, tmp_path / "2", clock)
    await rig.until(lambda: rig.worker.ready)
    await rig.tick()
    assert hard_bounces(broker, "24h")[-1] == (0, None)
    clock.now_s += HOLD_S
    await rig.tick()
    alerts = broker.decoded(topics.ALERTS, "alert")
    assert [one["state"] for one in alerts] == ["opened", "closed"]
    assert len({one["incident_id"] for one in alerts}) == 1


def bounced(begin: int, hard: int, delivered: int, at_s: float) -> list[Event]:
    """Messages of one moment, some of them hard bounces."""
    at_us = int(at_s * 1e6)
    return [
        event(
            event_id=f"{number:032x}", message_id=f"m{number}",
            received_at=at_us, occurred_at=at_us,
            event_type="bounced" if number < begin + hard else "delivered",
            bounce_class="hard" if number < begin + hard else "none",
        )
        for number in range(begin, begin + hard + delivered)
    ]  # fmt: skip


async def alerted(engine_of: EngineMaker, folders: list[Path]) -> list[tuple[str, str]]:
    """Ids and states of the incidents of a campaign that goes bad, well, bad and well again.

    Before each change the partitions are opened again, with the state in the next folder.
    Checkpoints are not made by time: one during a change could tell of another level first.
    """
    broker, clock, sent = Broker(), Clock(), 0
    by_hand = {"checkpoint_interval_ms": 600_000}
    turns = [(45, 105), (0, 0), (60, 90), (0, 6_000)]
    for folder, (hard, delivered) in zip(folders, turns, strict=True):
        rig = await engine_of(broker, folder, clock, **by_hand)
        rig.worker.campaigns.lines = Lines(hold_us=0)
        broker.feed(bounced(sent, hard, delivered, clock.now_s))
        sent += hard + delivered
        await rig.work_off()
        await rig.tick()
        for work in rig.worker.campaigns.works():
            await rig.worker.campaigns.checkpoint(work)
        await rig.revoke()
        await rig.stop()
        clock.now_s += 25 * 60 * MINUTE_S if not delivered or hard == 45 else MINUTE_S
    return [(one["incident_id"], one["state"]) for one in broker.decoded(topics.ALERTS, "alert")]


async def test_incidents_are_the_same_when_state_is_lost(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Each change is published once, with the same id, also by a worker without its state."""
    kept = await alerted(engine_of, [tmp_path / "kept"] * 4)
    lost = await alerted(engine_of, [tmp_path / f"lost-{turn}" for turn in range(4)])
    assert lost == kept
    states = [state for _, state in kept]
    assert states.count("opened") == states.count("closed") == 2
    assert len(set(kept)) == len(kept)


async def test_rates_go_on_after_a_rebalance(engine_of: EngineMaker, tmp_path: Path) -> None:
    """What is assigned again is opened at once; what another worker got is closed."""
    broker, clock = Broker(), Clock()
    rig = await mailed(engine_of, broker, tmp_path / "1", clock)
    await rig.revoke()
    assert not any(agent.is_open(work.tp) for agent in rig.worker.agents for work in agent.works())
    clock.now_s += 8 * MINUTE_S
    await rig.assign(0)
    await rig.until(lambda: rig.worker.ready)
    for agent in rig.worker.agents:
        assert [work.tp.partition for work in agent.works()] == [0]
    await rig.revoke()
    await rig.assign()
    await rig.until(lambda: rig.worker.ready)
    await rig.tick()
    assert hard_bounces(broker, "5m")[-1] == (0, None)
    assert len(rig.worker.campaigns.works()) == PARTITIONS


async def test_a_worker_is_ready_once_all_it_was_assigned_is_open(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """Partitions without input count, too: readiness includes their state."""
    broker = Broker()
    broker.answers.clear()
    rig = await engine_of(broker, tmp_path)
    await rig.settle()
    assert not rig.worker.ready
    broker.answers.set()
    await rig.until(lambda: rig.worker.ready)
    assert {work.tp for agent in rig.worker.agents for work in agent.works()} == rig.thread.assigned


async def test_chunks_wait_for_their_state_and_hold_no_others_up(rig_of: RigMaker) -> None:
    """A partition whose state is being restored is not read; the others are."""
    rig = await rig_of({P0: FakeLog.of(range(100)), P1: FakeLog.of(range(100))})
    rig.hooks.closed = {P0}
    await rig.assign(P0, P1)
    await rig.until(lambda: rig.offsets(P1) == list(range(100)))
    await rig.settle()
    assert rig.offsets(P0) == []
    rig.hooks.closed = set()
    await rig.until(lambda: rig.offsets(P0) == list(range(100)))


@pytest.mark.parametrize("stopping", [True, False])
async def test_a_partition_that_comes_while_the_worker_stops_is_no_failure(
    engine_of: EngineMaker, tmp_path: Path, *, stopping: bool
) -> None:
    """Its consumer is closed then, and opening fails; at any other time that ends the worker."""
    rig = await engine_of(Broker(), tmp_path)
    await rig.until(lambda: rig.worker.ready)
    await rig.revoke()

    async def closed(*_: TP) -> dict[TP, int]:
        raise RuntimeError("Event loop is closed")

    rig.thread.highwaters = closed  # type: ignore[method-assign]
    if stopping:
        rig.worker.stop.set()
    await rig.assign()
    await rig.settle()
    assert (rig.app.failure is None) == stopping
