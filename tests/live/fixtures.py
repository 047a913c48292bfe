"""Brokers for live tests, as fixtures.

A test that uses one of these is ``live``. If something is missing on the machine the test is
skipped with the reason; with ``CI=true`` or ``MAILPULSE_REQUIRE_LIVE=1`` it fails instead, so that
CI can't pass by skipping.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.live.kafka import Kafka, start_cluster
from tests.live.maven import Missing
from tests.live.power import KERNEL_LACKS, Disk

Made = TypeVar("Made")


def live_required() -> bool:
    """Whether a live test that cannot run must fail rather than skip."""
    return os.environ.get("CI") == "true" or os.environ.get("MAILPULSE_REQUIRE_LIVE") == "1"


def or_skip(make: Callable[[], Made]) -> Made:
    """``make()``; if something is missing on this machine the test is skipped, or fails if
    required."""
    try:
        return make()
    except Missing as error:
        if live_required():
            pytest.fail(f"live tests are required here: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One Apache Kafka for the whole run: create topics of your own, never stop it."""
    with or_skip(Kafka) as broker:
        yield broker


class KafkaCluster(Protocol):
    """Starts Kafka for one test: ``kafka_cluster(nodes, options)``."""

    def __call__(self, nodes: int = 1, options: Mapping[str, str] | None = None) -> list[Kafka]: ...


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Creates running Kafka nodes that the test may stop, kill and freeze; they are removed at its
    end."""
    started: list[Kafka] = []

    def make(nodes: int = 1, options: Mapping[str, str] | None = None) -> list[Kafka]:
        cluster = or_skip(lambda: start_cluster(nodes, options))
        started.extend(cluster)
        return cluster

    yield make
    for node in started:
        node.remove()


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A fresh Kafka for one test: to make mailpulse's topics on, to stop, kill and freeze."""
    with or_skip(Kafka) as broker:
        yield broker


@contextmanager
def disk_at(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A mounted disk that can lose power; skips the test where the kernel can't have one."""
    if KERNEL_LACKS:
        pytest.skip(f"this kernel has no {KERNEL_LACKS[0]}")
    disk = Disk(folder, megabytes)
    or_skip(disk.__enter__)
    try:
        yield disk
    finally:
        disk.__exit__()
