"""Results that clients do not read: bounded in bytes and in time, without blocking others."""

import asyncio
import http.client
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from analytics.client import connect
from analytics.warehouse.errors import QueryError
from analytics.warehouse.unsent import PIECE_BYTES, Answer, Held, Pieces, Unsent
from tests.analytics.test_warehouse_process import sink_of
from tests.live.warehouse_process import WarehouseProcess

LARGE = "SELECT repeat('x', 1000) FROM numbers(60000)"
RESULT_BYTES = 60_000 * 1_001
UNREAD = 24
BUDGET = 2 * RESULT_BYTES + 1_000
ENGINE_BYTES = 768 << 20
"""How much the process may grow beside the budget. It grew by 280 and by 410 MB in two runs on two
cores at rest, for a result grows by doubling while it is made; the rest is room for a busy machine.
All the results at once would be 550 MB more than budget and this."""


def never() -> bool:
    """The client is still connected."""
    return False


async def test_bytes_count_until_they_are_released() -> None:
    """What does not fit waits and is refused in the end; a single part, and a result alone, always
    fit."""
    unsent = Unsent(3 * PIECE_BYTES, 0.2)
    large = Answer(b"x" * (2 * PIECE_BYTES), {})
    alone = await Unsent(1, 0.2).held(large, never)
    assert alone.content == large.content
    first = await unsent.held(large, never)
    assert unsent.bytes == len(large.content)
    assert (await unsent.held(Answer(b"x" * PIECE_BYTES, {}), never)).content
    with pytest.raises(QueryError, match="try again"):
        await unsent.held(large, never)
    waiting = asyncio.create_task(unsent.held(large, never))
    await asyncio.sleep(0)
    first.release()
    second = await waiting
    assert unsent.bytes == len(large.content)
    second.replace(b"packed" * PIECE_BYTES)
    assert unsent.bytes == 6 * PIECE_BYTES
    second.release()
    assert unsent.bytes == 0


async def test_who_is_gone_needs_no_room() -> None:
    """Their query does not keep its slot either."""
    unsent = Unsent(1, 60)
    large = Answer(b"x" * (2 * PIECE_BYTES), {})
    await unsent.held(large, never)
    with pytest.raises(QueryError):
        await unsent.held(large, lambda: True)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_a_result_is_sent_whole_in_pieces(size: int) -> None:
    """Its bytes count until the last part is sent."""
    unsent = Unsent(1, 1)
    content = bytes(at % 251 for at in range(size))
    held = await unsent.held(Answer(memoryview(content), {}), never)
    sent: list[dict[str, Any]] = []
    counted: list[int] = []

    async def send(message: Any) -> None:
        sent.append(message)
        counted.append(unsent.bytes)

    await Pieces(held, "text/plain", {})({"type": "http"}, send, send)  # type: ignore[arg-type]
    assert (b"content-length", str(size).encode()) in sent[0]["headers"]
    assert b"".join(message["body"] for message in sent[1:]) == content
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert all(len(message["body"]) <= PIECE_BYTES for message in sent[1:])
    assert counted[-1] == unsent.bytes == 0


async def test_a_slow_reader_gives_way_to_who_waits() -> None:
    """The one that has been read longest, and nobody who has not had their time."""
    unsent = Unsent(5 * PIECE_BYTES, 30, read_s_max=0.2)
    large = Answer(b"x" * (2 * PIECE_BYTES), {})
    sent: list[Any] = []
    stuck = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await stuck.wait()

    slow = asyncio.create_task(
        Pieces(await unsent.held(large, never), "text/plain", {})({"type": "http"}, send, send)  # type: ignore[arg-type]
    )
    second = await unsent.held(large, never)
    third = await unsent.held(large, never)
    await slow
    assert [message.get("more_body") for message in sent] == [None, True], "ended before its end"
    assert not second.given_up.is_set()
    assert unsent.bytes == 4 * PIECE_BYTES
    second.release()
    third.release()
    assert unsent.bytes == 0


async def test_nobody_gives_way_while_there_is_room() -> None:
    """However slowly they read."""
    unsent = Unsent(5 * PIECE_BYTES, 30, read_s_max=0)
    large = Answer(b"x" * (2 * PIECE_BYTES), {})
    both = [await unsent.held(large, never) for _ in range(2)]
    assert not any(held.given_up.is_set() for held in both)


async def test_a_result_is_released_when_sending_fails() -> None:
    """Whatever the reason."""
    unsent = Unsent(1, 1)
    held = await unsent.held(Answer(b"x" * (2 * PIECE_BYTES), {}), never)

    async def send(_message: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await Pieces(held, "text/plain", {})({"type": "http"}, send, send)  # type: ignore[arg-type]
    assert unsent.bytes == 0
    assert Held(Answer(b"x", {})).content == b"x"


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[WarehouseProcess]:
    """With room for two of the large results; a client that does not read is disconnected after 8
    s."""
    limits = {
        "DOOR_QUERY_S_MAX": "8",
        "DOOR_QUERIES_MAX": "1",
        "DOOR_UNSENT_BYTES_MAX": str(BUDGET),
    }
    with WarehouseProcess(tmp_path, limits) as opened:
        yield opened


def asks(warehouse: WarehouseProcess, sql: str) -> socket.socket:
    """A connection that sends a query and does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", warehouse.at.door))
    host = f"127.0.0.1:{warehouse.at.door}"
    sock.sendall(f"GET /?query={quote(sql)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return sock


def answer(warehouse: WarehouseProcess, sql: str) -> tuple[int, str, int]:
    """Status, ``Retry-After`` and the number of bytes of an answer that is read."""
    connection = http.client.HTTPConnection("127.0.0.1", warehouse.at.door, timeout=60)
    try:
        connection.request("POST", "/", body=sql)
        got = connection.getresponse()
        return got.status, got.getheader("Retry-After", ""), len(got.read())
    finally:
        connection.close()


def unsent_bytes(warehouse: WarehouseProcess) -> int:
    """The metric's value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{warehouse.at.health}/metrics") as metrics:
        found = re.search(rb"^mailpulse_door_unsent_bytes (\S+)$", metrics.read(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


@pytest.mark.timeout(180)
def test_callers_that_do_not_read_take_bounded_memory(warehouse: WarehouseProcess) -> None:
    """Small queries and the sink go on; large results wait; all memory is free again at the end."""
    process = psutil.Process(warehouse.pid)
    before = process.memory_info().rss
    peak = before
    owner = connect(sink_of(warehouse))
    owner.command("CREATE TABLE stored (a UInt32) ENGINE = MergeTree ORDER BY a")
    unread = [asks(warehouse, LARGE) for _ in range(UNREAD)]
    began = time.monotonic()
    stored = 0
    counted = [0]
    while time.monotonic() - began < 6 or not max(counted):
        owner.insert("stored", [[stored]], column_names=["a"])
        stored += 1
        peak = max(peak, process.memory_info().rss)
        counted.append(unsent_bytes(warehouse))
        time.sleep(0.1)
    assert 0 < max(counted) <= BUDGET
    assert owner.command("SELECT count() FROM stored") == stored
    assert peak - before < BUDGET + ENGINE_BYTES
    while True:  # while the rest finds no room, or once the first ones are ended
        status, retry, size = answer(warehouse, LARGE)
        if status == 200:
            break
        assert (status, retry) == (503, "1")
    assert size == RESULT_BYTES
    assert answer(warehouse, "SELECT 7") == (200, "", 2)
    assert unsent_bytes(warehouse) < max(counted)
    assert "write_timeout" in warehouse.log.read_text()
    owner.close()
    for sock in unread:
        sock.close()
