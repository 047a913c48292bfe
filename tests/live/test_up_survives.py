"""«200 means kept» for ``mailpulse up``: over kill -9 of every process at once, and a power cut.

What was answered 200 is compared, id by id, with what ClickHouse holds in the end, after starts
that needed no hand. ``MAILPULSE_TEST_KILLS=100`` is the long form.
"""

import asyncio
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from schemas.settings import Settings
from streams.cli.clickhouse import table_of
from streams.embedded.data_dir import STATE_FILE, Endpoints, running
from tests.live.fixtures import disk_at
from tests.live.power import Disk
from tests.live.process import Process, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECRET = "s3cret"
LOAD_S = 3.0
POSTS_AT_ONCE = 8
EVENTS_OF_A_POST = 20


@dataclass
class Load:
    """Posts signed events until it is stopped.

    Attributes:
        kept: ids of events whose post was answered 200.
    """

    url: str
    kept: set[str] = field(default_factory=set)
    posted: int = 0

    async def run(self, seconds: float) -> None:
        """Posts for a while from several connections; what gets no answer is not sent again."""
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=5) as client:
            await asyncio.gather(*(self._post(client, end) for _ in range(POSTS_AT_ONCE)))

    async def _post(self, client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            self.posted += 1
            ids = [f"{self.posted}-{number}" for number in range(EVENTS_OF_A_POST)]
            body = json.dumps(
                [
                    {"event": "delivered", "id": one, "message_id": one, "campaign_id": "spring",
                     "recipient": f"{one}@example.com"}
                    for one in ids
                ]
            ).encode()  # fmt: skip
            digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            headers = {"x-webhook-signature": digest}
            with suppress(httpx.HTTPError):
                answer = await client.post(self.url, content=body, headers=headers)
                if answer.status_code == 200:
                    self.kept.update(ids)
                    continue
            await asyncio.sleep(0.05)


class Up:
    """``mailpulse up`` as a user starts it.

    Args:
        folder: holds its ``mailpulse.toml`` and its data.
        log: where it writes.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.data = folder / "data"
        config = folder / "mailpulse.toml"
        config.write_text('[sources.crm]\nprovider = "generic"\nsecret = "env:CRM"\n', "utf-8")
        self.port = free_port()
        self._process = Process(
            "up",
            [sys.executable, "-P", "-m", "streams.cli", "up", "--port", str(self.port),
             "--data-dir", str(self.data), "--config", str(config)],
            log,
            env={**os.environ, "CRM": SECRET, "MAILPULSE_DOOR_PORT": "0",
                 "MAILPULSE_DASHBOARD_PORT": "0"},
        )  # fmt: skip

    def start(self) -> Endpoints:
        """Starts it, and waits until it is ready."""
        (self.data / STATE_FILE).unlink(missing_ok=True)
        self._process.start()
        self._process.wait_until(lambda: running(self.data) is not None, "ready", 120)
        found = running(self.data)
        assert found is not None
        return found

    def kill(self) -> None:
        """Kills every process of it at once; returns when they are gone."""
        top = psutil.Process(self._process.pid)
        everyone = [*top.children(recursive=True), top]
        for one in everyone:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        self._process.kill()
        psutil.wait_procs(everyone, timeout=20)

    def stop(self) -> None:
        """Stops it in order."""
        self._process.stop(60)


def stored(where: Endpoints) -> set[str]:
    """Ids of the events that an analyst finds."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    _, rows = table_of(asked, "SELECT message_id FROM events FINAL LIMIT 10000000")
    return {str(row[0]) for row in rows}


def figures(where: Endpoints) -> tuple[int, int]:
    """Distinct messages of the campaign, and what its summary counts."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    _, rows = table_of(
        asked,
        "SELECT (SELECT uniqExact(message_id) FROM events),"
        " (SELECT sum(delivered) FROM campaign_summary)",
    )
    return int(rows[0][0]), int(rows[0][1])


def assert_kept(where: Endpoints, kept: set[str]) -> None:
    """Everything that was answered 200 is there within two minutes, and counted once."""
    end = time.monotonic() + 120
    while missing := kept - stored(where):
        assert time.monotonic() < end, f"{len(missing)} of {len(kept)} are lost"
        time.sleep(1)
    while (found := figures(where))[0] != found[1]:
        assert time.monotonic() < end, f"{found[0]} messages, counted {found[1]}"
        time.sleep(1)


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
    for turn in range(int(os.environ.get("MAILPULSE_TEST_KILLS", "3"))):
        asyncio.run(killed_under(load, up, LOAD_S * (0.3 + 0.7 * ((turn * 0.618) % 1))))
        where = up.start()
    assert len(load.kept) > 1_000
    assert_kept(where, load.kept)
    up.stop()


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
        end = time.monotonic() + 60
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
