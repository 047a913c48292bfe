"""Every listener of real processes with 1,024 descriptors, with 1,100 clients connected to each."""

import resource
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.settings import PREFIX
from tests.live.process import Process, free_port
from tests.live.roles import clean_environ
from tests.live.warehouse_process import WarehouseProcess

pytestmark = pytest.mark.live

DESCRIPTORS = 1_024
IDLE = 1_100
LIMITED = ["sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh"]
HEADERS_BEGUN = b"GET /ping HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "


@pytest.fixture(autouse=True)
def _room_for_callers() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] < 8_192:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8_192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def command(*words: str) -> list[str]:
    """A command that may open few files."""
    return [*LIMITED, sys.executable, "-P", "-m", "streams.cli", *words]


def status(port: int, path: str) -> int:
    """Of an answer; an error where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return int(answer.status)


def crowd(port: int) -> list[socket.socket]:
    """Clients that stay connected: silent, or with half a request."""
    callers = []
    for number in range(IDLE):
        callers.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        if number % 2:
            callers[-1].sendall(HEADERS_BEGUN)
    return callers


def test_a_crowd_shuts_nobody_out(tmp_path: Path) -> None:
    """Analysts, sink, health and dashboard are answered; the log stays short; everything is
    released."""
    warehouse = WarehouseProcess(tmp_path)
    warehouse.become(command("warehouse"))
    dashboard_port, dashboard_health = free_port(), free_port()
    told = {
        "DASHBOARD_PORT": str(dashboard_port), "METRICS_PORT": str(dashboard_health),
        "CLICKHOUSE_DSN": f"http://127.0.0.1:{warehouse.at.door}/mailpulse",
        "DATA_DIR": str(tmp_path),
    }  # fmt: skip
    dashboard = Process(
        "dashboard", command("dashboard"), tmp_path / "dashboard.log",
        env={**clean_environ(), **{PREFIX + name: value for name, value in told.items()}},
        cwd=tmp_path,
    )  # fmt: skip
    pages = {
        warehouse.at.door: "/ping", warehouse.at.private: "/ping", warehouse.at.health: "/readyz",
        dashboard_port: "/livez", dashboard_health: "/readyz",
    }  # fmt: skip
    with warehouse, ExitStack() as stack:
        dashboard.start()
        stack.callback(dashboard.kill)
        dashboard.wait_until(lambda: _is_open(dashboard_health), "ready")
        callers = []
        for port, page in pages.items():
            callers += crowd(port)
            assert status(port, page) == 200
        assert [status(port, page) for port, page in pages.items()] == [200] * len(pages)
        assert warehouse.ask("SELECT 1") == [[1]]
        for process in (warehouse, dashboard):
            assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < DESCRIPTORS - 50
            assert process.log.stat().st_size < 100_000
        for caller in callers:
            caller.close()
        time.sleep(1)
        assert [status(port, page) for port, page in pages.items()] == [200] * len(pages)


def _is_open(port: int) -> bool:
    try:
        return status(port, "/readyz") == 200
    except OSError:
        return False
