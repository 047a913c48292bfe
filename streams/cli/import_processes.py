"""The processes of an import: parsing and folding take most of its time.

Invariants:
1. Parts come back in the order in which they were given, so all that follows is the same as of one
   process.
2. A process has one part at a time, so nothing waits for what waits for it.
3. No process outlives the command, however that ends: each ends when its socket does, which nobody
   else holds, whatever it is doing.
"""

import asyncio
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from schemas.errors import MailpulseError, Unavailable
from streams.cli.import_reading import Part, Reading
from streams.history.files import Item

PROCESSES_MAX = 8
LOOK_S = 0.5
"""How long an answer is waited for at once, so that an interruption is heard."""
WORTH_BYTES = 4 << 20
"""Files of less than this are read sooner than processes start."""


def wanted(size: int) -> int:
    """How many processes read files of so many bytes; 1: this one does."""
    if size < WORTH_BYTES:
        return 1
    return min(processes_max(), size // WORTH_BYTES + 1)


def processes_max() -> int:
    """How many processes an import has at most."""
    return min(PROCESSES_MAX, cores())


def cores() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1


class Work(Protocol):
    """What a process does; can be pickled."""

    def serve(self, given: Iterator[Any], send: Callable[[Any], None], /) -> None:
        """Does what it is given, one after the other, and sends what each comes to."""


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
    """Starts processes that read, which end with the block."""
    with processes(how, number) as started:
        yield Readers(started)


@contextmanager
def processes(work: Work, number: int) -> Iterator[list["_Process"]]:
    """Starts processes, which end with the block."""
    with ExitStack() as stack:
        started = [stack.enter_context(_Process()) for _ in range(number)]
        for process in started:
            process.ask(work)
        yield started


async def answers(
    started: Sequence["_Process"], given: Sequence[Any], last: type
) -> AsyncIterator[Any]:
    """What processes send, of which each has one of ``given`` at a time, as it comes.

    Args:
        last: of this kind is the last answer to each.

    Raises:
        Unavailable: a process ended.
        MailpulseError, OSError: what a process met with.
    """
    left = list(reversed(given))
    busy: dict[Any, _Process] = {}
    for process in started[: len(left)]:
        process.ask(left.pop())
        busy[process.connection] = process
    while busy:
        for ready in await asyncio.to_thread(wait, [*busy], LOOK_S):
            process = busy[ready]
            answer = process.answer()
            if isinstance(answer, last):
                if left:
                    process.ask(left.pop())
                else:
                    del busy[ready]
            yield answer


class _Process:
    """One process, and the socket to it."""

    def __enter__(self) -> "_Process":
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streams.cli.import_processes", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.connection = Connection(ours.detach())
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._process.wait()

    def ask(self, what: Any) -> None:
        """Gives it something to do."""
        try:
            self.connection.send(what)
        except OSError:
            raise self._ended() from None

    def answer(self) -> Any:
        """What it came to.

        Raises:
            Unavailable: it ended.
            MailpulseError, OSError: what it met with.
        """
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(found, _Met):
            raise found.error()
        return found

    def _ended(self) -> Unavailable:
        code = self._process.wait()
        return Unavailable(f"a process of the import ended ({code}): repeat the command")


class _Met:
    """An expected error in parts: made anew of its text it would be another one."""

    def __init__(self, error: Exception) -> None:
        self._kind, self._args, self._fields = type(error), error.args, vars(error)
        if isinstance(error, OSError):
            self._args = (error.errno, error.strerror, error.filename)

    def error(self) -> Exception:
        """The error."""
        if issubclass(self._kind, OSError):
            return self._kind(*self._args)
        made = self._kind.__new__(self._kind, *self._args)
        made.__dict__.update(self._fields)
        return made


def _given(connection: Connection) -> Iterator[Any]:
    """What is given. The process ends with the command, also in the middle (invariant 3)."""
    held: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                held.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield held.get()


def main() -> None:
    """Works for the command that started this process, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides
    connection = Connection(int(sys.argv[1]))
    given = _given(connection)
    work: Work = next(given)
    try:
        work.serve(given, connection.send)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except (MailpulseError, OSError) as error:
        connection.send(_Met(error))
        next(given)  # the answer is read, and the socket closed


if __name__ == "__main__":
    # by its name: what is sent has to be of the module that the command knows
    from streams.cli import import_processes

    import_processes.main()
