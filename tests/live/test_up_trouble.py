"""``mailpulse up`` in trouble that is not its own: ports, a second start, children that hang.

One pipeline for all tests of this file; each leaves it running and whole.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from streams.embedded.data_dir import Endpoints
from tests.live.process import ProcessFailed
from tests.live.up import SECRET, Load, Up, assert_kept

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, taken: int) -> Iterator[Up]:
    """A pipeline whose wished ports are taken; nothing of it outlives the tests."""
    folder = tmp_path_factory.mktemp("up")
    wished = ("DOOR", "DASHBOARD", "WAREHOUSE")
    one = Up(folder, folder / "up.log", {f"MAILPULSE_{role}_PORT": str(taken) for role in wished})
    yield one
    with suppress(psutil.NoSuchProcess):
        one.kill()


@pytest.fixture(scope="module")
def where(up: Up) -> Endpoints:
    """Where it listens."""
    return up.start()


@pytest.fixture(scope="module")
def load(where: Endpoints) -> Load:
    """Posts to it, and knows what was answered 200."""
    return Load(f"{where.ingest_url}/hooks/crm")


def posted(load: Load, seconds: float = 2) -> int:
    """How many events were answered 200 in this time."""
    before = len(load.kept)
    asyncio.run(load.run(seconds))
    return len(load.kept) - before


def until_taken(load: Load, up: Up) -> None:
    """Posts until events are answered 200 again."""
    for _ in range(60):
        if posted(load, 1):
            return
    raise AssertionError(f"it does not go on\n{up.said()[-5_000:]}")


def test_ports_that_are_taken_are_passed_over(where: Endpoints, taken: int) -> None:
    """Other ones are chosen, and told."""
    assert httpx.get(f"{where.dashboard_url}/livez").status_code == 200
    assert f":{taken}" not in where.clickhouse_dsn + where.dashboard_url


def test_second_start_on_the_directory_is_refused(up: Up, load: Load, where: Endpoints) -> None:
    """With the process that has it; the first one does not notice."""
    second = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", "up", "--port", "0", "--data-dir", up.data,
         "--config", up.data.parent / "mailpulse.toml"],
        env={**os.environ, "CRM": SECRET}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 3
    assert f"is in use by process {where.pid}; stop it or choose another" in second.stderr
    assert posted(load) > 0


def test_port_of_the_broker_that_another_program_takes(up: Up, load: Load) -> None:
    """While the broker is down: it is told, nothing is answered 200, and then it goes on."""
    broker = up.child("broker")
    port = next(one.laddr.port for one in broker.net_connections() if one.status == "LISTEN")
    broker.kill()
    broker.wait(10)
    with socket.create_server(("127.0.0.1", port)):
        up.until_said(f"port {port} of 127.0.0.1 is taken by another program")
        assert posted(load) == 0
    until_taken(load, up)


@pytest.mark.parametrize("roles", [["broker"], ["warehouse", "sink", "worker", "ingest"]])
def test_children_that_hang_are_started_again(
    up: Up, load: Load, where: Endpoints, roles: list[str]
) -> None:
    """A frozen process stands for one that hangs; what was answered 200 is stored once."""
    frozen = [up.child(role) for role in roles]
    said = len(up.said())
    for child in frozen:
        child.send_signal(signal.SIGSTOP)
    posted(load)
    _, still = psutil.wait_procs(frozen, timeout=240)
    assert not still, up.said()[said:]
    for role in roles:
        assert f"{role} has not answered for" in up.said()[said:]
    until_taken(load, up)
    assert_kept(where, load.kept)


def test_stop_says_no_more_than_that(up: Up) -> None:
    """After all of this everything that was kept is stored, so nothing is left to say."""
    up.stop()
    assert up.said().rstrip().endswith("Stopped.")
    assert "Not yet in ClickHouse" not in up.said()


def test_kafka_that_knows_no_topics_ends_the_start(up: Up, load: Load) -> None:
    """Its metadata is gone: nothing empty is served, and with a copy of it everything is back."""
    metadata = up.data / "kafka" / "data" / "__cluster_metadata-0"
    copy = metadata.rename(up.data.parent / "metadata")
    with pytest.raises(ProcessFailed, match=r"does not find .*email\.events\.raw\.v1-0"):
        up.start()
    shutil.rmtree(metadata)
    copy.rename(metadata)
    where = up.start()
    load.url = f"{where.ingest_url}/hooks/crm"
    assert posted(load) > 0
    assert_kept(where, load.kept)
