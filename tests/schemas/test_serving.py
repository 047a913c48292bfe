"""The guarded listener on real sockets: slow, many, large and unusual clients."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.serving.reading import HEADERS_MAX
from schemas.serving.server import LEFT_AT_ONCE, bind, bound, port_of
from schemas.settings import Settings
from streams.transport.runner import faust_options
from tests.schemas.listening import LARGE, Listening, everything, listening
from tests.test_style import PACKAGES, python_files

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
UPGRADE = HEAD + b"connection: upgrade\r\nupgrade: h2c\r\n"
SHORT: dict[str, Any] = {"header_timeout_s": 0.5, "body_timeout_s": 0.5, "write_timeout_s": 0.5}


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """A listener with the default limits."""
    with listening(str(tmp_path_factory.mktemp("listener") / "log")) as opened:
        yield opened


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """A listener with short time-outs."""
    with listening(str(tmp_path_factory.mktemp("hasty") / "log"), **SHORT) as opened:
        yield opened


def until(happens: Callable[[], bool]) -> None:
    """Waits for it; the time-out is the test's."""
    while not happens():
        time.sleep(0.05)


def test_idle_connections_leave_it_answering(log: str) -> None:
    """1,100 of them at 1,024 descriptors: each new one is answered, and few files are open."""
    with listening(log, descriptors=1_024, connections_max=4_000, requests_max=3_000) as it:
        idle = [it.connect() for _ in range(1_100)]
        assert b"200 OK" in it.get()
        assert it.descriptors() < 1_024 - 100
        assert sum(is_open(sock) for sock in idle) <= 1_024 - 256
        assert b"200 OK" in it.get()
        for sock in idle:
            sock.close()
        until(lambda: it.descriptors() < 50)
        assert b"200 OK" in it.get()
        assert len(it.lines()) < 20


def is_open(sock: socket.socket) -> bool:
    """Whether the peer has not closed it."""
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.parametrize(
    "begun",
    [HEAD, HEAD + b"content-length: 9\r\n\r\n12", HEAD + b"transfer-encoding: chunked\r\n\r\n"],
)
def test_unfinished_requests_leave_it_answering(log: str, begun: bytes) -> None:
    """Headers and bodies that never end, from more clients than there are places."""
    with listening(log, connections_max=12, requests_max=8) as it:
        slow = []
        for _ in range(40):
            slow.append(it.connect())
            slow[-1].sendall(begun)
        assert b"200 OK" in it.get()
        assert len(it.lines()) <= 2
        for sock in slow:
            sock.close()


@pytest.mark.parametrize(
    ("begun", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\n", b" 408 "),
        (b"\r\n", b" 408 "),
        (HEAD, b" 408 "),
        (HEAD + b"content-length: 9\r\n\r\n", b" 408 "),
        (HEAD + b"content-length: 9\r\n\r\n12345678", b" 408 "),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b" 408 "),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n", b" 408 "),
    ],
)
def test_waits_end(hasty: Listening, begun: bytes, answer: bytes) -> None:
    """For headers, bodies and trailers."""
    assert answer in hasty.say(begun)


def test_a_dribbled_body_ends_too(log: str) -> None:
    """Its deadline is for all of it, not between two bytes."""
    with listening(log, **SHORT) as it, it.connect() as sock:
        sock.sendall(HEAD + b"content-length: 100000\r\n\r\n")
        until(lambda: not dribbles(sock))


def dribbles(sock: socket.socket) -> bool:
    """Whether one more byte can be sent."""
    try:
        sock.sendall(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


@pytest.mark.parametrize("path", ["large", "pieces"])
def test_an_answer_that_nobody_reads_ends(log: str, path: str) -> None:
    """The connection is closed before everything is read; its next request is not answered."""
    with listening(log, **SHORT) as it, it.connect() as sock:
        sock.sendall(b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        until(lambda: any("write_timeout" in line for line in it.lines()))
        assert len(everything(sock)) < LARGE
        until(lambda: it.descriptors() < 50)


@pytest.mark.parametrize("path", ["large", "pieces"])
def test_a_steady_reader_gets_all(log: str, path: str) -> None:
    """A client that pauses longer than the time-out but reads faster than the minimum rate."""
    with (
        listening(log, write_timeout_s=0.5, write_bytes_per_s_min=1 << 20) as it,
        it.connect() as sock,
    ):
        head = b"GET /%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        sock.sendall(head % path.encode())
        taken = 0
        while part := sock.recv(1 << 20):
            taken += len(part)
            time.sleep(len(part) / (16 << 20))
        assert taken > LARGE


def test_trailers_are_no_headers(log: str) -> None:
    """A trailer named like an important header changes nothing, and is counted."""
    with listening(log) as it:
        body = b"3\r\nabc\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nHost: evil\r\n\r\n"
        answer = it.say(HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + body)
        said = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert said["headers"] == ["connection", "host", "transfer-encoding"]
        assert said["size"] == 3
        assert any("trailer" in line for line in it.lines())


def test_no_header_says_who_is_calling(log: str) -> None:
    """Only the socket does."""
    with listening(log) as it:
        answer = it.get("/", "X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https")
        said = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (said["client"], said["scheme"]) == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET http://evil.example/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET https://x/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
        (UPGRADE + b"content-length: 26\r\n\r\nGET /other HTTP/1.1\r\n\r\n    ", 400),
        (UPGRADE + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"x: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (HEAD + b"x: y\r\n" * 40_000 + b"\r\n", 431),
        (HEAD + b"x:\r\n" * (HEADERS_MAX + 1) + b"\r\n", 431),
        (CHUNKED + b"2\r\n{}\r\n0\r\nx: " + b"a" * 2_000_000, 400),
        (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 400_000, 400),
        (CHUNKED + b"2;x=" + b"a" * 2_000_000, 400),
        (HEAD + b"content-length: 70000\r\n\r\n" + b"x" * 70_000, 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"4\r\nabcd\r\n" * 20_000, 413),
    ],
)
def test_what_is_out_of_order_is_refused(it: Listening, request_: bytes, status: int) -> None:
    """With a status, and the connection ends; then the next one is answered."""
    answer = it.say(request_)
    assert not answer or answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") <= 1
    assert b"200 OK" in it.get()


def test_requests_sent_ahead_are_bounded(log: str) -> None:
    """Some are answered in their order; thousands in one go end the connection."""
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with listening(log) as it:
        assert it.say(request * 9 + last).count(b"200 OK") == 10
        assert it.say(request * 3_000 + last).count(b"200 OK") < 100
        assert any("too_many_ahead" in line for line in it.lines())


def test_one_request_too_many_is_told_so(log: str) -> None:
    """503 with Retry-After, while those being processed go on."""
    with listening(log, connections_max=8, requests_max=2) as it:
        slow = [it.connect() for _ in range(2)]
        for sock in slow:
            sock.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        until(lambda: b" 503 " in it.get())
        refused = it.get()
        assert b"retry-after: 1" in refused
        assert all(b"200 OK" in everything(sock) for sock in slow)
        assert b"200 OK" in it.get()


@pytest.mark.parametrize(
    "request_", [b"nonsense\r\n\r\n", b"GET /fails HTTP/1.1\r\nhost: x\r\n\r\n"]
)
def test_a_flood_of_refusals_does_not_fill_the_log(log: str, request_: bytes) -> None:
    """One line of each kind is written, then they are counted."""
    with listening(log) as it:
        for _ in range(200):
            with it.connect() as sock:
                sock.sendall(request_)
                sock.recv(100)
        assert len([line for line in it.lines() if not line.startswith((" ", "Traceback"))]) < 10


def test_idle_keep_alive_ends(log: str) -> None:
    """After an answer, by its own time-out."""
    with listening(log, idle_timeout_s=0.3) as it:
        assert b"200 OK" in it.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")


def test_upgrades_are_not_made(log: str) -> None:
    """The request is answered without the upgrade; what follows is not HTTP and ends the
    connection."""
    asks = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with listening(log, idle_timeout_s=0.3, **SHORT) as it:
        answer = it.say(asks + b"\x81\x05hello" * 10)
        assert b" 101 " not in answer
        assert b"200 OK" in it.get()


def test_ending_does_not_wait_for_those_who_stay(log: str) -> None:
    """Idle, slow and unread connections are cut (the fixture checks that the block ends)."""
    with listening(log, write_timeout_s=100, body_timeout_s=100, header_timeout_s=100) as it:
        open_ = [it.connect() for _ in range(3)]
        open_[1].sendall(HEAD + b"content-length: 9\r\n\r\n")
        open_[2].sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in it.get()
    assert isinstance(it, Listening)
    for sock in open_:
        sock.close()


def test_every_listener_is_guarded() -> None:
    """Nobody else creates a server: ingress has its own, with its own limits; Faust's is off."""
    servers = ("uvicorn.run(", "uvicorn.Config(", "start_server(", "create_server(", "HTTPServer(")
    found = {
        name
        for name, text in python_files().items()
        if name.split("/")[0] in PACKAGES and any(one in text for one in servers)
    }
    assert found == {"schemas/serving/server.py", "ingest/server.py"}
    for name in found:
        assert "proxy_headers=False" in python_files()[name]
    assert faust_options(Settings())["web_enabled"] is False


async def test_what_is_written_is_sent_at_once() -> None:
    """A body does not wait for the acknowledgement of the head (Nagle's algorithm)."""
    loop = asyncio.get_running_loop()
    at_once: asyncio.Future[int] = loop.create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sock = transport.get_extra_info("socket")
            at_once.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    sock = bind("127.0.0.1", 0)
    server = await loop.create_server(Protocol, sock=sock)
    with socket.create_connection(("127.0.0.1", port_of(sock))):
        assert await at_once
    server.close()


def test_connections_that_were_closed_already_cost_no_more_than_a_look() -> None:
    """Nobody else waits behind a protocol for each; whoever said something is heard, though."""
    with bind("127.0.0.1", 0) as listener:
        address = ("127.0.0.1", port_of(listener))
        for _ in range(LEFT_AT_ONCE + 10):
            socket.create_connection(address).close()
        stays = socket.create_connection(address)
        with socket.create_connection(address) as said:
            said.sendall(b"GET / HTTP/1.1\r\n\r\n")
            leaves_behind = said.getsockname()
        with pytest.raises(BlockingIOError):  # the event loop has others to look after
            listener.accept()
        connection, found = listener.accept()
        assert found == stays.getsockname()
        connection.close()
        stays.close()
        connection, found = listener.accept()
        assert found == leaves_behind
        assert connection.recv(3) == b"GET"
        connection.close()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_port_that_is_taken_is_a_wrong_setting() -> None:
    """The setting is named, and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=f"MAILPULSE_METRICS_PORT: 127.0.0.1:{port}: Address already in use"
        ):
            bound("127.0.0.1", port, "METRICS_PORT")
