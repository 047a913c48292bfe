"""An import's files read by several processes: the same as by one, and nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings, Source
from streams.cli import import_processes
from streams.cli.import_processes import PROCESSES_MAX, WORTH_BYTES, readers, wanted
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


def _read(files: list[Path], rejects: Path, processes: int) -> tuple[Found, list[Stamped], str]:
    kept: list[Stamped] = []
    if processes == 1:
        found = HOW.run(files, Rejects(rejects), kept.append, lambda _: None)
    else:
        with readers(HOW, processes) as started:
            found = HOW.run(files, Rejects(rejects), kept.append, lambda _: None, started.parts)
    return found, kept, rejects.read_text()


def test_all_is_the_same_by_any_number_of_processes(archive: list[Path], tmp_path: Path) -> None:
    """Events, their order, counts, what is refused and how it is told."""
    rejects = tmp_path / "rejects.jsonl"
    alone = _read(archive, rejects, 1)
    assert alone[0].events == len(alone[1]) > PART_ITEMS
    assert set(alone[0].rejects) == {"not_json", "not_readable"}
    assert alone[0].examples["not_readable"].startswith(f"{archive[1]}:2: 6 cells")
    for processes in (2, 3):
        assert _read(archive, rejects, processes) == alone


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


_PARENT = """\
import sys, time
from tests.streams.test_import_processes import HOW
from streams.cli.import_processes import readers
with readers(HOW, 2) as started:
    print(*(one._process.pid for one in started._processes), flush=True)
    time.sleep(600)
"""


def test_no_process_outlives_a_command_that_is_killed() -> None:
    """Whatever it was doing: its sockets end with it."""
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", _PARENT], env={"PYTHONPATH": str(ROOT)},
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
