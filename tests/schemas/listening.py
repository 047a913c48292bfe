"""A small application on a guarded listener, in a process of its own, and raw talk with it.

Run as a program it serves; the first line it prints is its port. Standard input's end ends it.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from schemas.serving.places import Limits
from schemas.serving.server import bind, port_of, serving

LARGE = 32 << 20
PIECE = 1 << 20


@dataclass
class Listening:
    """A listener in a process of its own.

    Attributes:
        port: on 127.0.0.1.
        pid: of the process.
        log: file with what it wrote.
    """

    port: int
    pid: int
    log: str

    def connect(self) -> socket.socket:
        """A connection, with a time-out for everything."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def say(self, data: bytes) -> bytes:
        """Everything that comes back for ``data`` until the other side closes."""
        with self.connect() as sock:
            sock.sendall(data)
            return everything(sock)

    def get(self, path: str = "/", *headers: str) -> bytes:
        """The answer to a request of its own connection."""
        lines = [f"GET {path} HTTP/1.1", "host: x", "connection: close", *headers, "", ""]
        return self.say("\r\n".join(lines).encode())

    def descriptors(self) -> int:
        """How many files the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def lines(self) -> list[str]:
        """Its log."""
        with open(self.log, encoding="utf-8") as file:
            return file.read().splitlines()


def everything(sock: socket.socket) -> bytes:
    """What comes until the end; a connection that is reset ends too."""
    content = b""
    try:
        while part := sock.recv(65_536):
            content += part
    except ConnectionResetError:
        pass
    return content


@contextmanager
def listening(log: str, *, descriptors: int = 0, **limits: Any) -> Iterator[Listening]:
    """Serves until the block is left."""
    given = json.dumps({"descriptors": descriptors, "limits": limits})
    with (
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, "-m", "tests.schemas.listening", given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        yield Listening(int(process.stdout.readline()), process.pid, log)
        process.stdin.close()
        assert process.wait(30) == 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says what it got: headers' names, the body's length; or ``/large``, ``/slow``, ``/fails``.

    ``/pieces`` is as large, in pieces.
    """
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/fails":
        raise RuntimeError("as asked for")
    if scope["path"] == "/slow":
        await asyncio.sleep(3)
    if scope["path"] == "/pieces":
        headers = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for left in range(LARGE - PIECE, -1, -PIECE):
            piece = {"body": b"x" * PIECE, "more_body": left > 0}
            await send({"type": "http.response.body", **piece})
        return
    names = sorted(name.decode() for name, _ in scope["headers"])
    said = {"headers": names, "size": size, "client": scope["client"][0], "scheme": scope["scheme"]}
    body = b"x" * LARGE if scope["path"] == "/large" else json.dumps(said).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(given: dict[str, Any]) -> None:
    """Serves until standard input ends."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    if given["descriptors"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given["descriptors"], given["descriptors"]))
    sock = bind("127.0.0.1", 0)
    async with serving(app, sock, name="tried", limits=Limits(**given["limits"])):
        print(port_of(sock), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
