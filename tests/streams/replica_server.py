"""A provider's replica behind a real socket.

It fails as providers do: before, half-way through and after the effect, with and without an answer.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.streams.beside import beside
from tests.streams.provider_replicas import Replica, Request


@dataclass(frozen=True)
class Fault:
    """How one call fails.

    Attributes:
        status: of the answer; 0: none, the connection is closed.
        applied: entries that take effect all the same; ``None``: all of them.
        headers: of the answer.
        hang: no answer, and the connection stays open.
    """

    status: int = 500
    applied: int | None = 0
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False


@dataclass
class ReplicaServer:
    """A replica behind a real socket.

    Attributes:
        faults: of the next calls, one each; ``None``: none.
        calls: all that arrived.
        failed: how many of them.
        connections: that were opened.
    """

    replica: Replica
    port: int = 0
    faults: deque[Fault | None] = field(default_factory=deque)
    calls: list[Request] = field(default_factory=list)
    failed: int = 0
    connections: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self.connections.add(task)
        try:
            while True:
                request = await _read(reader)
                self.calls.append(request)
                fault = self.faults.popleft() if self.faults else None
                if not await self._answer(request, fault, writer):
                    break
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the last when the replica ends: asyncio would log it as an error
        writer.close()

    async def _answer(
        self, request: Request, fault: Fault | None, writer: asyncio.StreamWriter
    ) -> bool:
        if fault is None:
            write_answer(writer, *self.replica.handle(request))
            await writer.drain()
            return True
        self.failed += 1
        if fault.applied != 0 and request.method != "GET":
            self.replica.half = fault.applied
            self.replica.handle(request)
            self.replica.half = None
        if fault.hang:
            await asyncio.sleep(3_600)
        if fault.status:
            write_answer(writer, fault.status, self.replica.error("out of order"), fault.headers)
            await writer.drain()
        return bool(fault.status)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = head[0].split()
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, body)


def write_answer(
    writer: asyncio.StreamWriter, status: int, document: Any,
    headers: tuple[tuple[str, str], ...] = (),
) -> None:  # fmt: skip
    """An answer as it goes over the wire."""
    body = b"" if document is None else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    if status != 204:
        lines.append(f"content-length: {len(body)}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@asynccontextmanager
async def serving(replica: Replica) -> AsyncIterator[ReplicaServer]:
    """A replica behind a socket of this machine."""
    server = ReplicaServer(replica)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in server.connections:
            task.cancel()
        await asyncio.gather(*server.connections, return_exceptions=True)


def serving_beside(replica: Replica) -> AbstractContextManager[ReplicaServer]:
    """The same in a thread of its own, so that a test may block."""
    return beside(lambda: serving(replica))
