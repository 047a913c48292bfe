"""What an async context serves, in a thread of its own, so that a test may block."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

Served = TypeVar("Served")


@contextmanager
def beside(serve: Callable[[], AbstractAsyncContextManager[Served]]) -> Iterator[Served]:
    """What ``serve`` gives, until the block is left."""
    loop = asyncio.new_event_loop()
    ready: list[Served] = []
    begun, done = threading.Event(), asyncio.Event()

    async def run() -> None:
        async with serve() as served:
            ready.append(served)
            begun.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert begun.wait(30)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()
