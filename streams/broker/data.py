"""The broker's data directory: prepared before each start, or refused with a reason.

Invariants:
1. Nothing that exists is changed or removed, except files that every start writes.
2. A directory that this Kafka would misread is refused before Kafka touches it.

``meta.properties`` is all that Kafka needs of a formatted directory: without a
``bootstrap.checkpoint`` the controller begins with the newest features of its own version and says
so («the default bootstrap»). So no second Java has to run at the first start.

Sources: ``MetaPropertiesVersion`` and ``BootstrapDirectory`` of Apache Kafka 4.1; KIP-858.
"""

import base64
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import ConfigError
from schemas.settings import PREFIX
from streams.broker.config import Node, properties_text

META = "meta.properties"
VERSION_FILE = "kafka.version"
"""Beside the data: the newest Kafka that ran on it."""
FORM = "1"
"""Format of ``meta.properties``; 0 was for ZooKeeper."""


def new_id() -> str:
    """A random Kafka id: 16 bytes in URL-safe base64, 22 characters, the first not a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def meta_text(node_id: int, cluster_id: str, directory_id: str) -> str:
    """``meta.properties`` of a new directory."""
    return (
        f"version={FORM}\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n"
    )


def read_properties(text: str) -> dict[str, str]:
    """Names and values of a properties file as Kafka writes it, without escapes."""
    pairs = (
        line.split("=", 1)
        for line in text.splitlines()
        if "=" in line and not line.lstrip().startswith(("#", "!"))
    )
    return {name.strip(): value.strip() for name, value in pairs}


def problem_with(meta: Mapping[str, str], node_id: int) -> str | None:
    """Why node ``node_id`` can't use a directory with this ``meta.properties``, if it can't."""
    if meta.get("version") != FORM:
        return (
            f"its format is {meta.get('version', 'unknown')}, this Kafka reads format {FORM}:"
            " another Kafka wrote it"
        )
    if meta.get("node.id") != str(node_id):
        return (
            f"it belongs to node {meta.get('node.id', 'unknown')} of another cluster"
            f" ({meta.get('cluster.id', 'unknown')})"
        )
    if not meta.get("cluster.id"):
        return "it has no cluster id: it is damaged"
    return None


def version_number(text: str) -> tuple[int, int]:
    """``4.1.2`` as (4, 1): all patches of a minor version read each other's data.

    Raises:
        ValueError: it is not a version.
    """
    major, minor, *_ = text.strip().split(".")
    return int(major), int(minor)


def prepare(node: Node, version: str, cluster_id: str | None = None) -> None:
    """Prepares ``node.folder`` for a start of Kafka ``version``.

    Args:
        cluster_id: for a directory that is new; default: a random one.

    Raises:
        ConfigError: it can't be written, or holds what this Kafka must not touch.
    """
    try:
        node.data.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(node.temporary, ignore_errors=True)  # a killed broker leaves libraries there
        node.temporary.mkdir(exist_ok=True)
        _check(node, version)
        _write(node.properties_file, properties_text(node))
        if not (node.data / META).exists():
            _write(node.data / META, meta_text(node.node_id, cluster_id or new_id(), new_id()))
        _write(node.folder / VERSION_FILE, version + "\n")
    except OSError as error:
        raise ConfigError(
            [
                f"{PREFIX}DATA_DIR: Kafka can't write to {node.folder}:"
                f" {error.strerror or error}; free the disk or choose another with --data-dir"
            ]
        ) from None


def _check(node: Node, version: str) -> None:
    where = f"{PREFIX}DATA_DIR: {node.data}"
    leave = "choose another with --data-dir, or move this one away"
    try:
        newest = version_number((node.folder / VERSION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        newest = version_number(version)
    if newest > version_number(version):
        raise ConfigError(
            [
                f"{where} was written by Kafka {newest[0]}.{newest[1]}, this is {version}, and an"
                f" older one can't read it; use the newer one again, or {leave}"
            ]
        )
    if not (node.data / META).exists():
        if any(node.data.iterdir()):
            raise ConfigError([f"{where} holds files, but no {META}: not Kafka's data; {leave}"])
        return
    meta = read_properties((node.data / META).read_text(encoding="utf-8", errors="replace"))
    problem = problem_with(meta, node.node_id)
    if problem is not None:
        raise ConfigError([f"{where} can't be used: {problem}; {leave}"])


def _write(path: Path, text: str) -> None:
    """Replaces ``path`` so that after a power cut it holds the old text or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
