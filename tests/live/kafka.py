"""Real brokers for tests and benches: Apache Kafka 4.x (KRaft).

Invariants:
1. Real software, no doubles, started by the product's own code (``streams/broker``): the same jars,
   the same Java, the same configuration but for what a test or a cluster needs otherwise.
2. A broker listens on 127.0.0.1 alone, on a free port that it keeps over restarts.
3. Topics are never made by accident: auto-create is off.
4. No broker outlives the test run (``tests/live/process.py``).

From a shell: ``python -m tests.live.kafka [--port N]`` prints the bootstrap address
and runs until Ctrl-C.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka.admin import AdminClient, ClusterMetadata
from confluent_kafka.cimpl import OFFSET_END, NewTopic, TopicPartition

from schemas.settings import Settings
from schemas.topics import PARTITIONS_DEFAULT
from streams.broker.config import HEAP_MB, UNFLUSHED, Node, argv, environ_of
from streams.broker.data import new_id, prepare
from streams.broker.install import Software
from streams.broker.java import Java
from streams.kafka.admin import topics_apply
from tests.live.maven import Missing
from tests.live.process import Process, accepts, free_port
from tests.live.software import java, software

QUICK_CLEANER: Mapping[str, str] = {
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.cleaner.delete.retention.ms": "100",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "100",
}
"""Broker options with which compaction and retention happen while a test looks on."""


class Broker:
    """What every broker of these tests can do; see ``Kafka`` and ``EmbeddedBroker``.

    A context manager: started on entry, stopped and its files removed on exit.
    """

    process: Process
    """The broker's own process."""

    def __init__(self, port: int | None, folder: Path | None = None) -> None:
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mailpulse-broker-"))

    @property
    def log(self) -> Path:
        """File with the broker's output."""
        return self.folder / "broker.log"

    @property
    def pid(self) -> int:
        """Process id, for looking at its memory or CPU."""
        return self.process.pid

    def start(self, *, wait: bool = True) -> Self:
        """Starts the broker, on the data it has; returns when it answers (unless ``wait`` is off).

        Raises:
            ProcessFailed: it ended or did not answer within a minute; its log is in the message.
        """
        self.process.start()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, brokers: int = 1) -> None:
        """Waits until the broker answers and knows of ``brokers`` live brokers."""
        self.process.wait_until(lambda: accepts(self.port), "listening")
        admin = AdminClient(_admin_options(self.bootstrap))

        def answers() -> bool:
            try:
                found = admin.list_topics(timeout=2)
            except Exception:  # KafkaException: still electing itself
                return False
            return len(found.brokers) >= brokers and self.serves(found)

        self.process.wait_until(answers, f"answering with {brokers} broker(s)")

    def serves(self, found: ClusterMetadata) -> bool:
        """Whether a broker that answers is ready, going by its metadata."""
        return True

    def stop(self) -> None:
        """SIGTERM: an orderly stop, data kept (where the broker keeps any)."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL: what was not flushed by the operating system's grace stays in its cache."""
        self.process.kill()

    def pause(self) -> None:
        """Freezes the broker (SIGSTOP): connections stay open, nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """Lets a frozen broker go on (SIGCONT)."""
        self.process.resume()

    def restart(self) -> None:
        """Stops and starts on the same port and data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Ends the broker for good and removes its files."""
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


class Kafka(Broker):
    """One Apache Kafka node, broker and controller in one (KRaft), as the product starts it.

    Args:
        port: client port; default: a free one, kept over restarts.
        options: broker options on top of the product's, such as ``QUICK_CLEANER``.
        heap_mb: Java heap.
        node_id: number of the node, from 1.
        voters: controller port of every node of the cluster, this one's too; default: a single
            node.
        cluster_id: 22 characters, the same on every node; default: a new one.
        folder: of its files; default: a temporary one.
        kafka: default: the product's.
        runs_on: default: the Java that the product would choose.

    Raises:
        Missing: no Java on this machine, or Kafka can't be fetched.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        options: Mapping[str, str] | None = None,
        heap_mb: int = HEAP_MB,
        node_id: int = 1,
        voters: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
        folder: Path | None = None,
        kafka: Software | None = None,
        runs_on: Java | None = None,
    ) -> None:
        self.software = kafka or software()
        chosen = runs_on or java()
        super().__init__(port, folder)
        voters = dict(voters or {node_id: free_port()})
        self.node = Node(
            self.folder,
            self.port,
            voters[node_id],
            {**_of_cluster(len(voters)), **(options or {})},
            node_id,
            voters,
        )
        self._cluster_id = cluster_id or new_id()
        self.process = Process(
            f"kafka-{node_id}",
            argv(self.node, chosen.path, chosen.version, self.software.class_path, heap_mb),
            self.log,
            env=environ_of(os.environ),
            cwd=self.folder,
        )

    def serves(self, found: ClusterMetadata) -> bool:
        """A node that is alone leads every partition; of several, others may be down."""
        leaders = [p.leader for topic in found.topics.values() for p in topic.partitions.values()]
        return len(self.node.voters) > 1 or all(leader >= 0 for leader in leaders)

    def start(self, *, wait: bool = True) -> Self:
        """As ``Broker.start``; makes the directory ready, as the product does.

        Raises:
            ConfigError: the product refuses the directory.
        """
        prepare(self.node, self.software.version, self._cluster_id)
        return super().start(wait=wait)


def _of_cluster(nodes: int) -> dict[str, str]:
    """What several nodes need otherwise than one."""
    if nodes == 1:
        return {}
    replicas = str(min(nodes, 3))
    topics = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        **UNFLUSHED,
        **{f"{topic}.replication.factor": replicas for topic in topics},
        "default.replication.factor": replicas,
        "min.insync.replicas": "2" if nodes > 2 else "1",
    }


def start_cluster(nodes: int, options: Mapping[str, str] | None = None) -> list[Kafka]:
    """A running cluster of several nodes on this machine; the caller removes each.

    Raises:
        Missing: no Java on this machine, or Kafka can't be fetched.
        ProcessFailed: a node did not come up.
    """
    voters = {node_id: free_port() for node_id in range(1, nodes + 1)}
    cluster_id = new_id()
    started: list[Kafka] = []
    try:
        started.extend(
            Kafka(options=options, node_id=node_id, voters=voters, cluster_id=cluster_id)
            for node_id in voters
        )
        for node in started:
            node.start(wait=False)
        for node in started:
            node.wait_ready(nodes)
    except BaseException:
        for node in started:
            node.remove()
        raise
    return started


def _admin_options(bootstrap: str) -> dict[str, Any]:
    return {"bootstrap.servers": bootstrap, "log_level": 0}


def create_topics(
    bootstrap: str,
    *names: str,
    partitions: int = PARTITIONS_DEFAULT,
    replicas: int = 1,
    config: Mapping[str, str] | None = None,
) -> None:
    """Makes topics and waits until the broker lists them.

    Raises:
        confluent_kafka.KafkaException: a topic exists already or can't be made.
        TimeoutError: not listed within 30 seconds.
    """
    admin = AdminClient(_admin_options(bootstrap))
    topics = [NewTopic(name, partitions, replicas, config=dict(config or {})) for name in names]
    for made in admin.create_topics(topics).values():
        made.result(30)
    end = time.monotonic() + 120
    while not set(names) <= set(admin.list_topics(timeout=10).topics):
        if time.monotonic() > end:
            raise TimeoutError(f"topics not listed: {names}")
        time.sleep(0.05)


def empty_topic(bootstrap: str, name: str) -> None:
    """Removes every record of a topic; offsets go on.

    Raises:
        confluent_kafka.KafkaException: the topic is not there, or is compacted only.
    """
    admin = AdminClient(_admin_options(bootstrap))
    partitions = admin.list_topics(name, timeout=10).topics[name].partitions
    everything = [TopicPartition(name, number, OFFSET_END) for number in partitions]
    for removed in admin.delete_records(everything).values():
        removed.result(30)


def create_mailpulse_topics(bootstrap: str, partitions: int = PARTITIONS_DEFAULT) -> None:
    """Makes every topic of ``schemas.topics`` as ``mailpulse topics apply`` does.

    Not for use inside a running event loop: await ``streams.kafka.admin.topics_apply`` there.
    """
    asyncio.run(topics_apply(Settings(kafka_bootstrap=bootstrap, partitions=partitions)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one broker until Ctrl-C or SIGTERM; prints its bootstrap address."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.kafka", description=__doc__)
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--heap-mb", type=int, default=HEAP_MB)
    parser.add_argument("--topics", action="store_true", help="make mailpulse's topics too")
    parser.add_argument("--partitions", type=int, default=PARTITIONS_DEFAULT)
    given = parser.parse_args(arguments)
    try:
        broker = Kafka(given.port, heap_mb=given.heap_mb)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with broker:
        if given.topics:
            create_mailpulse_topics(broker.bootstrap, given.partitions)
        print(broker.bootstrap, flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
