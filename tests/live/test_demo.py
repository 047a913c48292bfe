"""The demo as a user runs it: real roles, real signatures, and every figure checked."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.hostile import fill
from tests.live.roles import clean_environ

KEYS = {
    "sent_requests", "accepted_requests", "refused_requests", "unique_events_accepted",
    "duplicates_sent", "events_stored", "dead_letters", "lost", "double_counted",
    "campaigns_compared", "campaigns_differing", "seconds_to_visible_p50",
    "seconds_to_visible_p99",
}  # fmt: skip
"""What the report holds, neither more nor less."""


class Demo:
    """A running ``mailpulse demo``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = fill(folder)  # a user's folder may hold files of any name
        self.errors = (folder / "stderr").open("w+", encoding="utf-8")
        environ = clean_environ()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", "demo", "--json", "--port", "0",
             "--data-dir", str(folder / "data"), *arguments],
            stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=folder, env=environ,
        )  # fmt: skip

    def said(self) -> str:
        """Its text output."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def until_said(self, text: str, seconds: float = 90.0) -> None:
        """Waits until it has printed something."""
        end = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def children(self) -> dict[str, psutil.Process]:
        """Role -> process; the broker binary is ``broker``."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            line = child.cmdline()
            found[line[-1] if "streams.cli" in line else "broker"] = child
        return found

    def report(self) -> tuple[int, dict[str, object]]:
        """Exit code and report, at the end."""
        out, _ = self.process.communicate(timeout=180)
        lines = out.splitlines()
        assert len(lines) == 1, out + self.said()
        return self.process.returncode, json.loads(lines[0])

    def close(self) -> None:
        """Ends it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Demos that a test started; none outlives it."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.close()


def assert_all_agrees(code: int, report: dict[str, object], said: str) -> None:
    """Nothing lost, nothing counted twice, nothing counted differently, and there was traffic."""
    wrong = (report["lost"], report["double_counted"], report["campaigns_differing"])
    assert (code, wrong) == (0, (0, 0, 0)), said
    assert report["events_stored"] == report["unique_events_accepted"]
    assert int(str(report["campaigns_compared"])) >= 5


@pytest.mark.timeout(480)
def test_demo_proves_its_figures(demos: list[Demo], tmp_path: Path) -> None:
    """Signed traffic into ClickHouse: duplicates dropped, forgeries refused, all exact."""
    demo = Demo(tmp_path, "--seconds", "12", "--rate", "300", "--check")
    demos.append(demo)
    code, report = demo.report()
    assert set(report) == KEYS
    assert_all_agrees(code, report, demo.said())
    assert int(str(report["unique_events_accepted"])) > 1_000
    for promised in ("duplicates_sent", "refused_requests"):
        assert int(str(report[promised])) > 0
    assert report["seconds_to_visible_p50"] is not None
    assert "every figure agrees" in demo.said()
    assert '"status":401' in demo.said().replace("\n", "")
    assert not (tmp_path / "data" / "embedded.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_roles_lose_and_double_nothing(demos: list[Demo], tmp_path: Path) -> None:
    """kill -9 of four roles under traffic: each is restarted, the figures agree."""
    demo = Demo(tmp_path, "--seconds", "25", "--rate", "200", "--check")
    demos.append(demo)
    demo.until_said("in ClickHouse")
    for role in ("worker", "warehouse", "sink", "ingest"):
        demo.children()[role].kill()
        demo.until_said(f"{role} ended with signal SIGKILL")
    code, report = demo.report()
    assert_all_agrees(code, report, demo.said())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.timeout(300)
def test_killed_supervisor_leaves_no_process_and_a_usable_directory(
    demos: list[Demo], tmp_path: Path
) -> None:
    """kill -9 of the supervisor kills every child too; the directory can be used again."""
    demo = Demo(tmp_path, "--rate", "50")
    demos.append(demo)
    demo.until_said("What to look at")
    children = demo.children()
    assert {"broker", "ingest", "worker", "sink", "warehouse"} <= set(children)
    demo.process.send_signal(signal.SIGKILL)
    demo.process.wait()
    _, left = psutil.wait_procs(list(children.values()), timeout=30)
    assert left == []
    again = Demo(tmp_path, "--seconds", "4", "--rate", "100", "--check")
    demos.append(again)
    code, report = again.report()
    assert_all_agrees(code, report, again.said())


@pytest.mark.timeout(300)
def test_interrupt_stops_everything_in_order(demos: list[Demo], tmp_path: Path) -> None:
    """Ctrl-C ends a demo without a time limit, with its report and without orphans."""
    demo = Demo(tmp_path, "--rate", "50", "--check")
    demos.append(demo)
    demo.until_said("in ClickHouse")
    children = list(demo.children().values())
    demo.process.send_signal(signal.SIGINT)
    code, report = demo.report()
    assert_all_agrees(code, report, demo.said())
    _, left = psutil.wait_procs(children, timeout=10)
    assert left == []


@pytest.mark.timeout(300)
def test_second_demo_on_a_directory_is_refused(demos: list[Demo], tmp_path: Path) -> None:
    """With the process that owns it, and the exit code for settings."""
    first = Demo(tmp_path, "--rate", "20")
    demos.append(first)
    first.until_said("Starting")
    first.until_said("What to look at")
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", "demo", "--json", "--port", "0", "--data-dir",
         str(tmp_path / "data")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 3
    assert f"in use by process {first.process.pid}" in answer.stderr.replace("\n", " ")
