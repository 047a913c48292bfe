"""Supervises one child process: starts, watches, restarts and stops it.

Invariants:
1. A child dies with its supervisor, however that ends: the kernel kills the child when its parent's
   thread ends (Linux, ``PR_SET_PDEATHSIG``), so even ``kill -9`` leaves no orphan.
2. A child that ends by itself is restarted after a pause that doubles each time, and this is
   announced.
3. A child that ends with the exit code for invalid settings is not restarted: it would end the same
   way.
4. Each child has its own session, so that Ctrl-C reaches only the supervisor, which stops the
   children in order.

Source: prctl(2), PR_SET_PDEATHSIG: kept over execve(2), delivered when the creating thread ends.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

EXIT_CONFIG = 3
"""Exit code of a role whose settings are invalid."""
BACKOFF_S_MIN = 0.5
BACKOFF_S_MAX = 30.0
STEADY_S = 60.0
"""After running this long a child's back-off starts again from ``BACKOFF_S_MIN``."""
GRACE_S = 15.0
"""Seconds between SIGTERM and SIGKILL."""
LACKS_S = 1.0
"""Seconds between two looks at what a restart waits for."""
MEMORY = "a whole pipeline takes about 2 GB"
CAUSE_LINES = 200
"""Last lines of a child's log that are searched for the cause of its end."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

Announce = Callable[[str], None]


def die_with(parent_pid: int) -> None:
    """Sets up invariant 1; called in the child before exec. Does nothing without prctl."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent ended between fork and prctl
        os.kill(os.getpid(), signal.SIGKILL)


def _prepare(parent_pid: int) -> None:
    """Called in the child before exec.

    Signals that change a role's log level (``streams.cli.log_level``) are blocked until it listens:
    one that came while it starts would end it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    die_with(parent_pid)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: for announcements.
        argv: program and arguments.
        environ: the child's whole environment.
        log_path: file to which its output is appended; ``None``: the supervisor's stderr.
        cwd: its working directory; default: the supervisor's.
        cause: returns a sentence that says why it ended, from the last lines of its log; ``None``
            if unknown.
        lacks: what a restart has to wait for, as a sentence; ``None``: nothing.
        before: called before each start, the first one too.
    """

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    log_path: Path | None = None
    cwd: Path | None = None
    cause: Callable[[list[str]], str | None] = lambda _lines: None
    lacks: Callable[[], str | None] = lambda: None
    before: Callable[[], object] = lambda: None

    def log_bytes(self) -> int:
        """Size of its log; 0 without a log."""
        if self.log_path is None or not self.log_path.exists():
            return 0
        return self.log_path.stat().st_size

    def tail(self, lines: int = 12, begin: int = 0) -> list[str]:
        """The last lines of its log from byte ``begin`` on; none without a log."""
        if self.log_path is None or not self.log_bytes():
            return []
        with self.log_path.open("rb") as file:
            file.seek(begin)
            text = file.read().decode("utf-8", "replace")
        return text.splitlines()[-lines:]


def backoff_s(failures: int, most_s: float = BACKOFF_S_MAX) -> float:
    """Seconds to wait before restarting after ``failures`` ends in a row (1 or more)."""
    return float(min(most_s, BACKOFF_S_MIN * 2 ** min(failures - 1, 16)))


class Child:
    """A supervised program.

    Args:
        program: what to run.
        announce: called with one line of text when something happens to the child.
        pause_s_max: longest pause before a restart, seconds.
        ended: called when the child ended and will not be restarted (invariant 3).

    Attributes:
        starts: how often it was started.
        end: how it last ended, in words; empty before.
    """

    def __init__(
        self,
        program: Program,
        announce: Announce,
        *,
        ended: Callable[[], None] = lambda: None,
        pause_s_max: float = BACKOFF_S_MAX,
    ) -> None:
        self.program = program
        self.starts = 0
        self.end = ""
        self._announce = announce
        self._ended = ended
        self._pause_s_max = pause_s_max
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._log_begin = 0
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def cpu_s(self) -> float | None:
        """Processor time the running process has used, in seconds; ``None`` where not known.

        Source: proc_pid_stat(5), fields 14 and 15 (``utime``, ``stime``).
        """
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        utime, stime = stat.rpartition(")")[2].split()[11:13]
        return (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")

    async def start(self) -> None:
        """Starts the program and begins to watch it.

        Raises:
            OSError: the program can't be started, or ``Program.before`` failed.
        """
        await self._spawn()
        self._task = asyncio.create_task(self._watch(), name=f"watch {self.program.name}")

    async def _spawn(self) -> None:
        self.program.before()
        parent, path = os.getpid(), self.program.log_path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._log_begin = self.program.log_bytes()
        stderr = contextlib.nullcontext(sys.stderr.fileno())
        with path.open("ab") if path is not None else stderr as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.argv,
                env=dict(self.program.environ),
                cwd=self.program.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: _prepare(parent),
            )
        self.starts += 1
        self._killed = False

    async def _watch(self) -> None:
        failures = 0
        while self._process is not None:
            began = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
            self.end = self._why(code)
            said = f"{self.program.name} ended with {self.end}"
            if code == EXIT_CONFIG:
                self._announce(said)
                self._ended()
                return
            pause = backoff_s(failures, self._pause_s_max)
            self._announce(f"{said}; restarting it in {pause:g} s ({failures} in a row)")
            await asyncio.sleep(pause)
            await self._until_nothing_lacks()
            if self._stopping:
                return
            await self._spawn_again()

    async def _spawn_again(self) -> None:
        """Starts it, trying until it can: memory, descriptors or the disk may be lacking."""
        for failures in itertools.count(1):
            try:
                await self._spawn()
            except (OSError, subprocess.SubprocessError) as error:
                pause = backoff_s(failures, self._pause_s_max)
                self._announce(
                    f"{self.program.name} can't be started: {error}; again in {pause:g} s"
                )
                await asyncio.sleep(pause)
            else:
                return

    async def _until_nothing_lacks(self) -> None:
        lacking = self.program.lacks()
        if lacking is not None:
            self._announce(f"{self.program.name} waits: {lacking}; then it is started by itself")
        while self.program.lacks() is not None:  # noqa: ASYNC110  # nobody tells when it changes
            await asyncio.sleep(LACKS_S)

    def _why(self, code: int) -> str:
        cause = self.program.cause(self.program.tail(CAUSE_LINES, self._log_begin))
        if cause is None and code == -signal.SIGKILL and not self._killed:
            cause = f"this machine ran out of memory, if no one sent it; {MEMORY}"
        return _how(code) if cause is None else f"{_how(code)}: {cause}"

    def kill(self, *, for_good: bool = False) -> None:
        """Sends SIGKILL; the child is restarted as after any other end, unless ``for_good``."""
        self._killed = True
        self._stopping = self._stopping or for_good
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Sends SIGTERM, then SIGKILL after ``grace_s`` seconds; returns once the child ended."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), grace_s)
            except TimeoutError:
                self._announce(f"{self.program.name} did not stop in {grace_s:g} s; killing it")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def _how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


async def until(
    ready: Callable[[], Awaitable[bool]], timeout_s: float, pause_s: float = 0.1
) -> bool:
    """Polls ``ready`` until it returns true; ``False`` if ``timeout_s`` seconds passed first."""
    deadline = time.monotonic() + timeout_s
    while not await ready():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(pause_s)
    return True


def python(*arguments: str) -> tuple[str, ...]:
    """The command line of ``mailpulse …`` with this interpreter.

    ``-P`` keeps the working directory out of ``sys.path``: otherwise a user's folder ``schemas`` or
    file ``random.py`` there would be imported instead of ours.
    """
    return (sys.executable, "-P", "-m", "streams.cli", *arguments)
