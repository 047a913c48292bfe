"""The brokers that the other live tests use."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Broker, Kafka, create_topics

pytestmark = pytest.mark.timeout(180)


def produce(broker: Broker, topic: str, *values: bytes) -> None:
    """Writes ``values`` to partition 0 and waits for the acknowledgement of each."""
    kept: list[bool] = []  # not the errors: a KafkaError can't be compared with None
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(
            topic, value, partition=0, callback=lambda error, _: kept.append(error is None)
        )
    assert producer.flush(60) == 0
    assert kept == [True] * len(values)


def read(broker: Broker, topic: str, count: int) -> list[bytes]:
    """The first ``count`` values of partition 0."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    end = time.monotonic() + 120
    try:
        while len(values) < count and time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


def test_records_outlive_stop_and_kill(kafka_cluster: KafkaCluster) -> None:
    """Kafka keeps port and records over an orderly stop and over SIGKILL."""
    (broker,) = kafka_cluster()
    create_topics(broker.bootstrap, "kept", partitions=1)
    produce(broker, "kept", b"one")
    broker.restart()
    produce(broker, "kept", b"two")
    broker.kill()
    assert not broker.process.running
    broker.start()
    produce(broker, "kept", b"three")
    assert read(broker, "kept", 3) == [b"one", b"two", b"three"]


def test_unknown_topics_are_not_made(kafka: Kafka) -> None:
    """Auto-create is off: a misspelt topic name is noticed."""
    create_topics(kafka.bootstrap, "made-once", partitions=1)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 3000, "log_level": 0}
    )
    kept: list[bool] = []
    producer.produce("no-such-topic", b"x", callback=lambda error, _: kept.append(error is None))
    assert producer.flush(60) == 0
    assert kept == [False]
    with pytest.raises(KafkaException):
        create_topics(kafka.bootstrap, "made-once", partitions=1)


def test_cluster_of_three_serves_while_one_node_is_down(kafka_cluster: KafkaCluster) -> None:
    """With three replicas and two in sync, the loss of a node loses no record."""
    nodes = kafka_cluster(3)
    create_topics(nodes[0].bootstrap, "replicated", partitions=1, replicas=3)
    produce(nodes[0], "replicated", b"before")
    nodes[2].kill()
    produce(nodes[0], "replicated", b"after")
    assert read(nodes[1], "replicated", 2) == [b"before", b"after"]


def test_broker_stays_small_under_load(kafka_cluster: KafkaCluster) -> None:
    """100 MB in and out again through many connections: never 400 MB resident."""
    (broker,) = kafka_cluster()
    create_topics(broker.bootstrap, "load", partitions=4)
    producers = [
        Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 0})
        for _ in range(8)
    ]
    for number in range(100_000):
        producer = producers[number % len(producers)]
        while True:
            try:
                producer.produce("load", b"x" * 1_000, partition=number % 4)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert all(producer.flush(60) == 0 for producer in producers)
    assert len(read(broker, "load", 25_000)) == 25_000
    status = Path(f"/proc/{broker.pid}/status").read_text()
    [peak_kb] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak_kb < 400_000


def test_broker_dies_with_a_killed_run(tmp_path: Path) -> None:
    """SIGKILL of the run that started a broker ends the broker too."""
    program = (
        "import time; from tests.live.kafka import Kafka\n"
        "broker = Kafka().start(); print(broker.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed run can't tidy up
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    broker_pid = int(run.stdout.readline())
    os.kill(broker_pid, 0)
    run.send_signal(signal.SIGKILL)
    run.wait()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            os.kill(broker_pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the broker lives on")
