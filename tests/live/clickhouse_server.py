"""ClickHouse's HTTP interface on the real engine, in a process that can be killed and made to fail.

It is the product's own warehouse. ``Troubled``, in front of the sink's listener, behaves as failing
networks and servers do.
"""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.live.process import free_port
from tests.live.warehouse_process import WarehouseProcess

Trouble = Literal["", "hang", "500", "cut_after", "refuse"]
HANG_S = 6.0
"""Longer than a client waits in these tests."""
_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 40\r\nconnection: close\r\n"
    b"X-ClickHouse-Exception-Code: 241\r\n\r\nCode: 241. DB::Exception: Memory limit. "
)


class Troubled:
    """A server, and a proxy in front of it that can be made to fail inserts.

    ``hang``: accepts a request and never answers. ``500``: answers with an error at once.
    ``cut_after``: forwards the request, waits for the answer, and closes the connection instead of
    passing it on. ``refuse``: closes connections at once, as if the server were down.

    Attributes:
        trouble: what to do to requests from now on.
        cuts: how often an insert was done and its answer withheld.
    """

    def __init__(self, folder: Path) -> None:
        self.process = WarehouseProcess(folder)
        self.behind, self.port = self.process.at.private, free_port()
        self.trouble: Trouble = ""
        self.cuts = self.failed = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def dsn(self) -> str:
        """Of the proxy."""
        return self.process.at.dsn(self.port)

    def start(self) -> None:
        """Starts the server; returns when it is ready.

        Raises:
            ProcessFailed: it ended, or was not ready in time.
        """
        self.process.begin()

    def __enter__(self) -> Self:
        self.start()
        self._thread.start()
        serve = asyncio.start_server(self._connection, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(serve, self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self.process.kill()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while request := await _message(reader):
                if not await self._serve(request, writer):
                    break
        writer.close()

    async def _serve(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        trouble = self.trouble
        if trouble == "refuse":
            self.failed += 1
            return False
        if b"INSERT" not in request[:4_000].upper():
            trouble = ""
        if trouble == "hang":
            self.failed += 1
            await asyncio.sleep(HANG_S)
            return False
        if trouble == "500":
            self.failed += 1
            writer.write(_ERROR)
            await writer.drain()
            return False
        reader, onward = await asyncio.open_connection("127.0.0.1", self.behind)
        try:
            onward.write(request)
            await onward.drain()
            answer = await _message(reader)
        finally:
            onward.close()
        if trouble == "cut_after":
            self.cuts += 1
            return False
        writer.write(answer)
        await writer.drain()
        return bool(answer)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message, head and body; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    names = dict(
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    )
    if b"content-length" in names:
        return head + await reader.readexactly(int(names[b"content-length"]))
    body = b""
    if names.get(b"transfer-encoding") == b"chunked":
        while True:
            size = await reader.readuntil(b"\r\n")
            body += size + await reader.readexactly(int(size, 16) + 2)
            if int(size, 16) == 0:
                break
    return head + body
