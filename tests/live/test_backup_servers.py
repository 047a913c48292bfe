"""Backup and restore where Kafka and the database are servers: every role a process of its own.

The database's part of the backup stays with it (``--clickhouse``). Part of ``make test-backup``.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.groups import group_by_role
from schemas.settings import PREFIX
from streams.kafka import admin
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline, clean_environ
from tests.live.test_backup import KILLS, SEEN
from tests.live.test_forget import course, rows, send

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(600),
    pytest.mark.skipif(not KILLS, reason="the long form: make test-backup"),
]  # fmt: skip
KEPT_BY_SERVER = "File('{name}')"


def operator(pipeline: Pipeline, *words: str, code: int = 0) -> str:
    """Runs a command with all rights; returns its stdout."""
    warehouse = pipeline._warehouse
    assert warehouse is not None
    settings = {**pipeline._environ, **warehouse.sink_settings()}
    environ = {**clean_environ(), **{f"{PREFIX}{name}": one for name, one in settings.items()}}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", *words], env=environ, check=False,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if not code else done.stderr


def seen(pipeline: Pipeline) -> dict[str, Any]:
    """What an analyst sees."""
    return {name: asyncio.run(rows(pipeline, sql)) for name, sql in SEEN.items()}


def test_kafka_is_lost_and_the_tables_too(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Restored into another Kafka, beside a database that kept its part of the backup."""
    place, begin_us = str(tmp_path / "place"), int(time.time() * 1_000_000) - 3_600_000_000
    events = [
        one for number in range(9) for one in course(f"u{number}@x.example", number, begin_us)
    ]
    with Pipeline(kafka_cluster()[0].bootstrap, tmp_path, "", {}, ingests=0) as pipeline:
        asyncio.run(send(pipeline, events))
        pipeline.wait_caught_up()
        wanted = seen(pipeline)
        assert "--clickhouse" in operator(pipeline, "backup", place, code=1)
        words = ("backup", place, "--clickhouse", KEPT_BY_SERVER, "--json")
        operator(pipeline, *words)
        second = json.loads(operator(pipeline, *words))
        assert "not_empty" in operator(pipeline, "restore", place, code=1)
        pipeline.stop()

    shutil.rmtree(tmp_path / "clickhouse")
    shutil.rmtree(tmp_path / "state")
    other = Pipeline(
        kafka_cluster()[0].bootstrap, tmp_path, "", {}, ingests=0,
        settings={"LOG_ID": second["log"]},
    )  # fmt: skip
    try:
        other["warehouse-1"].start()
        other["warehouse-1"].wait_ready()
        done = json.loads(operator(other, "restore", place, "--json"))
        assert done["kafka"] == "refilled"
        for name in ("sink-1", "worker-1"):
            other[name].start()
            other[name].wait_ready()
        assert seen(other) == wanted
        asyncio.run(send(other, events))  # repeats
        other.wait_caught_up()
        assert seen(other) == wanted
        groups = group_by_role(other.settings).values()
        assert {row.group for row in asyncio.run(admin.lag(other.settings))} == set(groups)
    finally:
        other._end()
