"""What stands for ClickHouse's image: the role ``warehouse`` behind a server's address and users.

The warehouse listens on loopback addresses alone, the sink's and the analysts' listener apart. This
program is its front: it listens where ``config.d/mailpulse.xml`` says and knows the users of
``users.d/mailpulse.xml``. Whoever may manage access reaches the sink's listener, which compares the
password with that file's hash itself; a reader, whose password is compared here, the analysts'.

``python -m tests.rehearsal.clickhouse``, in the container; ends with the warehouse, or on SIGTERM.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import aiohttp
from aiohttp import web
from yarl import URL

from tests.live.roles import clean_environ

USERS = Path("/etc/clickhouse-server/users.d/mailpulse.xml")
CONFIG = Path("/etc/clickhouse-server/config.d/mailpulse.xml")
DATA = Path("/var/lib/clickhouse")
PORT, DOOR, PRIVATE, HEALTH = 8123, 18123, 18124, 19100
_OF_CONNECTION = {"connection", "host", "keep-alive", "transfer-encoding"}
"""Headers that are about one connection (RFC 9110, 7.6.1), and the name that the warehouse has."""


@dataclass(frozen=True, slots=True)
class User:
    """A user of ``users.xml``. ``manages``: may do anything."""

    password_sha256: str
    manages: bool


def users_of(text: str) -> dict[str, User]:
    """The users that a file of ``users.d`` adds."""
    found = {}
    for one in ElementTree.fromstring(text).iterfind("users/*"):
        digest = one.findtext("password_sha256_hex")
        if digest is not None:
            found[one.tag] = User(digest.strip(), one.findtext("access_management") == "1")
    return found


def target_of(headers: Mapping[str, str], users: Mapping[str, User]) -> int | None:
    """Port of the listener behind this one for a request; ``None``: it is refused."""
    name, password = _credentials(headers)
    user = users.get(name)
    digest = hashlib.sha256(password.encode()).hexdigest()
    if user is None or not hmac.compare_digest(digest, user.password_sha256):
        return None
    return PRIVATE if user.manages else DOOR


def _credentials(headers: Mapping[str, str]) -> tuple[str, str]:
    if "X-ClickHouse-User" in headers:
        return headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
    kind, _, value = headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return "default", ""
    name, _, password = base64.b64decode(value).decode().partition(":")
    return name, password


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_CONNECTION}


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """The listeners that other containers reach."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users
        self._client: aiohttp.ClientSession | None = None

    async def query(self, request: web.Request) -> web.StreamResponse:
        """Port 8123."""
        port = DOOR if request.path == "/ping" else target_of(request.headers, self._users)
        if port is None:
            return web.Response(status=403, text="Code: 516. AUTHENTICATION_FAILED")
        return await self._forward(request, port, str(request.rel_url))

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Port 9363."""
        return await self._forward(request, HEALTH, "/metrics")

    async def _forward(self, request: web.Request, port: int, path: str) -> web.StreamResponse:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
            )
        url = URL(f"http://127.0.0.1:{port}{path}", encoded=True)
        body = request.content if request.body_exists else None
        async with self._client.request(
            request.method, url, headers=_passed_on(request.headers), data=body
        ) as answer:
            given = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await given.prepare(request)
            async for piece in answer.content.iter_any():
                await given.write(piece)
            await given.write_eof()
            return given


async def _listen(answer: Answer, host: str, port: int) -> None:
    runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]  # it makes web.Requests
    await runner.setup()
    await web.TCPSite(runner, host, port).start()


def _settings(manager: User) -> dict[str, str]:
    return {
        "DATA_DIR": str(DATA / "own"),
        "WAREHOUSE_DIR": str(DATA / "data"),
        "WAREHOUSE_PORT": str(PRIVATE),
        "WAREHOUSE_TOKEN_SHA256": manager.password_sha256,
        "DOOR_PORT": str(DOOR),
        "METRICS_PORT": str(HEALTH),
    }


async def serve(users: Mapping[str, User], config: ElementTree.Element) -> int:
    """See the module; returns the warehouse's exit code."""
    host = config.findtext("listen_host", "127.0.0.1")
    [manager] = [user for user in users.values() if user.manages]
    told = {f"MAILPULSE_{name}": value for name, value in _settings(manager).items()}
    warehouse = await asyncio.create_subprocess_exec(
        "setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-P", "-m", "streams.cli",
        "warehouse", env={**clean_environ(), **told},
    )  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, warehouse.terminate)
    front = Front(users)
    await _listen(front.query, host, PORT)
    await _listen(front.metrics, host, int(config.findtext("prometheus/port", "0")))
    return await warehouse.wait()


if __name__ == "__main__":
    os.environ.setdefault("HOME", str(DATA))
    known = users_of(USERS.read_text("utf-8"))
    sys.exit(asyncio.run(serve(known, ElementTree.fromstring(CONFIG.read_text("utf-8")))))
