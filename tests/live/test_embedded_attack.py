"""The embedded pipeline with stuck queries, idle connections and a dying database.

Accepted events are stored once. Each process has only its own secrets. Queries reach the engine
unjudged: this tests the layers below the judge.
"""

import asyncio
import itertools
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from schemas.errors import MailpulseError
from schemas.settings import PREFIX, Settings
from streams.cli.clickhouse import table_of
from streams.embedded.child import python, until
from streams.embedded.supervisor import embedded
from tests.analytics.test_warehouse_process import STUCK
from tests.live.test_embedded import ENVIRON, delivered, post, soon
from tests.live.threads import in_threads
from tests.live.warehouse_process import UNJUDGED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ATTACK_S = 20.0
IDLE = 1_100
HOGS = 4
CANARY = "canary4f1e9"
PLANTED = {
    f"{PREFIX}SECRET_CRM": "s3cret",
    f"{PREFIX}DASHBOARD_TOKEN": f"{CANARY}-dashboard",
    f"{PREFIX}DASHBOARD_DELIVER_TOKEN": f"{CANARY}-deliver",
    f"{PREFIX}KAFKA_SASL_PASSWORD": f"{CANARY}-kafka",
    f"{PREFIX}RECIPIENT_HASH_KEY": f"{CANARY}-hash",
    f"{PREFIX}SECRET_OF_NOBODY": f"{CANARY}-nobody",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
}
KNOWN = {
    "broker": set(),
    "ingest": {f"{PREFIX}SECRET_CRM", f"{PREFIX}RECIPIENT_HASH_KEY"},
    "worker": set(),
    "sink": set(),
    "warehouse": set(),
    # Its page for one recipient hashes the address that is asked for. Its token for deliver's page
    # is made anew by the supervisor at each start.
    "dashboard": {f"{PREFIX}DASHBOARD_TOKEN", f"{PREFIX}RECIPIENT_HASH_KEY"},
}
"""Role -> which of the planted secrets its environment has."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A directory of its own, one generic source, any free port."""
    config = tmp_path / "mailpulse.toml"
    config.write_text(
        f'[sources.crm]\nprovider = "generic"\nsecret = "env:{PREFIX}SECRET_CRM"\n',
        encoding="utf-8",
    )
    return Settings(data_dir=tmp_path / "data", config_file=config, ingest_port=0, door_port=0)


def environ_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    return dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)


async def test_each_process_knows_its_own_secrets_alone(settings: Settings) -> None:
    """Sources' secrets: ingress; the database's token: the sink; the database itself: none."""
    environ = {**ENVIRON, **PLANTED}
    async with embedded(settings, environ, lambda line: None, settings.data_dir / "l") as pipeline:
        pids = pipeline.pids()
        assert set(pids) == set(KNOWN)
        for role, pid in pids.items():
            known = environ_of(pid)
            has = {name for name in PLANTED if PLANTED[name] in known.values()}
            assert has == KNOWN[role], role
            with_token = any(pipeline._token in value for value in known.values())
            assert with_token == (role == "sink"), role
            arguments = psutil.Process(pid).cmdline()
            assert not [word for word in arguments if CANARY in word or pipeline._token in word]
    for log in (settings.data_dir / "l").iterdir():
        said = log.read_text(encoding="utf-8")
        assert CANARY not in said, log.name
        assert pipeline._token not in said, log.name


@contextmanager
def idle(port: int) -> Iterator[None]:
    """Silent connections, reopened when they are closed."""

    def hold(over: threading.Event) -> None:
        held: list[socket.socket] = []
        while not over.wait(0.5):
            held = [each for each in held if not _is_cut(each)]
            with suppress(OSError):
                while len(held) < IDLE and not over.is_set():
                    held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
        for each in held:
            each.close()

    with in_threads(hold):
        yield


def _is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def hogs(url: str) -> Iterator[None]:
    """Queries that neither time limit nor kill ends, repeatedly."""

    def ask(over: threading.Event) -> None:
        while not over.is_set():
            with suppress(OSError):
                urllib.request.urlopen(url, data=STUCK.encode(), timeout=30).close()
            over.wait(0.2)

    with in_threads(ask, HOGS):
        yield


async def _kept(url: str, ids: list[str]) -> None:
    """Posts until it is answered 200, as a provider does: repeatedly, with the same ids."""

    async def answered() -> bool:
        return await post(url, *ids) == 200

    assert await until(answered, 60, pause_s=0.2)


async def _posted(url: str, over: asyncio.Event) -> int:
    """Posts batches of new events; how many were answered 200."""
    accepted = 0
    for batch in itertools.count():
        ids = [f"e{batch}-{number}" for number in range(20)]
        await _kept(url, ids)
        accepted += len(ids)
        if over.is_set():
            break
        await asyncio.sleep(0.1)
    return accepted


async def test_what_is_accepted_under_attack_is_stored_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stuck queries end the database repeatedly; it is also killed; idle connections crowd it."""

    def unjudged(*arguments: str) -> tuple[str, ...]:
        if arguments == ("warehouse",):
            return (sys.executable, "-P", str(UNJUDGED))
        return python(*arguments)

    monkeypatch.setattr("streams.embedded.supervisor.python", unjudged)
    environ = {
        **ENVIRON, f"{PREFIX}DOOR_QUERY_S_MAX": "2", f"{PREFIX}DOOR_OBEY_S_MAX": "1"
    }  # fmt: skip
    said: list[str] = []
    logs = settings.data_dir / "logs"
    async with embedded(settings, environ, said.append, logs) as pipeline:
        where = pipeline.endpoints
        assert where is not None
        pids = pipeline.pids()
        door = urlsplit(where.clickhouse_dsn)
        over = asyncio.Event()
        posting = asyncio.create_task(_posted(where.ingest_url, over))

        def killed() -> bool:
            """It may just have ended by itself: then the next one is killed."""
            with suppress(ProcessLookupError, KeyError):
                os.kill(pipeline.pids()["warehouse"], signal.SIGKILL)
            return any("SIGKILL" in line for line in said)

        with idle(door.port or 0), hogs(f"http://{door.netloc}/"):
            await asyncio.sleep(ATTACK_S / 2)
            await soon(killed)
            await asyncio.sleep(ATTACK_S / 2)
            sink = psutil.Process(pipeline.pids()["sink"])
            assert sink.num_fds() < 200
        over.set()
        accepted = await posting
        assert accepted > 500

        asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})

        def stored() -> bool:
            try:  # events and counts are inserted apart: either may come first
                counted = delivered(where.clickhouse_dsn)
                _, rows = table_of(asked, "SELECT count(), uniqExact(message_id) FROM email_events")
            except MailpulseError:  # it is just being started again
                return False
            assert counted <= accepted
            assert rows[0][0] <= accepted
            return counted == accepted and rows == [[accepted, accepted]]

        await soon(stored)
        after = pipeline.pids()
    ended = [line for line in said if line.startswith("warehouse ended with")]
    assert any("exit code 75" in line for line in ended), said
    assert any("SIGKILL" in line for line in ended), said
    assert {role for role in pids if pids[role] != after[role]} == {"warehouse"}
    log = (logs / "warehouse.log").read_text(encoding="utf-8")
    assert "a query does not end when it is killed" in log
    assert "editDistance" not in log
    assert sum(file.stat().st_size for file in logs.iterdir()) < 5_000_000
