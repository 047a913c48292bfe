"""Receivers of webhooks on real sockets, well and badly behaved, for the tests of ``deliver``."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Got:
    """One request as it arrived. Names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document


Answer = Callable[["Got", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """What arrived, and how it is answered.

    Attributes:
        answer: writes to the connection; can be changed at any time.
        connections: opened so far.
    """

    answer: Answer
    port: int = 0
    got: list[Got] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Of a receiver without TLS."""
        return f"http://127.0.0.1:{self.port}/hook"

    def has(self, number: int) -> bool:
        """Whether so many requests have arrived."""
        return len(self.got) >= number

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                exact = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1]
                         for line in head[1:] if line}  # fmt: skip
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                got = Got(head[0].split()[1], exact, body)
                self.got.append(got)
                await self.answer(got, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        writer.close()


def answering(status: int, body: bytes = b"", *headers: str) -> Answer:
    """The same answer to everything."""

    async def answer(_got: Got, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return answer


@asynccontextmanager
async def receiver(
    answer: Answer | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver on 127.0.0.1 for the block; by default it answers 204."""
    made = Receiver(answer or answering(204))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
