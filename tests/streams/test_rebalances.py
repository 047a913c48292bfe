"""Workers of one group that join, leave, die and lag behind, in random orders.

In any order every event is enriched and counted once. Random are the orders that the transport
can't rule out: Faust's seek after an assignment may happen during the next rebalance, and a worker
that was removed from the group goes on until it notices.
"""

import asyncio
import random
from pathlib import Path

import pytest

from schemas import topics
from streams.transport.chunks import TP
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import PARTITIONS, Broker, Clock, EngineRig

MEMBERS = 3
STEPS = 24


class Member(EngineRig):
    """A worker whose assignment and seek are separate steps."""

    seeks = False
    """Whether the seek after the assignment is still to come."""
    out = False
    """Put out of the group, without knowing it."""

    async def given(self, partitions: set[int]) -> None:
        """The assignment of a joined group."""
        tps = {TP(agent.topic, number) for agent in self.worker.agents for number in partitions}
        self.app.consumer_generation_id += 1
        self.thread.assigned = set(tps)
        self.consumer._set_active_tps(set(tps))
        await self.app.topics.on_partitions_assigned(set(tps))
        self.consumer.resume_partitions(set(tps))
        self.seeks = True

    async def seek(self) -> None:
        """Faust's seek some time later."""
        self.seeks = False
        await self.consumer.perform_seek()
        self.app.flow_control.resume()
        self.consumer.resume_flow()

    async def let_go(self) -> None:
        """The group is joined again; until then aiokafka reports the old assignment."""
        self.thread.commits_succeed = not self.out
        self.thread.sessions.clear()
        await self.consumer.on_partitions_revoked(set(self.thread.assigned))
        self.thread.commits_succeed, self.out = True, False


class Group:
    """The members, and what happens to them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.folder = folder
        self.broker = Broker()
        self.members: list[Member] = []
        self.fed = self.started = 0

    async def start(self, state: Path) -> Member:
        """Starts another worker, with the state on its disk."""
        member = Member(self.broker, state, Clock())
        await member.start()
        self.members.append(member)
        return member

    def feed(self) -> None:
        """Feeds some delivered messages."""
        begin, self.fed = self.fed, self.fed + self.dice.randint(1, 12)
        self.broker.feed(
            event(
                event_id=f"{number:032x}", event_type="delivered", message_id=f"m{number}",
                received_at=RECEIVED_AT + number * 1_000, occurred_at=RECEIVED_AT + number * 1_000,
            )
            for number in range(begin, self.fed)
        )  # fmt: skip

    async def rebalance(self) -> None:
        """Every live member releases and gets partitions; late seeks happen in between."""
        dice = self.dice
        joined = [member for member in self.members if member.out or dice.random() < 0.85]
        for member in self.members:
            if member not in joined:
                member.out, member.thread.commits_succeed = True, False
        for member in joined:
            await member.let_go()
            if member.seeks and dice.random() < 0.7:
                await member.seek()
            await self.settle()
        numbers = list(range(PARTITIONS))
        dice.shuffle(numbers)
        shares: dict[int, set[int]] = {at: set() for at in range(len(joined))}
        for number in numbers if joined else ():
            shares[dice.randrange(len(joined))].add(number)
        for at, member in enumerate(joined):
            await member.given(shares[at])
            if dice.random() < 0.7:
                await member.seek()

    async def die(self) -> None:
        """Kills one with ``kill -9`` and restarts it."""
        if self.members:
            victim = self.members.pop(self.dice.randrange(len(self.members)))
            self.started += 1
            state = self.folder / f"life-{self.started}"
            await victim.kill(state)
            await self.start(state)
        await self.rebalance()

    async def settle(self) -> None:
        """Lets some of the pending work happen."""
        for _ in range(self.dice.choice((0, 3, 30, 300))):
            await asyncio.sleep(0)

    async def checkpoint(self) -> None:
        """One worker's timer."""
        if self.members:
            member = self.dice.choice(self.members)
            await member.worker.tick()
            await member.consumer.commit_chunks()

    async def step(self) -> None:
        """Makes one thing happen."""
        dice = self.dice.random()
        if dice < 0.35:
            self.feed()
        elif dice < 0.55:
            await self.checkpoint()
        elif dice < 0.8:
            await self.rebalance()
        elif dice < 0.88:
            await self.die()
        else:
            for member in self.members:
                if member.seeks:
                    await member.seek()
        await self.settle()
        for member in self.members:
            assert member.app.failure is None, member.app.failure


@pytest.mark.parametrize("seed", range(24))
async def test_every_event_is_counted_once(seed: int, tmp_path: Path) -> None:
    """However members join, leave and lag behind."""
    group = Group(seed, tmp_path)
    broker = group.broker
    try:
        for number in range(MEMBERS):
            await group.start(tmp_path / f"member-{number}")
        for _ in range(STEPS):
            await group.step()
        group.feed()
        for member in group.members:
            await member.let_go()
        last = group.members[0]
        for member in group.members[1:]:
            await member.given(set())
            await member.seek()
        await last.given(set(range(PARTITIONS)))
        await last.seek()
        await last.work_off()
        found = broker.decoded(topics.ENRICHED, "enriched_event")
        ids = {int(one["event"]["event_id"], 16) for one in found}
        assert sorted(set(range(group.fed)) - ids) == []
        await last.tick()
        newest = broker.decoded(topics.RATES, "campaign_rates")[-1]
        assert newest["windows"][-1]["counts"]["delivered"] == group.fed
    finally:
        for member in group.members:
            await member.stop()
