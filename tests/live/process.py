"""Child processes of live tests: started, stopped, killed, frozen, and never left behind.

Invariants:
1. A child dies with the test run, even when the run is killed by SIGKILL: Linux sends it the
   parent-death signal. That signal follows the *thread* that forked (prctl(2), PR_SET_PDEATHSIG),
   so every child is forked by one thread that lives as long as the interpreter.
2. A child has its own session: Ctrl-C reaches the test run alone, which then stops its children.
3. Output goes to a file and its tail into the message of every failure.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

# Below Linux's range of ephemeral ports (32768 and up), so that no outgoing connection takes the
# port of a broker that is down for a moment.
_PORTS = range(20_000, 32_000)

RUNNERS_MAX = 8
"""Interpreters of one test run that get ports of their own."""

_handed_out: set[int] = set()


class ProcessFailed(RuntimeError):
    """A child ended, or was not ready in time; the message holds the tail of its log."""


def ports_of(runner: str) -> range:
    """The ports that one of the interpreters of a test run may hand out; no two share any.

    Args:
        runner: pytest-xdist's name of the interpreter, ``gw0`` and so on; empty: the only one.
    """
    number = int(runner.removeprefix("gw")) if runner else 0
    return _PORTS[number % RUNNERS_MAX :: RUNNERS_MAX]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on, and that no outgoing connection is given.

    It is handed out once: who asked for it may listen later, or stop listening for a while.

    Raises:
        RuntimeError: no free port is left.
    """
    left = [
        port
        for port in ports_of(os.environ.get("PYTEST_XDIST_WORKER", ""))
        if port not in _handed_out
    ]
    random.shuffle(left)
    for port in left:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise RuntimeError("no free port found")


def accepts(port: int) -> bool:
    """Whether something on 127.0.0.1 takes connections on ``port``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _bound_to_parent(argv: Sequence[str], death_signal: str) -> list[str]:
    """``argv`` so that the process gets ``death_signal`` when the spawner thread ends."""
    setpriv = shutil.which("setpriv")  # util-linux: on every Linux, nowhere else
    return [setpriv, "--pdeathsig", death_signal, "--", *argv] if setpriv else list(argv)


class Process:
    """One child process that can be restarted after it ended.

    Args: name: for messages. argv: command. log: file to which output is appended. env: whole
    environment; default: this process's. death_signal: what the child gets when the test run dies:
    ``KILL``, or ``TERM`` for a child that has children of its own to stop.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: str = "KILL",
    ) -> None:
        self.name = name
        self.log = log
        self._death_signal = death_signal
        self.become(argv)
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running child.

        Raises:
            ProcessFailed: never started.
        """
        if self._child is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child is alive (a frozen one is)."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; ``None`` while it runs or before it was started."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Starts the child; returns at once.

        Raises:
            ProcessFailed: it runs already.
        """
        if self.running:
            raise ProcessFailed(f"{self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._child = _SPAWNER.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def become(self, argv: Sequence[str]) -> None:
        """Changes its command, from the next start on."""
        self._argv = _bound_to_parent(argv, self._death_signal)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the child, if it is alive."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def pause(self) -> None:
        """Freezes the child (SIGSTOP): its sockets stay open and nobody answers.

        Returns when the last of its threads has stopped (or the child is gone): a signal to a
        process of many threads takes its time, and until then one of them may still answer.
        """
        self.signal(signal.SIGSTOP)
        if self._child is not None and self._child.returncode is None:
            os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Resumes a frozen child (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as by a power cut; returns when the child has ended."""
        if self._child is not None:
            self.signal(signal.SIGKILL)
            self._child.wait()

    def stop(self, timeout_s: float = 30) -> int | None:
        """SIGTERM; SIGKILL after ``timeout_s``.

        Returns:
            Exit status, ``None`` if it was never started.
        """
        if self._child is None:
            return None
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return "(no output)"
        with self.log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 64_000))
            text = stream.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, check: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        """Waits until ``check()`` holds.

        Raises:
            ProcessFailed: the child ended, or ``timeout_s`` passed.
        """
        end = time.monotonic() + timeout_s
        while not check():
            if not self.running:
                raise ProcessFailed(
                    f"{self.name} ended with {self.returncode} before {what}\n{self.log_tail()}"
                )
            if time.monotonic() > end:
                raise ProcessFailed(
                    f"{self.name}: not {what} after {timeout_s:g} s\n{self.log_tail()}"
                )
            time.sleep(0.05)
