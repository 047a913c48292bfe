"""A role's log level while it runs: SIGUSR1 for DEBUG, SIGUSR2 for the level of the settings.

Invariants:
1. The signals are blocked in the whole process and taken by a thread of their own: no handler cuts
   into code that holds a lock, and one that comes early ends no process. Processes that a role
   starts have them blocked too.
2. Only levels change: what a line says, masks and limits stay as they are.

Not for the role ``warehouse``: ClickHouse's engine uses both signals itself, for its profiler.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from schemas.settings import Settings
from streams.cli import logs

__all__ = ["DETAILED", "ORDINARY", "WITHOUT", "Relay", "listen"]

log = structlog.get_logger(__name__)

DETAILED, ORDINARY = signal.SIGUSR1, signal.SIGUSR2
WITHOUT = ("broker", "warehouse")
"""Processes that don't follow the signals."""


def listen(settings: Settings) -> None:
    """Follows the signals from now on, until the process ends; call it before other threads start.

    Each change is a line of the log, at a level that every setting but ERROR shows.
    """
    wanted = {DETAILED, ORDINARY}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    threading.Thread(target=_follow, args=(wanted, settings), name="log level", daemon=True).start()


def _follow(wanted: set[signal.Signals], settings: Settings) -> None:
    while True:
        level = "DEBUG" if signal.sigwait(wanted) == DETAILED else settings.log_level
        logs.set_level(level)
        log.warning("log level", level_now=level, level_of_settings=settings.log_level)


class Relay:
    """Passes the signals that a supervisor gets on to the roles that it runs.

    Attributes:
        roles: gives role -> process id of those that run now.
    """

    def __init__(self) -> None:
        self.roles: Callable[[], Mapping[str, int]] = dict

    def listen(self) -> None:
        """Begins to take the signals in; before ``roles`` is set they are ignored."""
        loop = asyncio.get_running_loop()
        for number in (DETAILED, ORDINARY):
            loop.add_signal_handler(number, self._pass_on, number)

    def _pass_on(self, number: signal.Signals) -> None:
        for role, pid in self.roles().items():
            if role not in WITHOUT:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
