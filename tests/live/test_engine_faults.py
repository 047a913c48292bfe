"""The engine under faults, on real Kafka: after each, nothing is missing and nothing counted twice.

Workers are real processes; the input is written while they are killed, frozen and joined by others.
In the end the enriched topic has every input event under exactly one identity, and the merged
minute counts equal a brute-force recount of the input, to the integer.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from schemas import topics
from streams.kafka import admin
from tests.bench.traffic import Shape, fill
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Kafka
from tests.live.recount import assert_exact, read_topic
from tests.live.roles import Pipeline, Role

pytestmark = [pytest.mark.timeout(600), pytest.mark.live]

EVENTS = 30_000
PARTITIONS = 4
NONE: Mapping[str, str] = MappingProxyType({})
SHAPE = Shape(campaigns=12, unattributed=0.1, events_per_s=200)


class Engine:
    """Workers on a broker, and an input that grows during the faults."""

    def __init__(
        self, broker: Kafka, folder: Path, workers: int = 2, settings: Mapping[str, str] = NONE
    ) -> None:
        self.broker = broker
        self.pipeline = Pipeline(
            broker.bootstrap, folder, "", {}, workers=workers, ingests=0, partitions=PARTITIONS,
            settings=settings,
        )  # fmt: skip
        asyncio.run(admin.topics_apply(self.pipeline.settings))
        self.workers = [role for role in self.pipeline if role.kind == "worker"]
        self.dice = random.Random(4)
        self.seed = 0

    def start(self) -> None:
        """Starts every worker and waits until each is ready."""
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.wait_ready()

    def feed(self, count: int) -> None:
        """Writes more events."""
        self.seed += 1
        asyncio.run(
            fill(self.broker.bootstrap, topics.RAW, count, PARTITIONS, SHAPE, seed=self.seed)
        )

    def during(self, faults: int, fault: Callable[[int], None]) -> None:
        """Feeds a part of the input, then a fault, as often as there are faults."""
        for number in range(faults):
            self.feed(EVENTS // faults)
            time.sleep(self.dice.uniform(0.05, 0.8))
            fault(number)

    def wait_caught_up(self, timeout_s: float = 120.0) -> None:
        """Until the workers have committed everything they have to read."""
        group = self.pipeline.settings.consumer_group
        end = time.monotonic() + timeout_s
        seen: object = "nothing"
        while True:
            try:
                rows = asyncio.run(admin.lag(self.pipeline.settings))
            except Exception as error:  # the broker may be on its way up
                seen = error
            else:
                mine = [row for row in rows if row.group == group]
                seen = [row for row in mine if row.lag != 0]
                if mine and not seen:
                    return
            for worker in self.workers:
                if not worker.running:
                    worker.start()  # as a supervisor would
            if time.monotonic() > end:
                pytest.fail(
                    f"not caught up in {timeout_s:g} s: {seen}\n{self.pipeline.log_tails()}"
                )
            time.sleep(0.3)

    def check(self) -> None:
        """Asserts what must be true after every fault."""
        self.wait_caught_up()
        assert self.assert_exact() > EVENTS * 0.8

    def assert_exact(self) -> int:
        """Asserts that everything is enriched and counted once; the number of different events."""
        try:
            return asyncio.run(assert_exact(self.broker.bootstrap))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.pipeline.log_tails()}") from error

    def end(self) -> None:
        """Kills what still runs."""
        for worker in self.workers:
            worker.kill()


def engine(kafka_cluster: KafkaCluster, folder: Path, workers: int = 2, **settings: str) -> Engine:
    """An engine on a broker of its own; settings by name without prefix."""
    (broker,) = kafka_cluster()
    made = Engine(broker, folder, workers, settings)
    made.start()
    return made


def revive(worker: Role) -> None:
    """Starts a worker again, as a supervisor would."""
    if not worker.running:
        worker.start()


def test_killed_at_random_moments(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """kill -9 of a worker, twenty times, under load."""
    run = engine(kafka_cluster, tmp_path)
    try:

        def kill(_: int) -> None:
            victim = run.dice.choice(run.workers)
            victim.kill()
            time.sleep(run.dice.uniform(0, 0.5))
            revive(victim)

        run.during(20, kill)
        run.check()
    finally:
        run.end()


def test_zombies_wake_up_again(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """SIGSTOP past the session time-out, then SIGCONT: what the frozen worker does then has no
    effect."""
    run = engine(kafka_cluster, tmp_path)
    try:

        def freeze(number: int) -> None:
            victim = run.workers[number % 2]
            revive(victim)
            victim.pause()
            run.feed(500)
            time.sleep(8)  # session time-out is 6 s
            victim.resume()
            time.sleep(2)
            revive(victim)

        run.during(5, freeze)
        run.check()
    finally:
        run.end()


def test_workers_join_and_leave(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """A third worker joins and leaves, twenty times, stopped in order or killed."""
    run = engine(kafka_cluster, tmp_path)
    third = run.pipeline._add("worker-3")
    run.workers.append(third)
    try:

        def come_and_go(number: int) -> None:
            third.start()
            time.sleep(run.dice.uniform(0.5, 2.5))
            if number % 3 == 0:
                third.kill()
            else:
                third.stop()

        run.during(20, come_and_go)
        run.check()
    finally:
        run.end()


def test_broker_restarts_and_state_is_wiped(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """The broker is restarted twice, and all state on disk deleted once: it is rebuilt."""
    run = engine(kafka_cluster, tmp_path)
    try:

        def disturb(number: int) -> None:
            if number < 2:
                run.broker.restart()
                return
            if number > 2:
                return
            for worker in run.workers:
                worker.kill()
            shutil.rmtree(tmp_path / "state")
            for worker in run.workers:
                worker.start()

        run.during(4, disturb)
        run.check()
        # A repeat of the whole input: state must know every id, also those it only rebuilt.
        run.seed = 0
        for _ in range(4):
            run.feed(EVENTS // 4)
        run.check()
    finally:
        run.end()


def test_poison_in_the_middle_of_a_chunk(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Other records are processed, the poison is on the dead-letter topic, commits go on."""
    from aiokafka import AIOKafkaProducer

    run = engine(kafka_cluster, tmp_path, workers=1)
    poison = (b"", b"\x00", b"\x00\x00\x00\x00\x63abc", b"\x00\x00\x00\x00\x01\xff\xff\xff", b"{}")

    async def put() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=run.broker.bootstrap, acks="all")
        await producer.start()
        for number, value in enumerate(poison):
            await producer.send_and_wait(topics.RAW, value, partition=number % PARTITIONS)
        await producer.stop()

    try:
        run.feed(EVENTS // 2)
        asyncio.run(put())
        run.feed(EVENTS // 2)
        run.check()
        letters = asyncio.run(read_topic(run.broker.bootstrap, topics.DEAD_LETTERS))
        assert len({letter.key for letter in letters}) == len(poison)
    finally:
        run.end()
