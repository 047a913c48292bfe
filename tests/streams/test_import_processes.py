"""An import's files read by several processes: the same as by one, and nothing outlives it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.errors import BadInput, ConfigError, Unavailable
from schemas.settings import Settings, Source
from streams.cli import import_processes
from streams.cli.import_processes import (
    PROCESSES_MAX,
    WORTH_BYTES,
    answers,
    processes,
    readers,
    wanted,
)
from streams.cli.import_reading import PART_ITEMS, Found, Reading, Rejects
from streams.history.files import Item, files_of
from streams.history.sorting import Stamped
from tests.compose import ROOT

NOW_US = 1_790_000_000_000_000
HOW = Reading(
    Settings(), Codec(), Source(name="news", provider="generic"),
    Source(name="crm", provider="generic"), {"fields": {"event": "Type", "time": "At"}}, "",
    NOW_US - 1_000_000, NOW_US, 4,
)  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> list[Path]:
    """Bodies and rows of four months, some of them broken, in several parts."""
    with (tmp_path / "a.jsonl").open("w") as lines, (tmp_path / "b.csv").open("w") as rows:
        rows.write("Type,id,At,message_id,recipient\n")
        for number in range(2 * PART_ITEMS + 100):
            at = NOW_US // 1_000_000 - number * 7_919 % (120 * 86_400)
            body = {
                "event": "opened", "id": f"{number}", "time": at, "message_id": f"m{number}",
                "recipient": f"r{number % 900}@b.example", "campaign": f"c{number % 7}",
            }  # fmt: skip
            lines.write("{broken\n" if number % 500 == 3 else json.dumps(body) + "\n")
            if number % 3 == 0:
                row = f"clicked,row{number},{at},m{number},r{number}@b.example"
                rows.write(row + (",more\n" if number % 501 == 0 else "\n"))
    return files_of([tmp_path])


def _read(files: list[Path], rejects: Path, number: int) -> tuple[Found, list[Stamped], str]:
    kept: list[Stamped] = []
    if number == 1:
        found = HOW.run(files, Rejects(rejects), kept.append, lambda _: None)
    else:
        with readers(HOW, number) as started:
            found = HOW.run(files, Rejects(rejects), kept.append, lambda _: None, started.parts)
    return found, kept, rejects.read_text()


def test_all_is_the_same_by_any_number_of_processes(archive: list[Path], tmp_path: Path) -> None:
    """Events, their order, counts, what is refused and how it is told."""
    rejects = tmp_path / "rejects.jsonl"
    alone = _read(archive, rejects, 1)
    assert alone[0].events == len(alone[1]) > PART_ITEMS
    assert set(alone[0].rejects) == {"not_json", "not_readable"}
    assert alone[0].examples["not_readable"].startswith(f"{archive[1]}:2: 6 cells")
    for number in (2, 3):
        assert _read(archive, rejects, number) == alone


def test_a_process_that_ends_is_told(archive: list[Path], tmp_path: Path) -> None:
    """Killed for want of memory, say."""
    with readers(HOW, 2) as started:

        def killing(lists: Iterator[list[Item]]) -> Iterator[list[Item]]:
            for number, some in enumerate(lists):
                if number == 1:
                    os.kill(started._processes[0]._process.pid, signal.SIGKILL)
                yield some

        with pytest.raises(Unavailable, match="ended"):
            HOW.run(archive, Rejects(tmp_path / "rejects.jsonl"), lambda _: None, lambda _: None,
                    lambda lists: started.parts(killing(lists)))  # fmt: skip


ERRORS: tuple[Exception, ...] = (
    BadInput("running", "another process folds it"),
    Unavailable("Kafka is away"),
    ConfigError(["MAILPULSE_A: one", "MAILPULSE_B: two"]),
    OSError(28, "No space left on device", "/full"),
)


@dataclass(frozen=True)
class Telling:
    """Tells twice of each number, and fails at one as it is told to."""

    failing: int = -1
    error: int | None = None
    """Its number in ``ERRORS``; ``None``: it is killed."""

    def serve(self, given: Iterator[int], send: Callable[[int | str], None]) -> None:
        """See ``Work``."""
        for number in given:
            send(number)
            if number == self.failing:
                if self.error is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    raise ERRORS[self.error]
            send(f"end of {number}")


def _told(work: Telling, number: int) -> list[int | str]:
    async def run() -> list[int | str]:
        with processes(work, 2) as started:
            return [answer async for answer in answers(started, range(number), str)]

    return asyncio.run(run())


@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_each_is_given_to_one_process_and_all_answers_come(number: int) -> None:
    """Progress before the end of each; however many there are beside two processes."""
    told = _told(Telling(), number)
    assert sorted(one for one in told if isinstance(one, int)) == [*range(number)]
    assert {one for one in told if isinstance(one, str)} == {f"end of {n}" for n in range(number)}
    for one in range(number):
        assert told.index(one) < told.index(f"end of {one}")


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_an_error_of_a_process_is_that_of_the_command(number: int) -> None:
    """With its text, and what the exit code and the message are made of."""
    error = ERRORS[number]
    with pytest.raises(type(error)) as raised:
        _told(Telling(2, number), 5)
    assert str(raised.value) == str(error)
    assert vars(raised.value) == vars(error)
    if isinstance(error, OSError):
        assert isinstance(raised.value, OSError)
        assert (raised.value.filename, raised.value.strerror) == ("/full", error.strerror)


def test_a_process_that_is_killed_while_it_folds_is_told() -> None:
    """No answer is waited for that never comes."""
    with pytest.raises(Unavailable, match="ended"):
        _told(Telling(2), 5)


class Endless:
    """Works for ever, without a look at its socket."""

    def serve(self, given: Iterator[int], send: Callable[[int], None]) -> None:
        """See ``Work``."""
        send(next(given))
        while True:
            time.sleep(1)


_BUSY = """\
import time
from tests.streams.test_import_processes import Endless
from streams.cli.import_processes import processes
with processes(Endless(), 2) as started:
    for one in started:
        one.ask(1)
        one.answer()
    print(*(one._process.pid for one in started), flush=True)
    time.sleep(600)
"""
_PARENT = """\
import sys, time
from tests.streams.test_import_processes import HOW
from streams.cli.import_processes import readers
with readers(HOW, 2) as started:
    print(*(one._process.pid for one in started._processes), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("program", [_PARENT, _BUSY])
def test_no_process_outlives_a_command_that_is_killed(program: str) -> None:
    """Whatever it was doing: its sockets end with it."""
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", program], env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in children)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_small_files_are_read_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting others takes longer; and there are no more than cores."""
    monkeypatch.setattr(import_processes, "cores", lambda: 4)
    assert wanted(0) == wanted(WORTH_BYTES - 1) == 1
    assert wanted(WORTH_BYTES) == 2
    assert wanted(1 << 40) == 4
    monkeypatch.setattr(import_processes, "cores", lambda: 64)
    assert wanted(1 << 40) == PROCESSES_MAX
