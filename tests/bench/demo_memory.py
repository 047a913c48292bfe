"""Memory and disk of a long demo whose topics keep records for minutes, as a table and a picture.

``python -m tests.bench.demo_memory --minutes 60 --rate 500 --out FOLDER`` starts the demo, shortens
what its topics keep so that deletion and compaction happen meanwhile, and samples every process
until ``demo --check`` has compared everything. Into ``--out`` it writes ``samples.csv``,
``demo.svg`` and the demo's report. Exit code: the demo's.

Memory is the proportional set size (PSS) of Linux: pages that processes share are divided among
them, so that the parts add up to what the whole takes.
"""

import argparse
import asyncio
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.settings import Settings
from schemas.topics import TOPICS
from streams.embedded.data_dir import Endpoints, running
from streams.kafka.admin import wanted_config
from streams.kafka.clients import admin_client
from tests.curves import Curves

SAMPLE_S = 15.0
KEPT_MS, SEGMENT_MS, SEGMENT_BYTES = 300_000, 60_000, 8 << 20
ROLES = ("kafka", "warehouse", "worker", "sink", "ingest", "dashboard", "demo")
PLACES = {"kafka": "kafka/data", "state": "state", "clickhouse": "clickhouse"}
"""Folders of the data directory whose size is sampled."""
WARM_UP_S = 600


async def shorten(bootstrap: str) -> None:
    """Makes every topic roll and delete or compact its segments after minutes."""
    resources = []
    for topic in TOPICS:
        configs = {**wanted_config(topic, 1), "segment.ms": str(SEGMENT_MS),
                   "segment.bytes": str(SEGMENT_BYTES)}  # fmt: skip
        configs |= (
            {"min.cleanable.dirty.ratio": "0.1", "delete.retention.ms": str(SEGMENT_MS)}
            if topic.compacted
            else {"retention.ms": str(KEPT_MS)}
        )
        resources.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, configs))
    async with admin_client(Settings(kafka_bootstrap=bootstrap)) as client:
        for answer in await client.alter_configs(resources):
            codes = [resource["error_code"] for resource in answer.to_object()["resources"]]
            assert not any(codes), codes


def processes(where: Endpoints) -> dict[str, psutil.Process]:
    """Role -> its process."""
    top = psutil.Process(where.pid)
    found = {"demo": top}
    for one in top.children():
        words = one.cmdline()
        found["kafka" if "kafka.Kafka" in words else words[-1]] = one
    return found


def size(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that are deleted meanwhile
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def sample(where: Endpoints, data: Path) -> dict[str, int]:
    """PSS by role, and bytes on disk by folder."""
    row = {}
    for role, process in processes(where).items():
        with suppress(psutil.Error):
            row[role] = int(process.memory_full_info().pss)
    return row | {f"{name} disk": size(data / place) for name, place in PLACES.items()}


def report(rows: Sequence[dict[str, int]], out: Path) -> None:
    """Writes samples and picture, prints a table."""
    columns = ["seconds", *ROLES, *(f"{name} disk" for name in PLACES)]
    with (out / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    curves = Curves({role: [(row["seconds"], row.get(role, 0)) for row in rows] for role in ROLES})
    curves.curves["total"] = [
        (row["seconds"], sum(row.get(role, 0) for role in ROLES)) for row in rows
    ]
    (out / "demo.svg").write_text(curves.svg(), encoding="utf-8")
    warm = [row for row in rows if row["seconds"] >= WARM_UP_S] or list(rows)
    for name in [*columns[1:], "total"]:
        held = [sum(row.get(role, 0) for role in ROLES) if name == "total" else row.get(name, 0)
                for row in warm]  # fmt: skip
        third = max(1, len(held) // 3)
        print(f"{name:16} most {max(held) / 1e6:6.0f} MB"
              f"  mean of the first third {sum(held[:third]) / third / 1e6:6.0f}"
              f"  of the last {sum(held[-third:]) / third / 1e6:6.0f}")  # fmt: skip


def main() -> int:
    """Runs the demo and reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.demo_memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    data: Path = given.out / "data"
    data.mkdir(parents=True)
    with (given.out / "report.json").open("wb") as file, (given.out / "demo.log").open("wb") as log:
        demo = subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", "demo", "--check", "--json", "--port", "0",
             "--seconds", str(given.minutes * 60), "--rate", str(given.rate), "--data-dir", data],
            stdout=file, stderr=log,
        )  # fmt: skip
        rows, began, where = [], time.monotonic(), None
        while demo.poll() is None:
            if where is None and (where := running(data)) is not None:
                asyncio.run(shorten(where.kafka_bootstrap))
                began = time.monotonic()
            with suppress(psutil.Error):
                if where is not None:
                    seconds = round(time.monotonic() - began)
                    rows.append({"seconds": seconds, **sample(where, data)})
            time.sleep(1.0 if where is None else SAMPLE_S)
    report(rows, given.out)
    return demo.returncode


if __name__ == "__main__":
    sys.exit(main())
