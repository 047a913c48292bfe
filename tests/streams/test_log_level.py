"""A process's log level follows signals while it runs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from streams.cli.log_level import DETAILED, ORDINARY, WITHOUT, Relay
from tests.test_style import ROOT

PROGRAM = """
import logging, sys, structlog
from schemas.settings import Settings
from streams.cli import log_level, logs
settings = Settings(log_level=sys.argv[1], log_format="json")
logs.configure(settings, "worker")
log_level.listen(settings)
for word in sys.stdin:
    structlog.get_logger().debug(word.strip())
    logging.getLogger("aiokafka").debug(word.strip())
    logging.getLogger("mode").info("[" + word.strip())
    structlog.get_logger().error("said")
"""


class Process:
    """A process of which nothing is known but its log and its id."""

    def __init__(self, level: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, level], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def said(self, word: str) -> list[str]:
        """What it logs when it is told to log ``word`` in three ways, and then ``said``."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return [line["event"] for line in self._lines("said")]

    def _lines(self, last: str) -> Iterator[dict[str, str]]:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            line = json.loads(text)
            if line["event"] == last:
                return
            yield line
        raise AssertionError(f"it ended with {self._process.wait()}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def changed(self, number: signal.Signals) -> str:
        """The level that it says to have after a signal."""
        assert self._process.stderr is not None
        self.send(number)
        line = json.loads(self._process.stderr.readline())
        assert (line["event"], line["role"]) == ("log level", "worker")
        return str(line["level_now"])

    def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(30)


@pytest.fixture
def start() -> Iterator[Callable[[str], Process]]:
    """Starts processes, and sees that each ends in order."""
    started = []

    def start(level: str) -> Process:
        started.append(Process(level))
        return started[-1]

    yield start
    assert [one.end() for one in started] == [0] * len(started)


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_a_signal_shows_what_is_left_out_and_another_leaves_it_out_again(
    start: Callable[[str], Process], level: str
) -> None:
    """Of our own lines, of libraries, and of Faust's parts."""
    process = start(level)
    for _ in range(2):
        assert process.said("fetch") == []
        assert process.changed(DETAILED) == "DEBUG"
        assert process.said("fetch") == ["fetch", "fetch", "[fetch"]
        assert process.changed(DETAILED) == "DEBUG"
        assert process.changed(ORDINARY) == level


def test_signals_that_come_at_once_end_nothing(start: Callable[[str], Process]) -> None:
    """Their default would end the process; the same signals may be merged."""
    process = start("INFO")
    assert process.said("before") == []
    for _ in range(200):
        process.send(DETAILED)
        process.send(ORDINARY)
    process.send(ORDINARY)
    quiet = 0
    while quiet < 20:  # the last signals may not be taken yet
        quiet = quiet + 1 if process.said("after") == [] else 0


async def test_a_supervisor_passes_signals_on_to_roles_that_follow_them() -> None:
    """Not to the broker or the database, nor to one that is gone; before roles run, to nobody."""
    loop = asyncio.get_running_loop()
    # another test of this process may have run a role, which blocks them
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {DETAILED, ORDINARY})
    with ExitStack() as ends:
        ends.callback(signal.pthread_sigmask, signal.SIG_SETMASK, blocked)
        children = {role: sleeping(ends) for role in ("worker", "sink", *WITHOUT)}
        gone = sleeping(ends)
        gone.kill()
        gone.wait()
        relay = Relay()
        relay.listen()
        try:
            os.kill(os.getpid(), DETAILED)
            await asyncio.sleep(0.1)
            assert {child.poll() for child in children.values()} == {None}
            relay.roles = lambda: {
                role: one.pid for role, one in (*children.items(), ("old", gone))
            }
            os.kill(os.getpid(), ORDINARY)
            codes = [
                await asyncio.to_thread(children[role].wait, 30) for role in ("worker", "sink")
            ]
            assert codes == [-ORDINARY, -ORDINARY]
            assert [children[role].poll() for role in WITHOUT] == [None, None]
        finally:
            for number in (DETAILED, ORDINARY):
                loop.remove_signal_handler(number)


def sleeping(ends: ExitStack) -> subprocess.Popen[bytes]:
    """A process that any signal ends."""
    child = subprocess.Popen(["sleep", "60"])
    ends.callback(child.wait)
    ends.callback(child.kill)
    return child
