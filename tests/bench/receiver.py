"""A receiver of webhooks in a process of its own, for ``tests.bench.deliver``.

It reads requests as cheaply as it can, so that what is measured is the sender. ``/hang`` is never
answered.
"""

import asyncio
import multiprocessing
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_double, c_long
from typing import Any

_HEAD = re.compile(rb"POST /(\S+) .*?\r\ncontent-length: (\d+)\r\n(?:.*?\r\n)?\r\n", re.S | re.I)
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_SPAWN = multiprocessing.get_context("spawn")
PATHS_MAX = 16
DELAYS_MAX = 100_000


class Counts:
    """What has arrived, shared between processes.

    Attributes:
        got: requests to ``/0``, ``/1`` and so on.
        delays: seconds from the webhook-id's time to the arrival, in order; ids begin with
            microseconds since 1970 and a hyphen.
        delays_number: of them.
    """

    def __init__(self) -> None:
        self.got = _SPAWN.Array(c_long, PATHS_MAX)
        self.delays = _SPAWN.Array(c_double, DELAYS_MAX)
        self.delays_number = _SPAWN.Value(c_long, 0)


class _Protocol(asyncio.Protocol):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._held = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (head := _HEAD.match(self._held)) is not None:
            end = head.end() + int(head[2])
            if len(self._held) < end:
                return
            self._take(head[1], head[0])
            self._held = self._held[end:]

    def _take(self, path: bytes, head: bytes) -> None:
        if path == b"hang":
            return
        counts = self._counts
        counts.got[int(path)] += 1
        named = re.search(rb"webhook-id: (\d{16})-", head)
        number = counts.delays_number.value
        if named is not None and number < DELAYS_MAX:
            counts.delays[number] = time.time() - int(named[1]) / 1e6
            counts.delays_number.value = number + 1
        self._transport.write(_ANSWER)


def _serve(counts: Counts, port: Any) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(counts), "127.0.0.1", 0, backlog=1_000)
        port.value = server.sockets[0].getsockname()[1]
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def receiver() -> Iterator[tuple[int, Counts]]:
    """Its port and what has arrived, for the block."""
    counts, port = Counts(), _SPAWN.Value(c_long, 0)
    process = _SPAWN.Process(target=_serve, args=(counts, port), daemon=True)
    process.start()
    deadline = time.monotonic() + 60
    while not port.value:
        assert time.monotonic() < deadline, "the receiver does not start"
        time.sleep(0.05)
    try:
        yield port.value, counts
    finally:
        process.kill()
        process.join()
