"""Looks at a child that runs, and kills it when it no longer answers: then it is started again.

Invariants:
1. Time in which this process did not run itself, as after Ctrl-Z or while the machine was
   suspended, is not held against a child.
2. A child that has yet to answer for the first time may take as long as it works: what uses no
   processor time at all hangs, since even one that only waits looks after what it waits for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams.embedded.child import Announce, Child

LOOK_S = 5.0
"""Seconds between two looks."""
STEP_S_MAX = 15.0
"""Most of the time since the last look that counts: the pause, and a look that was not answered."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a child may fail to answer, in seconds.

    Attributes:
        answered: once it has answered.
        starting: until it first answers, if the supervisor had to start it again.
        idle: until it first answers, while it uses no processor time.
    """

    answered: float
    starting: float
    idle: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        at_s: when, in seconds of a steady clock.
        starts: how often the child had been started.
        answers: whether it answered.
        cpu_s: processor time it had used, in seconds; ``None`` if this system does not tell.
    """

    at_s: float
    starts: int
    answers: bool
    cpu_s: float | None


class Silence:
    """How long a child has not answered; begins with a child that has answered."""

    def __init__(self, patience: Patience, starts: int, now_s: float) -> None:
        self._patience = patience
        self._starts, self._answered = starts, True
        self._silent_s = self._idle_s = 0.0
        self._last_s = now_s
        self._cpu_s: float | None = None

    def too_long(self, look: Look) -> float | None:
        """Takes a look in.

        Returns:
            The seconds of silence if they are more than the patience allows; it begins anew then.
        """
        if look.starts != self._starts:
            self._starts, self._answered = look.starts, False
            self._silent_s, self._idle_s, self._cpu_s = 0.0, 0.0, None
        step_s, self._last_s = min(look.at_s - self._last_s, STEP_S_MAX), look.at_s
        worked, self._cpu_s = look.cpu_s is None or look.cpu_s != self._cpu_s, look.cpu_s
        if look.answers:
            self._answered, self._silent_s, self._idle_s = True, 0.0, 0.0
            return None
        self._silent_s += step_s
        self._idle_s = 0.0 if worked else self._idle_s + step_s
        if self._answered:
            over = self._silent_s > self._patience.answered
        else:
            over = self._silent_s > self._patience.starting or self._idle_s > self._patience.idle
        if not over:
            return None
        silent_s, self._silent_s, self._idle_s = self._silent_s, 0.0, 0.0
        return silent_s


async def look_after(
    child: Child, answers: Callable[[], Awaitable[bool]], patience: Patience, announce: Announce
) -> None:
    """Looks until it is cancelled; the child has answered before.

    Args:
        answers: asks the child, for a few seconds at most.

    Raises:
        Exception: what ``answers`` raises.
    """
    silence = Silence(patience, child.starts, time.monotonic())
    while True:
        await asyncio.sleep(LOOK_S)
        starts, answered = child.starts, await answers()
        silent_s = silence.too_long(Look(time.monotonic(), starts, answered, child.cpu_s()))
        if silent_s is not None and child.pid is not None and child.starts == starts:
            announce(f"{child.program.name} has not answered for {silent_s:.0f} s; restarting it")
            child.kill()
