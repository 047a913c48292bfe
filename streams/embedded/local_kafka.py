"""Apache Kafka as a child of the supervisor: its program, its directory, its readiness.

Invariants:
1. Nothing is downloaded: Kafka is where ``mailpulse kafka install`` put it, or in an archive.
2. Its data and its log are in the data directory; what it acknowledged survives however it or the
   machine ends (``streams.broker.config``).
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from schemas.errors import ConfigError, Unavailable
from schemas.settings import PREFIX, Settings
from schemas.topics import BY_NAME
from streams.broker.config import UNFLUSHED, Node, argv, environ_of
from streams.broker.data import prepare
from streams.broker.failures import cause_in
from streams.broker.install import find_software
from streams.broker.java import find_java
from streams.embedded.child import Program
from streams.kafka import admin

FOLDER = "kafka"
LOG_BYTES_MAX = 16 << 20
"""A larger log is renamed when the broker starts; one older log is kept."""


def program(
    settings: Settings,
    given: Mapping[str, str],
    environ: Mapping[str, str],
    ports: Mapping[str, int],
    log_path: Path | None,
) -> Program:
    """The broker's program; also prepares its directory.

    Args:
        given: the supervisor's environment, which says where to look for Kafka and Java.
        environ: the part of it that the broker may see.
        ports: ``kafka`` for clients, ``controller`` for the broker itself.
        log_path: ``None``: in its data directory.

    Raises:
        ConfigError: Kafka or Java is missing, or the directory can't be used.
    """
    folder = settings.data_dir.resolve() / FOLDER
    _refuse_earlier_form(settings.data_dir)
    software, java = find_software(settings.kafka_home, given), find_java(given)
    options = {} if settings.kafka_flush else UNFLUSHED
    node = Node(folder, ports["kafka"], ports["controller"], options)
    prepare(node, software.version)
    log = log_path or folder / "broker.log"
    _rotate(log)
    return Program(
        "broker",
        argv(node, java.path, java.version, software.class_path),
        environ_of(environ),
        log,
        folder,
        cause_in,
    )


async def serves(kafka: Settings) -> bool:
    """Whether the broker answers, and leads every partition of mailpulse's existing topics."""
    with suppress(Unavailable):
        cluster = await admin.topics_show(kafka)
        return all(state.in_sync for name, state in cluster.topics.items() if name in BY_NAME)
    return False


async def coordinates(kafka: Settings) -> bool:
    """Whether the broker serves groups' offsets; the first request creates the topic for them."""
    with suppress(Unavailable):
        await admin.lag(kafka)
        return True
    return False


def _refuse_earlier_form(data_dir: Path) -> None:
    """Refuses data of a version whose broker kept nothing: ClickHouse's rows are of another log."""
    if (data_dir / "clickhouse").exists() and not (data_dir / FOLDER).exists():
        raise ConfigError(
            [
                f"{PREFIX}DATA_DIR: {data_dir} was written by an earlier version of mailpulse,"
                " which did not keep Kafka's data; choose another with --data-dir, or move it away"
            ]
        )


def _rotate(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_name(f"{log.name}.1"))
