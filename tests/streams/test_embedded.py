"""The supervisor's parts: children restarted and never orphaned, one owner per directory."""

import asyncio
import contextlib
import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings, load_settings
from streams.embedded.child import BACKOFF_S_MAX, Child, Program, backoff_s, until
from streams.embedded.data_dir import STATE_FILE, locked, running
from streams.embedded.looking import LOOK_S, STEP_S_MAX, Look, Patience, Silence
from streams.embedded.supervisor import Embedded
from streams.embedded.told import told as told_settings
from streams.embedded.unread import Unread, by_topic, farewell
from streams.kafka.admin import Lag


def program(source: str, tmp_path: Path) -> Program:
    """A small Python program that logs into ``tmp_path``."""
    argv = (sys.executable, "-P", "-c", textwrap.dedent(source))
    return Program("small", argv, dict(os.environ), tmp_path / "small.log")


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def soon(condition: Callable[[], bool]) -> None:
    """Waits for something that must happen."""

    async def holds() -> bool:
        return condition()

    assert await until(holds, 30)


async def test_child_that_ends_is_restarted_and_it_is_announced(tmp_path: Path) -> None:
    """A role that crashes is restarted; the operator reads how it ended."""
    said: list[str] = []
    child = Child(program("raise SystemExit(7)", tmp_path), said.append)
    await child.start()
    await soon(lambda: child.starts >= 2)
    await child.stop()
    assert "small ended with exit code 7; restarting it in 0.5 s" in said[0]


@pytest.mark.parametrize("ours", [False, True])
async def test_kill_that_nobody_asked_for_is_likely_the_systems(tmp_path: Path, ours: bool) -> None:
    """Without the word the operator would look for who killed it, and not at the memory."""
    said: list[str] = []
    source = "import time; time.sleep(60)" if ours else "import os; os.kill(os.getpid(), 9)"
    child = Child(program(source, tmp_path), said.append)
    await child.start()
    if ours:
        child.kill()
    await soon(lambda: bool(said))
    await child.stop()
    assert said[0].startswith("small ended with signal SIGKILL")
    assert ("ran out of memory" in said[0]) is not ours


async def test_child_with_bad_settings_is_given_up(tmp_path: Path) -> None:
    """Exit code 3 means that another start would end the same way."""
    given_up: list[bool] = []
    child = Child(
        program("print('bad'); raise SystemExit(3)", tmp_path),
        lambda line: None,
        ended=lambda: given_up.append(True),
    )
    await child.start()
    await soon(lambda: bool(given_up))
    await child.stop()
    assert (given_up, child.starts) == ([True], 1)
    assert child.program.tail() == ["bad"]


async def test_reason_of_an_end_is_looked_for_in_what_that_start_logged(tmp_path: Path) -> None:
    """The log is appended to: what an earlier run wrote explains nothing about this one."""
    source = """
        import os, pathlib
        first = not pathlib.Path("again").exists()
        pathlib.Path("again").touch()
        print("the disk is full" if first else "killed", flush=True)
        raise SystemExit(1)
    """
    said: list[str] = []

    def cause(lines: list[str]) -> str | None:
        return "free some of it" if "the disk is full" in lines else None

    plain = program(source, tmp_path)
    child = Child(dataclasses.replace(plain, cwd=tmp_path, cause=cause), said.append)
    await child.start()
    await soon(lambda: len(said) >= 2)
    await child.stop()
    assert "exit code 1: free some of it; restarting it" in said[0]
    assert "exit code 1; restarting it" in said[1]


async def test_child_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    """No memory, no descriptor, a full disk: it is announced, and watching goes on."""
    said: list[str] = []
    begun = 0

    def before() -> None:
        nonlocal begun
        begun += 1
        if begun in (2, 3):
            raise OSError(24, "Too many open files")

    ends = dataclasses.replace(program("raise SystemExit(7)", tmp_path), before=before)
    child = Child(ends, said.append)
    await child.start()
    await soon(lambda: child.starts == 2)
    await child.stop()
    assert sum("can't be started: [Errno 24] Too many open files; again in" in s for s in said) == 2


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Stopping ends, whatever the child does."""
    said: list[str] = []
    source = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)
    """
    child = Child(program(source, tmp_path), said.append)
    await child.start()
    pid = child.pid
    assert pid is not None
    await soon(lambda: child.program.tail() == ["deaf"])
    await child.stop(grace_s=0.2)
    assert not alive(pid)
    assert "did not stop" in said[0]


async def test_child_stops_on_sigterm_and_stays_stopped(tmp_path: Path) -> None:
    """An orderly stop is not mistaken for a crash."""
    child = Child(program("import time; time.sleep(600)", tmp_path), lambda line: None)
    await child.start()
    pid = child.pid
    assert pid is not None
    await child.stop()
    assert not alive(pid)
    assert child.starts == 1


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_no_child_survives_a_killed_supervisor(tmp_path: Path) -> None:
    """``kill -9`` runs no handler; the kernel kills the children, also those that ignore
    signals."""
    source = """
        import asyncio, os, sys
        from pathlib import Path
        from streams.embedded.child import Child, Program
        DEAF = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        async def main():
            pids = []
            for number in range(3):
                argv = (sys.executable, "-P", "-c", DEAF)
                child = Child(Program(str(number), argv, os.environ, Path(os.devnull)), print)
                await child.start()
                pids.append(child.pid)
            print(*pids, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pids = [int(text) for text in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    asyncio.run(soon(lambda: not any(alive(pid) for pid in pids)))


PATIENCE = Patience(answered=60.0, starting=math.inf, idle=60.0)


def killed_after(looks: Iterable[tuple[int, bool, float | None]]) -> int | None:
    """Which look ends the patience, of looks with starts, answer and processor time."""
    silence = Silence(PATIENCE, 1, 0.0)
    for number, (starts, answers, cpu_s) in enumerate(looks, 1):
        if silence.too_long(Look(number * LOOK_S, starts, answers, cpu_s)) is not None:
            return number
    return None


@pytest.mark.parametrize(
    ("looks", "killed"),
    [
        ([(1, False, None)] * 13, 13),  # 60 s after it last answered
        ([(1, False, 1.0)] * 13, 13),
        ([(1, False, 1.0 + n) for n in range(13)], 13),  # busy, but it had answered
        ([*[(1, False, None)] * 12, (1, True, None)] * 3, None),
        # started again: as long as it works, or this system does not tell
        ([(2, False, 1.0 + n) for n in range(1_000)], None),
        ([(2, False, None)] * 1_000, None),
        # frozen before it ever answered: the first look knows of no time before
        ([(2, False, 1.0)] * 20, 14),
        ([*[(2, False, 1.0 + n) for n in range(50)], *[(2, False, 50.0)] * 20], 63),
        # a third start counts anew
        ([*[(2, False, 1.0)] * 10, *[(3, False, 0.5)] * 20], 24),
        ([(2, True, 1.0), *[(2, False, 1.0)] * 13], 14),
    ],
)
def test_child_is_held_to_hang_after_its_patience(
    looks: list[tuple[int, bool, float | None]], killed: int | None
) -> None:
    """One that has answered has to go on doing so; one that starts may take as long as it works."""
    assert killed_after(looks) == killed


def test_time_in_which_nobody_looked_is_not_held_against_a_child() -> None:
    """As after Ctrl-Z."""
    silence = Silence(PATIENCE, 1, 0.0)
    far_apart = [
        silence.too_long(Look(number * 10_000.0, 1, False, None)) is not None
        for number in range(1, 6)
    ]
    assert far_apart == [False, False, False, False, True]
    assert far_apart.index(True) * STEP_S_MAX == PATIENCE.answered


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
async def test_processor_time_of_a_frozen_child_stands_still(tmp_path: Path) -> None:
    """It tells one that hangs from one that works."""
    child = Child(program("while True: pass", tmp_path), lambda _said: None)
    assert child.cpu_s() is None
    await child.start()
    assert child.pid is not None
    await soon(lambda: (child.cpu_s() or 0) > 0.2)
    os.kill(child.pid, signal.SIGSTOP)
    await soon(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    before = child.cpu_s()
    await asyncio.sleep(0.2)
    assert child.cpu_s() == before
    child.kill()
    await child.stop()


def test_backoff_doubles_up_to_a_limit() -> None:
    """Half a second, then twice as long each time, never longer than half a minute."""
    pauses = [backoff_s(failures) for failures in range(1, 40)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF_S_MAX


def test_directory_has_one_owner(tmp_path: Path) -> None:
    """A second pipeline is told which process owns the directory; afterwards it can have it."""
    with locked(tmp_path), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        with locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_lock_is_released_when_its_owner_is_killed(tmp_path: Path) -> None:
    """The lock of a dead process blocks nobody."""
    source = f"""
        import time
        from pathlib import Path
        from streams.embedded.data_dir import locked
        with locked(Path({str(tmp_path)!r})):
            print("mine", flush=True)
            time.sleep(600)
    """
    owner = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == "mine\n"
        owner.kill()
        owner.wait()
    with locked(tmp_path):
        pass


def test_directory_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    """The message names the setting, without a traceback."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(ConfigError, match="MAILPULSE_DATA_DIR"),
        locked(tmp_path / "file" / "below"),
    ):
        pass


def test_file_of_a_dead_pipeline_is_ignored(tmp_path: Path) -> None:
    """Commands talk to a running pipeline, never to the address of one that ended."""
    gone = subprocess.Popen([sys.executable, "-P", "-c", ""])
    gone.wait()
    (tmp_path / STATE_FILE).write_text(
        f'{{"pid": {gone.pid}, "kafka_bootstrap": "", "partitions": 4,'
        ' "ingest_url": "", "clickhouse_dsn": "", "worker_url": ""}',
        encoding="utf-8",
    )
    assert running(tmp_path) is None
    (tmp_path / STATE_FILE).write_text("{", encoding="utf-8")
    assert running(tmp_path) is None


async def test_children_are_told_of_the_broker_of_this_machine(tmp_path: Path) -> None:
    """Their settings load without changes, keep the user's own, and name no other broker."""
    settings = Settings(data_dir=tmp_path, partitions=4)
    user = {
        "MAILPULSE_BODY_BYTES_MAX": "123456",
        "MAILPULSE_KAFKA_BOOTSTRAP": "elsewhere:9092",
        "MAILPULSE_KAFKA_REPLICATION_FACTOR": "3",
        "MAILPULSE_LOG_ID": "of-a-cluster",
    }
    pipeline = Embedded(settings, user, lambda line: None)
    shared = told_settings(settings, "127.0.0.1:5")
    environ = {
        **pipeline.child_environ("worker", shared), **pipeline.child_environ("ingest", shared)
    }  # fmt: skip
    told = load_settings(environ, lambda path: path.read_text())
    assert told.kafka_bootstrap == "127.0.0.1:5"
    assert (told.kafka_replication_factor, told.log_id) == (1, "")
    assert told.session_timeout_ms == 6_000
    assert told.body_bytes_max == 123_456


async def test_taken_ingest_port_stops_the_start_with_words(tmp_path: Path) -> None:
    """Before anything is started."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data_dir=tmp_path, ingest_port=taken.getsockname()[1])
        pipeline = Embedded(settings, {}, lambda line: None)
        with pytest.raises(ConfigError, match="--port"):
            await pipeline.start()
        assert pipeline.pids() == {}


async def test_waiting_gives_up_in_time() -> None:
    """A condition that never becomes true is reported as such."""

    async def never() -> bool:
        await asyncio.sleep(0)
        return False

    assert not await until(never, 0.05, pause_s=0.01)


def lag(topic: str, partition: int, behind: int) -> Lag:
    """The lag of a group."""
    return Lag("g", topic, partition, 0, behind, behind)


def test_what_was_left_unread_is_said_with_its_place() -> None:
    """Stage, records, topics, and where they are kept; nothing if everything was read."""
    counts = by_topic([lag("a", 0, 1_000), lag("a", 1, 234), lag("b", 0, 0), lag("c", 0, 1)])
    assert counts == {"a": 1_234, "c": 1}
    said = farewell([Unread("worker", None), Unread("sink", counts)], Path("data/kafka"))
    for part in (
        "unknown number of records for the worker", "1,235 records for the sink",
        "1,234 of a, 1 of c", "kept in data/kafka",
    ):  # fmt: skip
        assert part in said
    assert farewell([], Path("data/kafka")) == ""


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"XDG_CACHE_HOME": "/nowhere"}, "'mailpulse kafka install' fetches them"),
        ({"JAVA_HOME": "/nowhere", "PATH": ""}, "JAVA_HOME: there is no /nowhere"),
    ],
)
async def test_kafka_and_java_are_looked_for_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], said: str
) -> None:
    """In the supervisor's own environment, of which the broker sees the least part."""
    monkeypatch.setattr("streams.broker.java.bundled_java", lambda: None)
    given = {"HOME": os.environ["HOME"], **environ}
    pipeline = Embedded(Settings(data_dir=tmp_path, ingest_port=0), given, lambda line: None)
    with pytest.raises(ConfigError, match=said):
        await pipeline.start()
    await pipeline.stop(drain=False)


@pytest.mark.parametrize("away", ["worker", "sink", "ingest"])
async def test_a_worker_that_is_not_ready_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """It may rebuild state for long, or wait for a command that needs Kafka to run. Without the
    others nothing works."""
    said: list[str] = []
    pipeline = Embedded(Settings(data_dir=tmp_path, ingest_port=0), {}, said.append)
    monkeypatch.setattr("streams.embedded.supervisor.READY_S", 0.01)
    for role in ("sink", "ingest", "worker"):
        pipeline._children[role] = Child(program("pass", tmp_path), said.append)

    async def is_ready(url: str) -> bool:
        return url != away

    monkeypatch.setattr(pipeline, "_is_ready", is_ready)
    urls = {role: role for role in pipeline._children}
    if away == "worker":
        await pipeline._until_roles(urls)
        assert "worker did not get ready" in said[0]
        assert "records wait in Kafka" in said[0]
    else:
        with pytest.raises(Unavailable, match=f"{away} did not get ready"):
            await pipeline._until_roles(urls)
    pipeline._children.clear()
    await pipeline.stop(drain=False)
