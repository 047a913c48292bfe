"""«200 means kept» for ``mailpulse up``: over kill -9 of every process at once, and a power cut.

What was answered 200 is compared, id by id, with what ClickHouse holds in the end, after starts
that needed no hand. ``MAILPULSE_TEST_KILLS=100`` is the long form.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.live.fixtures import disk_at
from tests.live.power import Disk
from tests.live.up import Load, Up, assert_kept

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "3"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 90 * KILLS)]

LOAD_S = 3.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A pipeline in a folder of its own; nothing of it outlives the test."""
    one = Up(tmp_path, tmp_path / "up.log")
    yield one
    with suppress(psutil.NoSuchProcess):
        one.kill()


def test_kill_of_every_process_at_once_loses_nothing(up: Up) -> None:
    """Again and again under load, each time in another phase; then every id is there."""
    where = up.start()
    load = Load(f"{where.ingest_url}/hooks/crm")
    for turn in range(KILLS):
        asyncio.run(killed_under(load, up, LOAD_S * (0.3 + 0.7 * ((turn * 0.618) % 1))))
        where = up.start()
        print(f"kill {turn + 1}: {len(load.kept)} events answered 200", flush=True)
    assert len(load.kept) > 1_000
    assert_kept(where, load.kept)
    up.stop()


def test_two_pipelines_started_at_once_share_no_port(
    tmp_path: Path,
) -> None:
    """Each wants the same ports, and listens seconds after it has chosen its own."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        ups = [Up(folder, folder / "up.log") for folder in (tmp_path / "one", tmp_path / "two")]
        for one in ups:
            stack.callback(one.kill)
        where = list(threads.map(Up.start, ups))
        assert where[0].clickhouse_dsn != where[1].clickhouse_dsn
        for one, there in zip(ups, where, strict=True):
            load = Load(f"{there.ingest_url}/hooks/crm")
            asyncio.run(load.run(1))
            assert_kept(there, load.kept)
            assert "ended with" not in one.said()


async def killed_under(load: Load, up: Up, seconds: float) -> None:
    """Posts, and kills everything while posts are under way."""
    work = asyncio.create_task(load.run(seconds + 0.5))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(up.kill)
    await work


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can lose power."""
    with disk_at(tmp_path / "disk", 1_000) as one:
        yield one


def test_full_disk_loses_nothing_and_needs_no_hand(disk: Disk, tmp_path: Path) -> None:
    """Nothing is answered 200 while it is full; a minute after there is room everything goes on.

    The broker is not started on a full disk: Kafka 4.1.2 lost its topics' data over it.
    """
    up = Up(disk.folder, tmp_path / "up.log")
    try:
        where = up.start()
        load = Load(f"{where.ingest_url}/hooks/crm")
        asyncio.run(load.run(2))
        with disk.full():
            asyncio.run(load.run(2))  # what still had room
            kept = set(load.kept)
            asyncio.run(load.run(8))
            assert load.kept == kept
        end = time.monotonic() + 120
        while load.kept == kept:
            assert time.monotonic() < end, "it does not go on"
            asyncio.run(load.run(1))
        assert_kept(where, load.kept)
        log = (tmp_path / "up.log").read_text()
        assert "broker ended with exit code 1: the disk is full" in log
        assert "broker waits: the disk of" in log
        up.stop()
    finally:
        with suppress(psutil.NoSuchProcess):
            up.kill()


def test_power_cut_loses_nothing(disk: Disk, tmp_path: Path) -> None:
    """Kafka, ClickHouse and the workers' state on a disk that loses what was not synced."""
    up = Up(disk.folder, tmp_path / "up.log")
    load = Load("")
    try:
        where = up.start()
        for _ in range(2):
            load.url = f"{where.ingest_url}/hooks/crm"
            asyncio.run(cut_under(load, up, disk))
            disk.restore()
            where = up.start()
        assert len(load.kept) > 1_000
        assert_kept(where, load.kept)
    finally:
        with suppress(psutil.NoSuchProcess):
            up.kill()


async def cut_under(load: Load, up: Up, disk: Disk) -> None:
    """Posts, and cuts the power while posts are under way."""
    work = asyncio.create_task(load.run(6.5))
    await asyncio.sleep(6)
    await asyncio.to_thread(disk.cut)
    await asyncio.to_thread(up.kill)
    await work
