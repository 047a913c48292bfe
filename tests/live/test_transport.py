"""The transport on real brokers: exactly what is checkpointed is committed, and nothing is
skipped."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from confluent_kafka import (
    Consumer,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from streams.transport.runner import run
from tests.live.chunk_worker import Line, Task, worker
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import QUICK_CLEANER, Broker, Kafka, create_topics
from tests.live.process import Process

pytestmark = pytest.mark.timeout(180)


class Scene:
    """A topic, a group, the journal of its workers, and the committed offsets."""

    def __init__(self, broker: Broker, folder: Path, partitions: int = 2, **config: str) -> None:
        self.broker = broker
        self.partitions = partitions
        self.topic = f"t-{uuid4().hex[:8]}"
        self.group = f"g-{uuid4().hex[:8]}"
        self.folder = folder
        self.journal = folder / "journal"
        self.journal.touch()
        self.workers: list[Process] = []
        create_topics(broker.bootstrap, self.topic, partitions=partitions, config=config)
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def task(self, **options: object) -> Task:
        fields = {
            "bootstrap": self.broker.bootstrap, "topic": self.topic, "group": self.group,
            "journal": str(self.journal), **options,
        }  # fmt: skip
        return Task(**fields)  # type: ignore[arg-type]  # checked where a Task is made

    def process(self, **options: object) -> Process:
        """A started worker in a process of its own."""
        number = len(self.workers)
        argv = [sys.executable, "-m", "tests.live.chunk_worker"]
        argv.append(json.dumps(asdict(self.task(**options))))
        child = Process(f"worker-{number}", argv, self.folder / f"worker-{number}.log")
        self.workers.append(child)
        child.start()
        return child

    def produce(self, per_partition: int, **options: object) -> None:
        """Records into every partition, numbered."""
        settings = {"bootstrap.servers": self.broker.bootstrap, "log_level": 0, **options}
        producer = Producer({"linger.ms": 5, "queue.buffering.max.messages": 500_000, **settings})
        for number in range(per_partition):
            for partition in range(self.partitions):
                value = b"%d" % number
                producer.produce(self.topic, value, b"k%d" % number, partition=partition)
        assert producer.flush(60) == 0

    def lines(self) -> list[Line]:
        return [Line(**json.loads(line)) for line in self.journal.read_text().splitlines()]

    def committed(self) -> dict[int, int]:
        """Committed offset of each partition, 0 where there is none; from the admin client.

        aiokafka's, not confluent-kafka's: librdkafka crashes the process when the group's
        coordinator is not ready yet.
        """
        return asyncio.run(self._committed())

    async def _committed(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.broker.bootstrap, request_timeout_ms=5_000
        )
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(
                self.group,
                partitions=[aiokafka.TopicPartition(self.topic, n) for n in range(self.partitions)],
            )
        except KafkaError:  # no coordinator yet
            found = {}
        finally:
            await admin.close()
        offsets = {tp.partition: max(0, entry.offset) for tp, entry in found.items()}
        return {number: offsets.get(number, 0) for number in range(self.partitions)}

    def check_commits(self) -> dict[int, int]:
        """Commits read first, journal second: whatever is committed must be in the journal."""
        committed = self.committed()
        checkpointed = dict.fromkeys(range(self.partitions), 0)
        for line in self.lines():
            checkpointed[line.partition] = max(checkpointed[line.partition], line.last + 1)
        for partition, offset in committed.items():
            assert offset <= checkpointed[partition]
        return committed

    def check_coverage(self, ends: Sequence[int]) -> int:
        """Asserts that the journal covers every offset; returns offsets finished more than once."""
        twice = 0
        for partition, end in enumerate(ends):
            reached = 0
            for line in sorted(
                (line for line in self.lines() if line.partition == partition),
                key=lambda line: line.first,
            ):
                assert line.first <= reached, f"offsets {reached}..{line.first - 1} were skipped"
                twice += max(0, min(reached, line.last + 1) - line.first)
                reached = max(reached, line.last + 1)
            assert reached == end
        return twice

    def records(self) -> int:
        return sum(line.records for line in self.lines())

    def wait(self, done: Callable[[], bool], what: str, alive: Sequence[Process] = ()) -> None:
        """Waits for something that must happen.

        Raises:
            AssertionError: it did not within two minutes, or one of ``alive`` ended; with its log.
        """
        end = time.monotonic() + 120
        while not done():
            for child in alive:
                assert child.running, f"{child.name} ended\n{child.log_tail()}"
            logs = "\n".join(child.log_tail(15) for child in self.workers)
            assert time.monotonic() < end, f"not {what}; committed {self.committed()}\n{logs}"
            time.sleep(0.1)

    def wait_committed(self, ends: Sequence[int], alive: Sequence[Process] = ()) -> None:
        wanted = dict(enumerate(ends))
        self.wait(lambda: self.check_commits() == wanted, f"committed up to {wanted}", alive)


@pytest.fixture
def scenes() -> Iterator[list[Scene]]:
    """Scenes whose workers are ended with the test."""
    made: list[Scene] = []
    yield made
    for scene in made:
        for child in scene.workers:
            child.kill()


async def read_to_the_end(scene: Scene, ends: Sequence[int], **options: object) -> None:
    """Runs a worker in this process until everything is committed, and stops it in order."""
    app, _ = worker(scene.task(**options))
    stop = asyncio.Event()
    running = asyncio.create_task(run(app, stop, owns_process=False))
    waiting = asyncio.to_thread(scene.wait_committed, ends)
    await asyncio.wait(
        [running, asyncio.ensure_future(waiting)], return_when=asyncio.FIRST_COMPLETED
    )
    assert not running.done(), app.failure
    stop.set()
    assert await running == 0
    await asyncio.to_thread(scene.check_commits)


# --- everything once -----------------------------------------------------------------------------


async def test_every_record_comes_once_on_kafka(kafka: Kafka, tmp_path: Path) -> None:
    """Nothing crashes, so nothing comes twice; the commits reach the end.

    The worker shares its interpreter with the test here, so its session outlasts what a busy
    machine keeps it from.
    """
    scene = Scene(kafka, tmp_path)
    scene.produce(50_000)
    await read_to_the_end(scene, [50_000, 50_000], session_timeout_ms=45_000)
    assert scene.check_coverage([50_000, 50_000]) == 0
    assert scene.records() == 100_000


# --- rebalances ----------------------------------------------------------------------------------


def test_workers_come_and_go_under_load(kafka: Kafka, tmp_path: Path, scenes: list[Scene]) -> None:
    """Six rebalances: every commit was checkpointed, nothing is skipped, and as workers leave in
    order nothing comes twice either."""
    scene = Scene(kafka, tmp_path, partitions=4)
    scenes.append(scene)
    each = 15_000
    scene.produce(each)
    ends = [each] * 4
    workers = [scene.process(pace_s=0.05, chunk_records_max=100)]
    scene.wait(lambda: bool(scene.lines()), "at work", workers)
    for _ in range(3):
        workers.append(scene.process(pace_s=0.05, chunk_records_max=100))
        seen = {line.worker for line in scene.lines()}
        scene.wait(
            partial(lambda seen: seen < {line.worker for line in scene.lines()}, seen),
            "at work with the new one", workers,
        )  # fmt: skip
        scene.check_commits()
        leaver = workers.pop(0)
        assert leaver.stop() == 0, leaver.log_tail()
        scene.check_commits()
    assert scene.check_commits() != dict(enumerate(ends)), "all was read before the last rebalance"
    workers.append(scene.process())
    workers.pop(0).stop()
    scene.wait_committed(ends, workers)
    assert scene.check_coverage(ends) == 0
    assert scene.records() == 4 * each


def test_a_zombie_commits_nothing(kafka: Kafka, tmp_path: Path, scenes: list[Scene]) -> None:
    """Frozen past its session, then resumed: its commits are refused, those of the other stand,
    and it rejoins the group."""
    scene = Scene(kafka, tmp_path)
    scenes.append(scene)
    scene.produce(20_000)
    zombie = scene.process(pace_s=0.02, chunk_records_max=100, session_timeout_ms=2_000)
    scene.wait(lambda: len(scene.lines()) > 5, "at work", [zombie])
    zombie.pause()
    frozen = len(scene.lines())
    heir = scene.process(pace_s=0.02, chunk_records_max=100, session_timeout_ms=2_000)
    scene.wait(lambda: len(scene.lines()) > frozen + 20, "taken over", [heir])
    before = scene.check_commits()
    zombie.resume()
    pids = {zombie.pid, heir.pid}
    scene.wait(
        lambda: {line.worker for line in scene.lines()[frozen + 20 :]} >= pids,
        "both at work", [zombie, heir],
    )  # fmt: skip
    after = scene.check_commits()
    assert all(after[partition] >= offset for partition, offset in before.items())
    scene.wait_committed([20_000, 20_000], [zombie, heir])
    scene.check_coverage([20_000, 20_000])


# --- logs with gaps ------------------------------------------------------------------------------


async def test_commits_reach_the_end_of_a_transactional_log(kafka: Kafka, tmp_path: Path) -> None:
    """Markers, aborted records and a marker at the very last offset; aborted records are not
    delivered."""
    scene = Scene(kafka, tmp_path, partitions=1)
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"x-{uuid4().hex[:8]}"
    )
    kept = 0
    async with producer:
        for number in range(120):
            await producer.begin_transaction()
            for index in range(number % 4):
                await producer.send(scene.topic, b"%d" % index, partition=0)
            if number % 3 == 0:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                kept += number % 4
    end = _end(scene)
    assert end > kept + 50  # markers and aborted records lie in between
    await read_to_the_end(scene, [end], chunk_records_max=7)
    assert scene.records() == kept
    assert scene.check_coverage([end]) == 0


async def test_commits_reach_the_end_of_a_compacted_log(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Most offsets have no record any more, whole batches are missing."""
    (broker,) = kafka_cluster(options=QUICK_CLEANER)
    scene = Scene(
        broker, tmp_path, partitions=1,
        **{"cleanup.policy": "compact", "segment.ms": "100"},
    )  # fmt: skip
    for _ in range(40):
        scene.produce(100)  # the same hundred keys each time
    await asyncio.to_thread(scene.wait, lambda: _records(scene) < 2_000, "compacted")
    await read_to_the_end(scene, [4_000], chunk_records_max=30)
    assert 100 <= scene.records() < 4_000
    assert scene.check_coverage([4_000]) == 0


def _reader(scene: Scene) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": scene.broker.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )


def _end(scene: Scene) -> int:
    reader = _reader(scene)
    end: int = reader.get_watermark_offsets(TopicPartition(scene.topic, 0), 20)[1]
    reader.close()
    return end


def _records(scene: Scene) -> int:
    """Records that partition 0 still has."""
    reader = _reader(scene)
    reader.assign([TopicPartition(scene.topic, 0, 0)])
    count = 0
    while (message := reader.poll(10)) is not None and message.error() is None:
        count += 1
    reader.close()
    return count


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("raise", "agent keep ended: ValueError('poison record')"),
        ("return", "agent keep ended: its function returned"),
        ("hang", "no commit for"),
    ],
)
def test_a_failing_agent_ends_the_process(
    kafka: Kafka, tmp_path: Path, scenes: list[Scene], mode: str, message: str
) -> None:
    """Non-zero, with a message for the operator, and without a commit."""
    scene = Scene(kafka, tmp_path)
    scenes.append(scene)
    scene.produce(100)
    child = scene.process(mode=mode, watchdog_s=2.0, checkpoint_chunks=1_000)
    scene.wait(lambda: not child.running, "ended")
    assert child.returncode == 1
    assert re.search(f"^FATAL .*{re.escape(message)}", child.log_tail(200), re.MULTILINE)
    assert scene.committed() == {0: 0, 1: 0}
    assert scene.lines() == []


def test_an_idle_worker_is_quiet_and_ready(
    kafka: Kafka, tmp_path: Path, scenes: list[Scene]
) -> None:
    """An empty partition and one whose records were all removed: for longer than the watchdog's
    limit nothing happens and nothing is reported; then records arrive and are committed."""
    scene = Scene(kafka, tmp_path)
    scenes.append(scene)
    scene.partitions = 1
    scene.produce(50)
    scene.partitions = 2
    gone = TopicPartition(scene.topic, 0, 50)
    scene.admin.delete_records([gone])[gone].result(20)
    child = scene.process(watchdog_s=1.0)
    time.sleep(6)
    assert child.running, child.log_tail()
    assert "FATAL" not in child.log_tail()
    assert "fetch request" not in child.log_tail()
    scene.produce(10)
    scene.wait(lambda: scene.committed() == {0: 60, 1: 10}, "committed", [child])
    time.sleep(2)
    assert child.stop() == 0
    assert scene.records() == 20


def test_a_worker_goes_on_after_the_broker_was_restarted(
    kafka_cluster: KafkaCluster, tmp_path: Path, scenes: list[Scene]
) -> None:
    """The broker is down for some seconds during the work; the same process finishes it."""
    (broker,) = kafka_cluster()
    scene = Scene(broker, tmp_path)
    scenes.append(scene)
    scene.produce(10_000)
    child = scene.process(pace_s=0.02, chunk_records_max=100)
    scene.wait(lambda: len(scene.lines()) > 10, "at work", [child])
    broker.restart()
    scene.check_commits()
    scene.wait_committed([10_000, 10_000], [child])
    scene.check_coverage([10_000, 10_000])
