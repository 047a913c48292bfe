"""Reads the files of an import in several processes: parsing takes most of an import's time.

Invariants:
1. Parts come back in the order in which they were given, so all that follows is the same as of one
   process.
2. A process has one part at a time, so nothing waits for what waits for it.
3. No process outlives the command, however that ends: each ends when its socket does, which nobody
   else holds. None writes anything.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from schemas.errors import Unavailable
from streams.cli.import_reading import Part, Reading
from streams.history.files import Item

PROCESSES_MAX = 8
WORTH_BYTES = 4 << 20
"""Files of less than this are read sooner than processes start."""


def wanted(size: int) -> int:
    """How many processes read files of so many bytes; 1: this one does."""
    if size < WORTH_BYTES:
        return 1
    return min(PROCESSES_MAX, cores(), size // WORTH_BYTES + 1)


def cores() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1


class Readers:
    """Processes that read.

    Args:
        processes: of them.
    """

    def __init__(self, processes: list["_Process"]) -> None:
        self._processes = processes

    def parts(self, lists: Iterator[list[Item]]) -> Iterator[Part]:
        """What each list came to (invariant 1).

        Raises:
            Unavailable: a process ended.
        """
        number = len(self._processes)
        given = taken = 0
        for some in lists:
            if given - taken == number:
                yield self._processes[taken % number].answer()
                taken += 1
            self._processes[given % number].ask(some)
            given += 1
        while taken < given:
            yield self._processes[taken % number].answer()
            taken += 1


@contextmanager
def readers(how: Reading, number: int) -> Iterator[Readers]:
    """Starts processes, which end with the block."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_Process()) for _ in range(number)]
        for process in processes:
            process.ask(how)
        yield Readers(processes)


class _Process:
    """One process, and the socket to it."""

    def __enter__(self) -> "_Process":
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streams.cli.import_processes", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._connection = Connection(ours.detach())
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.wait()

    def ask(self, what: Reading | list[Item]) -> None:
        """Gives it something to do."""
        try:
            self._connection.send(what)
        except OSError:
            raise self._ended() from None

    def answer(self) -> Part:
        """What it came to."""
        try:
            part: Part = self._connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        return part

    def _ended(self) -> Unavailable:
        code = self._process.wait()
        return Unavailable(f"a process that reads the files ended ({code}): repeat the command")


def _main() -> None:
    """Reads for the command that started this process, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides
    connection = Connection(int(sys.argv[1]))
    try:
        how: Reading = connection.recv()
        for part in how.parts(iter(connection.recv, None)):
            connection.send(part)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


if __name__ == "__main__":
    _main()
