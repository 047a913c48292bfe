"""Answers in one piece: the bytes that uvicorn sends, on real sockets, in fewer calls."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from ingest.app import IngestApp
from ingest.exchange import Call
from ingest.metrics import IngestMetrics
from ingest.receiving import read_body
from ingest.server import make_server
from schemas.serving.server import bind
from schemas.settings import Settings

CONTENT = b'{"accepted":1,"rejected":0}'
HEADERS = [(b"retry-after", b"5"), (b"ratelimit", b"x")]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as hooks do; below ``theirs`` by uvicorn alone."""

    async def theirs(message: Message) -> None:
        await send(message)

    call = Call(scope, receive, theirs if "theirs" in scope["path"] else send)
    call.headers += HEADERS
    await read_body(receive, 1_000, asyncio.timeout(5), lambda size: None)
    call.whole = True
    await call.answer(int(scope["path"].rpartition("/")[2]), b"application/json", CONTENT)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server whose hooks are ``answer``."""
    settings = Settings(ingest_port=0)
    app = IngestApp(routes=[])
    app.hooks, app.metrics = answer, IngestMetrics()
    server = make_server(settings, app)
    listener = bind(settings.ingest_host, settings.ingest_port)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    for _ in range(1_000):
        if server.started:
            break
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    await task


async def exchange(port: int, request: bytes, answers: int) -> bytes:
    """Everything that comes back, until the end or the answers are there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    came = b""
    async with asyncio.timeout(10):
        while came.count(CONTENT) < answers:
            part = await reader.read(65_536)
            if not part:
                break
            came += part
    writer.close()
    return re.sub(rb"date: [^\r]*", b"date", came)


_USUAL = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
REQUESTS = {
    "usual": _USUAL,
    "empty": b"POST %s HTTP/1.1\r\nHost: x\r\n\r\n",
    "closing": b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    "old": b"POST %s HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
    "waiting": b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\ncontent-length: 0\r\n\r\n",
    "head": b"HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("status", [200, 429, 503])
async def test_the_bytes_are_uvicorns(port: int, name: str, status: int) -> None:
    """Whatever the client asks for."""
    ours, theirs = [
        await exchange(port, REQUESTS[name] % (b"/hooks/%s/%d" % (way, status)), 1)
        for way in (b"ours", b"theirs")
    ]
    assert ours == theirs


async def test_requests_that_come_together_are_answered_in_order(port: int) -> None:
    """Pipelined on one connection, ours and uvicorn's in turn."""
    paths = [b"/hooks/ours/200", b"/hooks/theirs/503", b"/hooks/ours/429", b"/hooks/ours/200"]
    came = await exchange(port, b"".join(_USUAL % path for path in paths), len(paths))
    assert re.findall(rb"HTTP/1.1 (\d+)", came) == [b"200", b"503", b"429", b"200"]
