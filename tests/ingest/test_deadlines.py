"""Slow clients and many of them: who waits, how long, and who goes when there is no room."""

import asyncio
from typing import Any

import pytest

from tests.ingest.front_door import KEY
from tests.ingest.sockets import Client, Listening, head, listening, statuses

SLOW: dict[str, Any] = {"header_timeout_ms": 400, "body_timeout_ms": 400, "answer_timeout_ms": 400}
HONEST = head(f"X-Key: {KEY}", "Content-Length: 12") + b'[{"id":"m"}]'
PATHS = ("/hooks/news", "/hooks/other", "/registry/subjects/x", "/nothing", "/livez", "/")


@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_slow_body_has_a_deadline_on_every_path(length: str) -> None:
    """Whoever dribbles one is answered or cut off in time, whether anything reads it or not."""
    async with listening(echo=False, **SLOW) as door:
        slow = [await door.connect() for _ in PATHS]
        for path, client in zip(PATHS, slow, strict=True):
            await client.send(head(length, path=path))
        going = asyncio.create_task(_dribble(slow))
        assert all(await asyncio.gather(*[client.is_closed(5) for client in slow]))
        going.cancel()


async def _dribble(clients: list[Client]) -> None:
    while True:
        for client in clients:
            if not client.writer.is_closing():
                await client.send(b"2\r\n{}\r\n")
        await asyncio.sleep(0.1)


async def test_a_body_that_nobody_reads_has_a_size() -> None:
    """413, whatever the page does with it; and the connection is closed."""
    async with listening(echo=False) as door:
        for path in ("/nothing", "/registry/subjects/x", "/livez"):
            client = await door.connect()
            await client.send(head("Content-Length: 100000000", path=path) + b"x" * 1_100_000)
            assert await client.answers(1) == [413]
            assert await client.is_closed(5)


async def test_a_slow_body_of_a_page_is_told_so() -> None:
    """408, as at a hook; a body that is there in time gets the page's own answer."""
    async with listening(echo=False, **SLOW) as door:
        client = await door.connect()
        await client.send(head("Content-Length: 10", path="/nothing") + b"{")
        assert await client.answers(1) == [408]
        client = await door.connect()
        await client.send(head("Content-Length: 2", path="/nothing") + b"{")
        await asyncio.sleep(0.05)
        assert await client.exchange(b"}") == [404]


async def test_slow_headers_have_a_deadline_from_the_first_byte_on() -> None:
    """Of the first request of a connection, and of a later one."""
    async with listening(**SLOW) as door:
        clients = [await door.connect() for _ in range(3)]
        await clients[1].send(b"POST")
        await clients[2].send(head("Content-Length: 0"))
        assert await clients[2].answers(1) == [200]
        await clients[2].send(b"POST")
        assert all(await asyncio.gather(*[client.is_closed(5) for client in clients]))
        assert door.refused("header_timeout") == 3


async def test_who_does_not_read_answers_is_cut_off() -> None:
    """Also when the last answer was to close the connection: closing waits for nobody for ever."""
    request = head(path="/hooks/" + "a" * 8_000, method="GET")
    async with listening(**SLOW) as door:
        client = await door.connect()
        sending = asyncio.create_task(_send_much(client, request))
        async with asyncio.timeout(20):
            while not door.refused("answer_timeout"):  # noqa: ASYNC110 - bounded above
                await asyncio.sleep(0.02)
        sending.cancel()
        client.writer.close()


async def _send_much(client: Client, request: bytes) -> None:
    for _ in range(100_000):
        await client.send(request)
        await asyncio.sleep(0)


async def slow_ones(door: Listening, count: int, path: str) -> list[Client]:
    """Clients in the middle of a body."""
    clients = [await door.connect() for _ in range(count)]
    for client in clients:
        await client.send(head("Content-Length: 100", path=path) + b"{")
    return clients


@pytest.mark.parametrize("path", ["/hooks/news", "/registry/subjects/x", "/nothing"])
async def test_slow_ones_do_not_shut_out_honest_ones(path: str) -> None:
    """More of them than there is room, all the while, from the same address: every post is kept."""
    async with listening(echo=False, connections_max=30) as door:
        slow = await slow_ones(door, 35, path)
        for _ in range(10):
            assert await (await door.connect()).exchange(HONEST) == [200]
            slow += await slow_ones(door, 3, path)
        assert door.refused("displaced") >= 5
        assert door.refused("too_many") == 0


async def test_a_connection_that_proved_itself_outlives_strangers() -> None:
    """It stays open while those that never did come and go."""
    async with listening(echo=False, connections_max=10) as door:
        honest = await door.connect()
        await honest.send(HONEST)
        assert await honest.answers(1) == [200]
        await slow_ones(door, 25, "/hooks/news")
        assert await honest.exchange(HONEST) == [200]


async def test_a_connection_that_is_worked_for_is_not_displaced() -> None:
    """Where all are, newcomers are turned away."""
    async with listening(connections_max=5) as door:
        door.gate.clear()
        working = [await door.connect() for _ in range(5)]
        for client in working:
            await client.send(head("Content-Length: 0"))
        await asyncio.sleep(0.05)
        assert await (await door.connect()).is_closed()
        assert door.refused("too_many") == 1
        door.gate.set()
        assert [await client.answers(1) for client in working] == [[200]] * 5


async def test_a_client_has_a_number_of_connections_and_a_trusted_proxy_has_not() -> None:
    """The client's own waiting ones go for its new ones."""
    async with listening(connections_per_client_max=5) as door:
        clients = [await door.connect() for _ in range(8)]
        await asyncio.sleep(0.05)
        assert door.refused("displaced") == 3
        assert await clients[7].exchange(head("Content-Length: 0")) == [200]
    async with listening(connections_per_client_max=5, trusted_proxies="127.0.0.1") as door:
        clients = [await door.connect() for _ in range(8)]
        await asyncio.sleep(0.05)
        assert door.refused("displaced") == 0


async def test_the_answer_to_a_broken_request_is_not_waited_for() -> None:
    """A client that sends junk and reads nothing holds no connection."""
    async with listening(**SLOW) as door:
        assert statuses(await door.say(b"junk\r\n\r\n")) == [400]
        client = await door.connect()
        await client.send(b"junk\r\n\r\n")
        assert await client.is_closed(5)
        assert door.metric("mailpulse_ingest_connections") <= 1
