"""Apache Kafka as a child of the supervisor: its program, its directory, its readiness.

Invariants:
1. Nothing is downloaded: Kafka is where ``mailpulse kafka install`` put it, or in an archive.
2. Its data and its log are in the data directory; what it acknowledged survives however it or the
   machine ends (``streams.broker.config``).
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from schemas.errors import ConfigError, Unavailable
from schemas.settings import PREFIX, Settings
from schemas.topics import BY_NAME
from streams.broker.config import UNFLUSHED, Node, argv, environ_of
from streams.broker.data import prepare
from streams.broker.failures import cause_in
from streams.broker.install import find_software
from streams.broker.java import find_java
from streams.broker.stray import problem_in, put_back
from streams.embedded.child import Program
from streams.kafka import admin

FOLDER = "kafka"
FREE_BYTES_MIN = 64 << 20
"""Free space on the disk that a restart of the broker waits for: Kafka that starts on a full disk
may lose its topics (4.1.2, tried: it renames their directories to ``…-stray``)."""
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
    if lacking := lacks_space(folder):
        raise ConfigError([f"{PREFIX}DATA_DIR: {lacking}"])
    log = log_path or folder / "broker.log"
    _rotate(log)
    return Program(
        "broker",
        argv(node, java.path, java.version, software.class_path),
        environ_of(environ),
        log,
        folder,
        cause_in,
        partial(lacks_space, folder),
        partial(put_back, node.data),
    )


def lacks_space(folder: Path) -> str | None:
    """Why the broker can't be started on the disk of ``folder`` now; ``None``: it can."""
    try:
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        return f"{folder} was deleted"
    if free >= FREE_BYTES_MIN:
        return None
    return (
        f"the disk of {folder} has {free >> 20} MB free, and Kafka needs {FREE_BYTES_MIN >> 20} MB"
    )


def lost_sight_of(data_dir: Path) -> str | None:
    """What to tell if Kafka set records aside at its last start; ``None``: it did not."""
    return problem_in(Node(data_dir.resolve() / FOLDER, 0, 0).data)


async def serves(kafka: Settings, *, created: bool = True) -> bool:
    """Whether the broker answers and leads every partition of mailpulse's topics.

    Args:
        created: every topic has to be there; else those that are.
    """
    with suppress(Unavailable):
        found = (await admin.topics_show(kafka, configs=False)).topics
        if not created or found.keys() == BY_NAME.keys():
            return all(state.in_sync for state in found.values())
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
