"""Drives conversations with a provider, and counts what they change.

Invariants:
1. In a dry run no call is made.
2. Calls are paced: at most ``calls_per_s`` a second, of each process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

from streams.deliver.suppress.exchange import Answer, Call

Made = TypeVar("Made")
Transport = Callable[[Call], Awaitable[Answer]]
"""Makes one call."""


async def drive(conversation: Generator[Call, Answer, Made], transport: Transport) -> Made:
    """Makes the calls of a conversation, one after the other; returns what it returns."""
    try:
        call = next(conversation)
        while True:
            call = conversation.send(await transport(call))
    except StopIteration as end:
        made: Made = end.value
        return made
    finally:
        conversation.close()


class Pace:
    """At most ``per_s`` turns a second, evenly."""

    def __init__(self, per_s: float) -> None:
        self._gap = 1.0 / per_s
        self._next = 0.0

    async def turn(self) -> None:
        """Waits for the next turn."""
        loop = asyncio.get_running_loop()
        at = max(self._next, loop.time())
        self._next = at + self._gap
        await asyncio.sleep(at - loop.time())
