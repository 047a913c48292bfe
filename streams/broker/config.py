"""How the one broker of this machine is run: its properties and its command line. Pure.

Invariants:
1. It listens on 127.0.0.1 only, for clients and for its own controller.
2. What it acknowledges is on the disk: in every topic, each append is flushed before it is
   acknowledged. So a committed offset never covers outputs that a power cut loses.
3. Topics are created by mailpulse, never by accident.
4. No record is refused for its timestamp: after a clock was set back, records from before are still
   read, and what follows from them is still written.

Sized for a laptop: it was measured at 1 kB records with a heap of 256 MB.

Sources: Apache Kafka 4.1 documentation, «Broker Configs»; KIP-631 (KRaft), KIP-858 (directory ids).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HEAP_MB = 256
SEGMENT_BYTES = 32 << 20
"""Retention and compaction work on whole segments."""
REQUEST_BYTES_MAX = 16 << 20
QUEUED_BYTES_MAX = 32 << 20
"""Requests in memory that wait for a thread: many large ones at once must not fill the heap."""
CLEANER_BYTES = 4 << 20
"""Keys that one pass of compaction covers. The default of 128 MB is half of this heap."""
FOR_EVER = str(2**63 - 1)
JVM_OPTIONS = (
    "-XX:+UseSerialGC",
    # The optimising compiler costs 2 s of CPU time and 40 MB, and gains nothing for minutes.
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=32m",
    "-XX:MaxDirectMemorySize=64m",
    # Not ExitOnOutOfMemoryError: its exit code 3 means «bad settings» to our supervisor.
    "-XX:+CrashOnOutOfMemoryError",
    "-XX:-CreateCoredumpOnCrash",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dlog4j2.level=WARN",  # of an Apache archive
)


@dataclass(frozen=True, slots=True)
class Node:
    """The broker of one data directory.

    Attributes:
        folder: everything of the broker; absolute, and the process's working directory.
        port: for clients.
        controller_port: for the broker's own controller.
        options: properties that replace or extend those here, for tests and benches.
        node_id: its number in the cluster.
        voters: number -> controller port of every node of the cluster; empty: a single node.
    """

    folder: Path
    port: int
    controller_port: int
    options: Mapping[str, str] = field(default_factory=dict)
    node_id: int = 1
    voters: Mapping[int, int] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Kafka's log directory."""
        return self.folder / "data"

    @property
    def properties_file(self) -> Path:
        """Where ``properties`` are written for the broker to read."""
        return self.folder / "server.properties"

    @property
    def temporary(self) -> Path:
        """Where native libraries are unpacked: ``/tmp`` may be mounted noexec."""
        return self.folder / "tmp"


def properties(node: Node) -> dict[str, str]:
    """The broker's configuration, by name."""
    voters = node.voters or {node.node_id: node.controller_port}
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": ",".join(
            f"{number}@127.0.0.1:{port}" for number, port in voters.items()
        ),
        "controller.listener.names": "CONTROLLER",
        "listeners": (
            f"PLAINTEXT://{node.bootstrap},CONTROLLER://127.0.0.1:{node.controller_port}"
        ),
        "advertised.listeners": f"PLAINTEXT://{node.bootstrap}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": node.data.name,  # relative: a comma in a path would split it
        **_DURABLE,
        **_ALONE,
        **_SMALL,
        **node.options,
    }


_DURABLE = {
    "log.flush.interval.messages": "1",  # invariant 2, unless UNFLUSHED
    "auto.create.topics.enable": "false",
    "log.message.timestamp.after.max.ms": FOR_EVER,  # invariant 4
    "log.message.timestamp.before.max.ms": FOR_EVER,
    # A machine that was off for weeks continues where it stopped.
    "offsets.retention.minutes": str(100 * 24 * 60),
}

UNFLUSHED: Mapping[str, str] = {"log.flush.interval.messages": FOR_EVER}
"""Options for a broker that acknowledges what is in the page cache: a crash of any process loses
nothing, a power cut what the operating system had not written yet (some 30 s)."""

_ALONE = {
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "auto.leader.rebalance.enable": "false",
    # After kill -9 the controller waits for the session of the killed process: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}

_SMALL = {
    "num.network.threads": "2",
    "num.io.threads": "4",  # each may wait for the disk (invariant 2)
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
    "socket.request.max.bytes": str(REQUEST_BYTES_MAX),
    "queued.max.request.bytes": str(QUEUED_BYTES_MAX),
    "log.segment.bytes": str(SEGMENT_BYTES),
    "log.index.size.max.bytes": str(1 << 20),
    "log.retention.check.interval.ms": "30000",
    "log.segment.delete.delay.ms": "10000",
    "log.cleaner.dedupe.buffer.size": str(CLEANER_BYTES),
    "log.cleaner.io.buffer.size": str(256 << 10),
    "offsets.load.buffer.size": str(1 << 20),
    # By default the controller writes and flushes an empty record twice a second.
    "metadata.max.idle.interval.ms": "5000",
}


def properties_text(node: Node) -> str:
    """``server.properties``: ISO 8859-1 with escapes, as ``java.util.Properties`` reads it."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties(node).items())


def _escaped(value: str) -> str:
    escaped = value.replace("\\", "\\\\")
    if escaped.startswith(" "):
        escaped = "\\" + escaped
    units = escaped.encode("utf-16-be")
    return "".join(
        chr(unit) if 32 <= unit < 127 else f"\\u{unit:04x}"
        for unit in (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    )


_JAVA_VARIABLES = {"CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}


def environ_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The broker's environment, made from the caller's.

    Variables of Java are left out, since they could set another heap or class path. File names are
    UTF-8 whatever the locale; otherwise Java would not find a folder with an umlaut.
    """
    kept = {name: value for name, value in environ.items() if name not in _JAVA_VARIABLES}
    return {**kept, "LC_ALL": "C.UTF-8"}


def argv(
    node: Node, java: Path, java_version: int, class_path: str, heap_mb: int = HEAP_MB
) -> tuple[str, ...]:
    """The broker's command line.

    Args:
        java: the ``java`` program.
        java_version: its major version.
        class_path: of Kafka.
        heap_mb: most of Java's heap, in MB.
    """
    options = [f"-Xms{min(32, heap_mb)}m", f"-Xmx{heap_mb}m", *JVM_OPTIONS]
    options.append(f"-Djava.io.tmpdir={node.temporary}")
    options.append(f"-XX:ErrorFile={node.folder / 'crash.log'}")
    if java_version >= 24:  # else each start warns about Kafka's own use of both
        options += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    return (str(java), *options, "-cp", class_path, "kafka.Kafka", str(node.properties_file))
