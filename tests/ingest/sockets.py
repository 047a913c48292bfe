"""The front door on a real socket, and a client that sends arbitrary bytes."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from ingest.app import IngestApp, create_app
from ingest.registry_endpoint import registry_routes
from ingest.server import make_server
from schemas.serving.server import bind
from schemas.settings import Settings
from tests.ingest.front_door import NOW, REGISTRY, MemoryLog, source


@dataclass(frozen=True)
class Seen:
    """A request as the app received it."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Listening:
    """A listening front door; ``echo`` replaces the hooks and records the requests.

    Attributes:
        seen: the complete requests, in order.
        gate: an answer waits until it is set.
    """

    def __init__(self, app: IngestApp, log: MemoryLog, port: int) -> None:
        self.app = app
        self.log = log
        self.port = port
        self.seen: list[Seen] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 200 with the request's path."""
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = tuple(scope["headers"])
        self.seen.append(Seen(scope["method"], scope["path"], headers, body))
        await self.gate.wait()
        content = orjson.dumps(scope["path"])
        length = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": content})

    def refused(self, reason: str) -> float:
        """Connections closed for that reason."""
        name = "mailpulse_ingest_connections_refused_total"
        return self.app.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it was never counted."""
        return self.app.metrics.registry.get_sample_value(name, labels) or 0.0

    async def connect(self) -> "Client":
        """A connection."""
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def say(self, *parts: bytes) -> bytes:
        """The answer to these bytes, sent in parts with pauses, up to the end of the connection."""
        client = await self.connect()
        for part in parts:
            await client.send(part)
            await asyncio.sleep(0.05)
        return await client.rest()

    async def say_each(self, requests: Mapping[str, Sequence[bytes]]) -> dict[str, bytes]:
        """The same for many at once: name -> answer."""
        came = await asyncio.gather(*[self.say(*parts) for parts in requests.values()])
        return dict(zip(requests, came, strict=True))


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Writes; a closed connection is not an error."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def answers(self, count: int) -> list[int]:
        """Statuses of the next ``count`` answers."""
        came = b""
        async with asyncio.timeout(10):
            while len(found := statuses(came)) < count:
                part = await self.reader.read(65_536)
                if not part:
                    break
                came += part
        return found

    async def exchange(self, data: bytes, count: int = 1) -> list[int]:
        """Sends, waits for ``count`` answers, closes."""
        await self.send(data)
        found = await self.answers(count)
        self.writer.close()
        return found

    async def rest(self, silence_s: float = 0.3) -> bytes:
        """Everything until the other side closes or is silent; then closes the connection."""
        came = b""
        try:
            while part := await asyncio.wait_for(self.reader.read(65_536), silence_s):
                came += part
        except (TimeoutError, ConnectionError):
            pass
        self.writer.close()
        return came

    async def is_closed(self, within_s: float = 10) -> bool:
        """Whether the other side closes the connection in time; what it sends before is ignored."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        self.writer.close()
        return True


def statuses(came: bytes) -> list[int]:
    """The statuses of the answers in what came, but for 100."""
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+)", came) if one != b"100"]


def head(*lines: str, path: str = "/hooks/news", method: str = "POST") -> bytes:
    """A request's head with a Host."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


@asynccontextmanager
async def listening(*, echo: bool = True, **settings: Any) -> AsyncIterator[Listening]:
    """A front door with the source ``news``; with ``echo`` instead of its hooks unless told so."""
    given = Settings(ingest_port=0, **settings)
    log = MemoryLog()
    app = create_app(
        given, {"news": source()}, registry=REGISTRY, log=log, now=lambda: NOW,
        pages=[registry_routes()],
    )  # fmt: skip
    server = make_server(given, app)
    listener = bind(given.ingest_host, given.ingest_port)
    door = Listening(app, log, listener.getsockname()[1])
    if echo:
        app.hooks = door.echo
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield door
    finally:
        door.gate.set()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        server.should_exit = True
        await task
