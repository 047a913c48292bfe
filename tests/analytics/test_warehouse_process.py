"""The role ``warehouse`` in its own process: its sandbox, and how it ends.

Where a test says so, analysts' queries reach the engine without having been judged.
"""

import ctypes
import json
import os
import signal
import socket
import stat
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from analytics.client import connect
from analytics.warehouse.limits import EXIT_DISOBEYED
from analytics.warehouse.serve import CLOSE_S_MAX
from schemas.settings import PREFIX, Settings
from tests.analytics.canaries import SECRET, Canaries, canaries
from tests.live.warehouse_process import WarehouseProcess

pytestmark = pytest.mark.timeout(180)

STUCK = (
    "SELECT sum(editDistance(repeat('a', 60000), repeat('b', toUInt32(60000 + number))))"
    " FROM numbers(12)"
)
"""Looks at no clock and no wish to stop for minutes."""
LANDLOCK_ABI = ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)
IDLE = 1_100
ROUNDABOUT = "/".join(("", "proc", "self", "root", "etc", "hostname"))


def ask(warehouse: WarehouseProcess, sql: str, query_id: str = "", timeout_s: float = 60) -> str:
    """The text of the answer to an analyst, also of an error."""
    asked = urllib.parse.urlencode({"query_id": query_id} if query_id else {})
    try:
        with urllib.request.urlopen(
            f"{warehouse.at.url}/?{asked}", data=sql.encode(), timeout=timeout_s
        ) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return error.read().decode("utf-8", "replace")


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseProcess]:
    """A warehouse whose analysts' queries are not judged."""
    with WarehouseProcess(tmp_path_factory.mktemp("unjudged"), judged=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    """Canaries outside of its directories."""
    with canaries(tmp_path_factory.mktemp("canaries")) as set_out:
        yield set_out


def test_the_process_says_what_fences_it_in(unjudged: WarehouseProcess) -> None:
    """Every layer that the kernel supports; for others a line says what is missing."""
    said = unjudged.log.read_text()
    assert ("fenced in" in said) == (LANDLOCK_ABI >= 4)
    status = Path(f"/proc/{unjudged.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    limits = Path(f"/proc/{unjudged.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core" in line] == [["0", "0"]]


def test_each_listener_is_announced_once_with_its_address(unjudged: WarehouseProcess) -> None:
    """By a line of ours: uvicorn's names neither the listener nor, for a socket, the address."""
    lines = unjudged.log.read_text().splitlines()
    # the engine of 26.3 writes a line of its own about its memory
    said = [json.loads(line) for line in lines if line.startswith("{")]
    at = unjudged.at
    assert sorted((one["listener"], one["address"]) for one in said if "listener" in one) == [
        ("analysts", f"127.0.0.1:{at.door}"),
        ("health", f"127.0.0.1:{at.health}"),
        ("sink", f"127.0.0.1:{at.private}"),
    ]
    assert not [one for one in said if "server process" in one["event"]]


@pytest.mark.skipif(LANDLOCK_ABI < 4, reason="this kernel's Landlock lacks files or network")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT file('CANARY')",
        "SELECT 0x1 + file('CANARY')::UInt64",
        "SELECT arrayMap(x -> file(x), ['CANARY'])",
        "SELECT 1 INTO OUTFILE 'TARGET'",
        "SELECT 1 INTO OUTFILE 'CANARY' TRUNCATE",
        "SELECT 1 AS `x = 1;\nCOMMAND\n#` FORMAT Protobuf SETTINGS output_format_schema='TARGET'",
        "SET ROLE writer; SELECT * FROM file('CANARY', 'LineAsString')",
        "SET ROLE writer; SELECT * FROM url('http://127.0.0.1:PORT/', 'LineAsString')",
        "SET ROLE writer; SELECT * FROM remote('127.0.0.1:PORT', 'system.one')",
        "SET ROLE writer; SELECT * FROM s3('http://127.0.0.1:PORT/bucket/key', 'CSV')",
        "SET ROLE writer; INSERT INTO FUNCTION file('TARGET', 'CSV', 'a Int8') VALUES (1)",
        "SET ROLE writer; DESCRIBE url('http://127.0.0.1:PORT/', 'CSV')",
        "SET ROLE writer; CREATE TABLE s (a String) ENGINE = File('CSV', 'TARGET')",
        "SET ROLE writer; BACKUP DATABASE mailpulse TO File('TARGET')",
        "SET ROLE writer; SELECT * FROM executable('CANARY', 'TSV', 'a String')",
    ],
)
def test_the_operating_system_holds_what_the_engine_lets_through(
    unjudged: WarehouseProcess, watched: Canaries, query: str
) -> None:
    """No query can reach a file outside its directories, or the network."""
    ask(unjudged, "CREATE DATABASE IF NOT EXISTS mailpulse")
    text = ask(unjudged, watched.filled(query))
    assert SECRET not in text
    assert watched.touched() == []
    assert not (watched.folder / "written").exists()
    assert watched.file.read_text().strip() == SECRET
    assert watched.touched(), "the canary does not sing"
    assert ask(unjudged, "SELECT 7") == "7\n"


@pytest.mark.skipif(LANDLOCK_ABI < 1, reason="this kernel has no Landlock")
def test_other_processes_and_their_environments_are_out_of_reach(
    unjudged: WarehouseProcess,
) -> None:
    """Its own environment names no secret (``tests/streams/test_role_environ.py``)."""
    assert "CANNOT_OPEN_FILE" in ask(unjudged, f"SELECT file('/proc/{os.getpid()}/environ')")
    assert "CANNOT_OPEN_FILE" in ask(unjudged, f"SELECT file('{ROUNDABOUT}')")
    assert "CANNOT_OPEN_FILE" in ask(unjudged, "SELECT file('/etc/passwd')")


@pytest.fixture
def short(tmp_path: Path) -> Iterator[WarehouseProcess]:
    """An unjudged warehouse with limits of a second."""
    limits = {"DOOR_QUERY_S_MAX": "1", "DOOR_OBEY_S_MAX": "1"}
    with WarehouseProcess(tmp_path, limits, judged=False) as opened:
        yield opened


def test_a_query_that_does_not_obey_ends_the_process(short: WarehouseProcess) -> None:
    """The message names the query's id and not its text; the next start finds the data."""
    owner = connect(sink_of(short))
    owner.command("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
    owner.command("INSERT INTO kept VALUES (7)")
    stuck = threading.Thread(target=_quietly, args=(short, STUCK, "the-stuck-one"))
    stuck.start()
    # the sink's listener answers all the while
    while short.running:
        try:
            assert owner.command("SELECT a FROM kept") == 7
        except Exception:  # it ended under the question
            break
    owner.close()
    stuck.join()
    _until(lambda: not short.running)
    assert short.returncode == EXIT_DISOBEYED
    said = short.log_tail()
    assert "the-stuck-one" in said
    assert "editDistance" not in said
    short.begin()
    with urllib.request.urlopen(f"http://127.0.0.1:{short.at.health}/metrics") as metrics:
        assert b"\nmailpulse_warehouse_ends_total 1.0\n" in metrics.read()
    assert ask(short, "SELECT a FROM mailpulse.kept") == "7\n"


def test_stopping_ends_in_time_though_a_query_is_stuck(tmp_path: Path) -> None:
    """An orderly end for its supervisor."""
    limits = {"DOOR_QUERY_S_MAX": "120", "DOOR_OBEY_S_MAX": "120"}
    with WarehouseProcess(tmp_path, limits, judged=False) as opened:
        stuck = threading.Thread(target=_quietly, args=(opened, STUCK, "the-stuck-one"))
        stuck.start()
        _until(lambda: "1" in ask(opened, "SELECT count() > 1 FROM system.processes"))
        opened.signal(signal.SIGTERM)
        _until(lambda: not opened.running, CLOSE_S_MAX + 15)
        assert opened.returncode == 0
        assert "the-stuck-one" in opened.log_tail()
        stuck.join()


def test_a_thousand_idle_connections_shut_nobody_out(tmp_path: Path) -> None:
    """On either listener: descriptors are left, queries are answered, the log stays small."""
    with WarehouseProcess(tmp_path) as opened:
        idle = [
            socket.create_connection(("127.0.0.1", port))
            for _ in range(IDLE // 2)
            for port in (opened.at.door, opened.at.private)
        ]
        try:
            assert ask(opened, "SELECT 7") == "7\n"
            client = connect(sink_of(opened))
            assert client.command("SELECT 8") == 8
            client.close()
            assert psutil.Process(opened.pid).num_fds() < IDLE
            assert opened.log.stat().st_size < 50_000
        finally:
            for each in idle:
                each.close()


def sink_of(warehouse: WarehouseProcess) -> Settings:
    """Settings of its sink."""
    return Settings(
        clickhouse_dsn=SecretStr(warehouse.at.dsn()),
        clickhouse_manage_access=False,
        clickhouse_compress=False,
    )


def test_a_token_made_here_is_its_owners_alone_and_outlives_a_restart(tmp_path: Path) -> None:
    """Started by hand: the sink's DSN is in a file; neither environment nor arguments contain
    it."""
    with WarehouseProcess(tmp_path, {"WAREHOUSE_TOKEN_SHA256": ""}) as opened:
        path = tmp_path / "warehouse.dsn"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        dsn = path.read_text().strip()
        token = dsn.partition("sink:")[2].partition("@")[0]
        assert len(token) >= 32
        client = connect(Settings(clickhouse_dsn=SecretStr(dsn)))
        assert client.command("SELECT 7") == 7
        client.close()
        assert token not in opened.log.read_text()
        for what in ("environ", "cmdline"):
            assert token.encode() not in Path(f"/proc/{opened.pid}/{what}").read_bytes()
        assert opened.stop() == 0
        opened.begin()
        assert path.read_text().strip() == dsn


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    """A second process says so and ends as for an invalid setting."""
    with WarehouseProcess(tmp_path):
        second = WarehouseProcess(tmp_path)
        second.log = tmp_path / "second.log"
        second.start()
        _until(lambda: not second.running)
        assert second.returncode == 3
        assert f"{PREFIX}WAREHOUSE_DIR" in second.log_tail()


def _quietly(warehouse: WarehouseProcess, sql: str, query_id: str) -> None:
    try:
        ask(warehouse, sql, query_id)
    except OSError:
        return  # the process ended under the question


def _until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
