"""Ctrl-C at a terminal, and the roles' logs as an operator reads them."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.cli import entry
from streams.embedded import log_files
from streams.embedded.log_files import LogFile
from streams.embedded.stopping import BEGUN, ENDED, INTERRUPTED, Stop, Stopped


class Left(Exception):
    """Stands for the end of the process."""


def leaving(code: int) -> None:
    """Ends «the process»."""
    raise Left(code)


async def test_the_first_signal_is_answered_and_the_second_ends_the_process() -> None:
    """In this order: the event, the word; then children are killed, then the process ends."""
    said: list[str] = []
    stop = Stop(said.append, leaving)
    stop.kill = lambda: said.append("killed")
    stop.signalled()
    assert stop.asked.is_set()
    assert said == [BEGUN]
    with pytest.raises(Left) as caught:
        stop.signalled()
    assert caught.value.args == (INTERRUPTED,)
    assert said == [BEGUN, ENDED, "killed"]


async def test_a_terminal_that_is_gone_does_not_keep_a_second_signal_from_its_work() -> None:
    """SIGHUP comes when the terminal closes, and then nothing can be written any more."""
    killed: list[bool] = []

    def gone(line: str) -> None:
        if line == ENDED:
            raise OSError("Input/output error")

    stop = Stop(gone, leaving)
    stop.kill = lambda: killed.append(True)
    stop.signalled()
    with pytest.raises(Left):
        stop.signalled()
    assert killed == [True]


async def test_a_start_is_given_up_and_cleaned_up() -> None:
    """It is cancelled, and what it cleans up is waited for; without a stop its result counts."""
    stop, steps = Stop(lambda _: None, leaving), []

    async def start() -> str:
        try:
            steps.append("begun")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")
        return "never"

    async def ready() -> str:
        return "ready"

    assert await stop.unless_asked(ready()) == "ready"
    asyncio.get_running_loop().call_later(0.01, stop.signalled)
    with pytest.raises(Stopped):
        await stop.unless_asked(start())
    assert steps == ["begun", "cleaned up"]


async def test_an_error_of_the_start_is_raised() -> None:
    """As it is."""

    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Stop(lambda _: None, leaving).unless_asked(fails())


def line(**fields: object) -> bytes:
    """A line of a role's log."""
    return json.dumps(fields).encode() + b"\n"


def test_a_stop_while_commands_are_imported_is_no_traceback(tmp_path: Path) -> None:
    """The import itself is interrupted here, as Ctrl-C would."""
    package = tmp_path / "streams" / "cli"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "main.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    shutil.copy(entry.__file__, package / "entry.py")
    code = "from streams.cli.entry import main; main()"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, "")


HOOK = {"event": "hook", "level": "info", "source": "news", "role": "ingest"}


def test_lines_of_interest_are_told(tmp_path: Path) -> None:
    """First events once, refusals with their reason, warnings with their fields; nothing else."""
    path = tmp_path / "ingest.log"
    path.write_bytes(line(event="of an earlier start", level="error"))
    log = LogFile("ingest", path)
    with path.open("ab") as file:
        for fields in (
            HOOK | {"result": "accepted", "status": 200, "events": 3, "ms": 1.0},
            HOOK | {"result": "accepted", "status": 200, "events": 3, "ms": 1.0},
            HOOK | {"result": "unauthorized", "status": 401, "reason": "bad_signature"},
            HOOK | {"result": "probe", "status": 405},
            HOOK | {"result": "accepted", "status": 200, "events": 0, "rejected": 1},
            {"event": "started", "level": "info"},
            {"event": "kafka is away", "level": "warning", "tries": 3, "at": "now", "role": "x"},
        ):
            file.write(line(**fields))
        file.write(b"Traceback (most recent call last):\n[1, 2]\n")
        file.write(b'{"event": "not yet wh')
    assert log.news(0.0) == [
        "news: first events",
        "news: request refused, 401 bad_signature: 'mailpulse check' says why",
        "news: dead letters, see 'mailpulse dlq ls'",
        "ingest: kafka is away · tries=3",
    ]
    with path.open("ab") as file:
        file.write(b'ole", "level": "error"}\n')
    assert log.news(1.0) == ["ingest: not yet whole"]


def test_the_same_line_is_told_once_a_minute_with_its_number(tmp_path: Path) -> None:
    """A provider that tries again and again fills no terminal."""
    path = tmp_path / "ingest.log"
    log, told = LogFile("ingest", path), []
    refused = line(**HOOK, result="unauthorized", status=401, reason="bad_signature")
    for second in range(0, 130, 10):
        with path.open("ab") as file:
            file.write(refused * 5)
        told += log.news(float(second))
    assert len(told) == 3
    assert told[1].endswith("(30 times)")


def test_a_log_is_bounded_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that appends to the file all the while loses its place in no way."""
    monkeypatch.setattr(log_files, "BYTES_MAX", 1_000)
    path = tmp_path / "sink.log"
    log, told = LogFile("sink", path), []
    with path.open("ab", buffering=0) as role:
        for number in range(200):
            role.write(line(event=f"event {number}", level="error"))
            told += log.news(float(number))
    assert told == [f"sink: event {number}" for number in range(200)]
    assert path.stat().st_size <= 1_100
    assert (tmp_path / "sink.log.1").stat().st_size <= 1_100


def test_a_deleted_log_is_no_error(tmp_path: Path) -> None:
    """Nor one that is not there yet, or that was emptied by somebody else."""
    path = tmp_path / "sink.log"
    log = LogFile("sink", path)
    assert log.news(0.0) == []
    path.write_bytes(line(event="a", level="error") * 50)
    assert len(log.news(1.0)) == 1
    path.write_bytes(line(event="b", level="error"))
    assert log.news(2.0) == ["sink: b"]
    path.unlink()
    assert log.news(3.0) == []
