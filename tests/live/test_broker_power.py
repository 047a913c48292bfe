"""«Acknowledged means kept» on one machine: over a power cut, and over kill -9.

The disk is a real one that loses what was not synced (``tests/live/power.py``).
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from streams.broker.config import UNFLUSHED
from tests.live.fixtures import disk_at, or_skip
from tests.live.kafka import QUICK_CLEANER, Broker, Kafka, create_topics
from tests.live.power import Disk

pytestmark = pytest.mark.timeout(480)

LOG, TABLE = "power.log", "power.table"
"""A topic like raw, and a compacted one."""
PARTITIONS = 4
KEYS = 50
GROUP = "power-group"
FORM = {"segment.bytes": str(1 << 20)}  # so that segments roll under load

_COMMITTERS: list[Consumer] = []


@dataclass
class Acknowledged:
    """What a broker said it has.

    Attributes:
        numbers: of the records of ``LOG``.
        newest: key -> newest number of ``TABLE``.
        committed: highest offset of ``LOG``, partition 0, whose commit was answered.
    """

    numbers: set[int] = field(default_factory=set)
    newest: dict[int, int] = field(default_factory=dict)
    committed: int = 0

    def add(self, newer: "Acknowledged") -> None:
        """Adds what a later load was told, whose commits went on from these."""
        self.numbers |= newer.numbers
        self.newest |= newer.newest
        self.committed = newer.committed


class Load:
    """Writes to both topics and commits offsets until it is stopped; notes what was acknowledged.

    Args:
        first: number of the first record, so that several loads don't overlap.
    """

    def __init__(self, bootstrap: str, first: int = 0) -> None:
        self.acknowledged = Acknowledged()
        self._bootstrap = bootstrap
        self._next = first
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._write, self._commit)
        ]

    def start(self) -> "Load":
        """Begins; returns at once."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Acknowledged:
        """Ends without waiting for what is outstanding."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged

    def _write(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self._bootstrap, "acks": "all", "enable.idempotence": True,
             "linger.ms": 1, "message.timeout.ms": 10_000, "log_level": 0}
        )  # fmt: skip
        done = self.acknowledged

        def logged(number: int, failed: object) -> None:
            if failed is None:
                done.numbers.add(number)

        def tabled(number: int, failed: object) -> None:
            if failed is None:
                key = number % KEYS
                done.newest[key] = max(done.newest.get(key, -1), number)

        while not self._stop.is_set():
            number = self._next
            value = b"%d" % number + b" " * 300
            key = b"%d" % (number % KEYS)
            try:
                producer.produce(
                    LOG, value, on_delivery=lambda error, _, n=number: logged(n, error)
                )
                producer.produce(
                    TABLE, value, key, on_delivery=lambda error, _, n=number: tabled(n, error)
                )
                self._next += 1
            except BufferError:
                producer.poll(0.05)
            producer.poll(0)
            if number % 20 == 0:
                time.sleep(0.002)
        producer.purge()
        producer.flush(1)

    def _commit(self) -> None:
        done = self.acknowledged

        def answered(failed: object, partitions: list[TopicPartition]) -> None:
            if failed is None:
                done.committed = max(done.committed, partitions[0].offset)

        # Neither closed nor let go: both wait up to 45 s for the answer to the last commit.
        _COMMITTERS.append(consumer := Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": GROUP, "log_level": 0,
             "enable.auto.commit": False, "on_commit": answered}
        ))  # fmt: skip
        offset = done.committed
        while not self._stop.is_set():
            offset += 1
            consumer.commit(offsets=[TopicPartition(LOG, 0, offset)], asynchronous=True)
            consumer.poll(0.02)


def read_all(broker: Broker, topic: str) -> list[tuple[bytes | None, int]]:
    """Key and number of every record of a topic, in order per partition."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "reading", "log_level": 0,
         "enable.auto.commit": False, "enable.partition.eof": True}
    )  # fmt: skip
    found: list[tuple[bytes | None, int]] = []
    try:
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
        )
        at_end, errors, patience = 0, set[str](), time.monotonic() + 90
        while at_end < PARTITIONS:
            assert time.monotonic() < patience, (
                f"{topic}: {at_end} {errors} {broker.log.read_text()}"
            )
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is not None:
                at_end += message.error().code() == KafkaError._PARTITION_EOF
                errors.add(message.error().name())
                continue
            found.append((message.key(), int((message.value() or b"").split()[0])))
    finally:
        consumer.close()
    return found


def committed_of(broker: Broker) -> int:
    """The offset that ``GROUP`` has committed."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP, "log_level": 0})
    try:
        [found] = consumer.committed([TopicPartition(LOG, 0)], timeout=30)
        return max(0, int(found.offset))
    finally:
        consumer.close()


def lost(broker: Broker, said: Acknowledged) -> dict[str, int]:
    """How much of what was acknowledged is not there: records, keys' newest values, commits."""
    log = {number for _, number in read_all(broker, LOG)}
    newest: dict[int, int] = {}
    for key, number in read_all(broker, TABLE):
        assert key is not None
        newest[int(key)] = number
    return {
        "records": len(said.numbers - log),
        "newest of a key": sum(newest.get(key, -1) < n for key, n in said.newest.items()),
        "commits": max(0, said.committed - committed_of(broker)),
    }


@contextmanager
def broker_on(disk: Disk, options: Mapping[str, str]) -> Iterator[Kafka]:
    """A broker whose files are on ``disk``, with the topics of these tests."""
    broker = Kafka(folder=disk.folder / "kafka", options={**QUICK_CLEANER, **options})
    try:
        broker.start()
        create_topics(broker.bootstrap, LOG, partitions=PARTITIONS, config=FORM)
        create_topics(
            broker.bootstrap, TABLE, partitions=PARTITIONS,
            config={**FORM, "cleanup.policy": "compact", "max.compaction.lag.ms": "500"},
        )  # fmt: skip
        yield broker
    finally:
        broker.process.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can lose power."""
    with disk_at(tmp_path / "disk", 700) as one:
        yield one


def test_power_cut_takes_nothing_that_was_acknowledged(disk: Disk) -> None:
    """Records, compacted values and commits, two cuts in a row, without a hand in between."""
    said = Acknowledged()
    with broker_on(disk, {}) as broker:
        for turn in range(2):
            load = Load(broker.bootstrap, first=turn * 10_000_000)
            load.acknowledged.committed = said.committed
            load.start()
            time.sleep(4)
            disk.cut()
            broker.kill()
            new = load.stop()
            disk.restore()
            broker.start()
            said.add(new)
            assert lost(broker, said) == {"records": 0, "newest of a key": 0, "commits": 0}
        assert len(said.numbers) > 1_000
        assert len(said.newest) == KEYS
        assert said.committed > 20


def test_without_the_flush_a_power_cut_takes_what_was_acknowledged(disk: Disk) -> None:
    """The control: the disk of these tests does lose what was not synced."""
    with broker_on(disk, UNFLUSHED) as broker:
        load = Load(broker.bootstrap).start()
        time.sleep(3)
        disk.cut()
        broker.kill()
        said = load.stop()
        disk.restore()
        broker.start()
        kept = {number for _, number in read_all(broker, LOG)}
        assert len(said.numbers - kept) > 100  # full segments had been flushed


def test_kill_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SIGKILL under load, again and again: MAILPULSE_TEST_KILLS of them (5)."""
    said = Acknowledged()
    broker = or_skip(lambda: Kafka(folder=tmp_path / "kafka", options=QUICK_CLEANER))
    with broker:
        create_topics(broker.bootstrap, LOG, TABLE, partitions=PARTITIONS, config=FORM)
        for turn in range(int(os.environ.get("MAILPULSE_TEST_KILLS", "5"))):
            load = Load(broker.bootstrap, first=turn * 10_000_000)
            load.acknowledged.committed = said.committed
            load.start()
            time.sleep(1.5)
            broker.kill()
            new = load.stop()
            broker.start()
            said.add(new)
        assert lost(broker, said) == {"records": 0, "newest of a key": 0, "commits": 0}
        assert len(said.numbers) > 1_000
