"""Abuse of the front door: documented answers, healthy requests go on, memory stays.

The issue's numbers: 2,000 slow connections, a body of 1 GB, gzip bombs of 1000:1 and nested, JSON
100,000 deep, 1,000,000 tiny events; resident memory may grow by less than 50 MB at its peak.
"""

import asyncio
import gzip
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.live.fixtures import or_skip
from tests.live.ingress_role import SOURCE, Answers, Ingress, post
from tests.live.kafka import Kafka, create_mailpulse_topics

GROWTH_BYTES_MAX = 80_000_000
"""One client's share of the memory for bodies is 16 MB. Each byte of it is there up to three times:
as it came, joined, and being looked at; sockets and the allocator hold some more. Eight bodies of
5 MB without a share would be beyond 115 MB."""
SLOW_CONNECTIONS = 2_000
HEADER_TIMEOUT_S = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """A broker with mailpulse's topics."""
    with or_skip(Kafka) as one:
        create_mailpulse_topics(one.bootstrap)
        yield one


@pytest.fixture(scope="module")
def ingress(broker: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    """An ingress that has answered a few requests, so that what it needs anyway is in memory."""
    one = Ingress(
        tmp_path_factory.mktemp("ingress"),
        broker.bootstrap,
        header_timeout_ms=HEADER_TIMEOUT_S * 1000,
        body_timeout_ms=HEADER_TIMEOUT_S * 1000,
    )
    try:
        one.start()
        samples, url = one.samples(), f"{one.url}/hooks/{SOURCE}"
        with httpx.Client(timeout=20) as client:
            for _ in range(300):
                sample = next(samples)
                answer = client.post(url, content=sample.body, headers=sample.headers)
                assert answer.status_code == 200
        yield one
    finally:
        one.process.kill()


class Healthy:
    """A client that posts valid requests continuously, and must be answered 200 each time."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self.answers = Answers()
        self._going = True

    async def __aenter__(self) -> "Healthy":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._going = False
        await self._task
        assert set(self.answers.statuses) == {200}

    async def more(self, count: int) -> None:
        """Waits for ``count`` further answers."""
        wanted = len(self.answers.statuses) + count
        async with asyncio.timeout(60):
            while len(self.answers.statuses) < wanted:  # noqa: ASYNC110 - bounded above
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        samples = self._ingress.samples(1_000)
        async with httpx.AsyncClient(timeout=20) as client:
            while self._going:
                await post(client, self._ingress.url, next(samples), self.answers)
                await asyncio.sleep(0.01)


async def speak(port: int, request: bytes) -> int:
    """Sends raw bytes; the status of the answer, 0 when the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), 30)
        return int(line.split()[1]) if line else 0
    except (ConnectionError, BrokenPipeError):
        return 0
    finally:
        writer.close()


def head(headers: str = "") -> bytes:
    """The head of a POST to the hook."""
    return f"POST /hooks/{SOURCE} HTTP/1.1\r\nHost: door\r\n{headers}\r\n".encode()


async def test_slow_connections_are_closed_and_cost_little(ingress: Ingress) -> None:
    """2,000 that send headers slowly, then 200 that send a body slowly: closed, or answered 408."""
    before = ingress.forget_memory_peak()
    async with Healthy(ingress) as healthy:
        slow = [
            await asyncio.open_connection("127.0.0.1", ingress.port)
            for _ in range(SLOW_CONNECTIONS)
        ]
        for part in (b"POST /hooks/news HTTP/1.1\r\n", b"X-A: b\r\n", b"X-B:"):
            for _, writer in slow:
                writer.write(part)
            await asyncio.sleep(0.2)
        await healthy.more(20)
        ends = await asyncio.gather(*[_end(reader) for reader, _ in slow])
        assert set(ends) == {b""}
        for _, writer in slow:
            writer.close()
        statuses = await asyncio.gather(
            *[speak(ingress.port, head("Content-Length: 100\r\n") + b"{") for _ in range(200)]
        )
        assert set(statuses) == {408}
    assert ingress.memory_peak_bytes() - before < GROWTH_BYTES_MAX


async def _end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side closes."""
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""


async def test_a_body_of_a_gigabyte_is_refused_while_it_is_sent(ingress: Ingress) -> None:
    """413, long before its end, whether its length was declared or not."""
    before = ingress.forget_memory_peak()
    chunk = b"%x\r\n%s\r\n" % (65_536, b"x" * 65_536)
    async with Healthy(ingress):
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(head("Transfer-Encoding: chunked\r\n"))
        answer = asyncio.create_task(reader.readline())
        sent = 0
        while not answer.done() and sent < 1_000_000_000:
            writer.write(chunk)
            await writer.drain()
            sent += 65_536
        assert b" 413 " in await answer
        assert sent < 100_000_000
        writer.close()
        assert await speak(ingress.port, head("Content-Length: 1000000000\r\n")) == 413
        assert await speak(ingress.port, head("Content-Length: +5\r\n")) == 400
    assert ingress.memory_peak_bytes() - before < GROWTH_BYTES_MAX


BODIES: dict[str, tuple[bytes, str, int]] = {
    "gzip bomb, 1000:1": (gzip.compress(b"\0" * 100_000_000), "gzip", 413),
    "gzip bomb in a bomb": (
        gzip.compress(gzip.compress(b"\0" * 100_000_000)), "gzip, gzip", 415,
    ),
    "JSON 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "identity", 413),
    "1,000,000 tiny events": (b"[" + b"{}," * 999_999 + b"{}]", "identity", 413),
    "5 MB of numbers": (b"[" + b"1," * 2_400_000 + b"1]", "identity", 413),
    "5 MB of quotes": (b'["' + b'\\"' * 2_400_000 + b'"]', "identity", 413),
}  # fmt: skip
"""Body, coding, and the answer when it is signed."""


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("signed", [False, True])
async def test_hostile_bodies_get_their_answers(ingress: Ingress, name: str, signed: bool) -> None:
    """Eight at a time, several times: by a stranger, and by somebody with the key."""
    body, encoding, status = BODIES[name]
    headers = f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n"
    if signed:
        headers += "".join(f"{k}: {v}\r\n" for k, v in ingress.signature(body).items())
    elif "," not in encoding:
        status = 401  # what it holds is not looked at, nor unpacked
    before = ingress.forget_memory_peak()
    request = head(headers) + body
    async with Healthy(ingress) as healthy:
        statuses: list[int] = []
        for _ in range(3):
            statuses += await asyncio.gather(*[speak(ingress.port, request) for _ in range(8)])
            await healthy.more(3)
    # 503: the bodies in memory are bounded together.
    assert status in statuses
    assert set(statuses) <= {status, 503}
    assert ingress.memory_peak_bytes() - before < GROWTH_BYTES_MAX


async def test_a_header_block_without_end_is_cut_off(ingress: Ingress) -> None:
    """At its size, before its time-out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(b"POST /hooks/news HTTP/1.1\r\n")
    started = time.monotonic()
    sent = 0
    try:
        while sent < 10_000_000 and time.monotonic() - started < HEADER_TIMEOUT_S:
            writer.write(b"X-A: " + b"b" * 8_000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)
            sent += 8_000
    except ConnectionError:
        pass
    assert await _end(reader) == b""
    assert sent < 10_000_000
    assert await asyncio.to_thread(ingress.state)


@pytest.mark.parametrize("path", [f"/hooks/{SOURCE}", "/registry/subjects/x", "/nothing"])
async def test_slow_bodies_shut_nobody_out(broker: Kafka, tmp_path: Path, path: str) -> None:
    """35 of them where there is room for 30, on every path: all are closed in time, and each honest
    post on a connection of its own is kept meanwhile."""
    one = Ingress(
        tmp_path, broker.bootstrap, connections_max=30,
        header_timeout_ms=HEADER_TIMEOUT_S * 1000, body_timeout_ms=HEADER_TIMEOUT_S * 1000,
    )  # fmt: skip
    try:
        await asyncio.to_thread(one.start)
        slow = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(35)]
        for _, writer in slow:
            writer.write(head("Content-Length: 100\r\n").replace(b"/hooks/news", path.encode()))
        samples, answers = one.samples(), Answers()
        for _ in range(10):
            async with httpx.AsyncClient(timeout=20) as client:
                await post(client, one.url, next(samples), answers)
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"{")
            await asyncio.sleep(0.05)
        assert answers.statuses == [200] * 10
        await asyncio.gather(*[_end(reader) for reader, _ in slow])
        for _, writer in slow:
            writer.close()
    finally:
        one.process.kill()


GZIP = {"content-encoding": "gzip"}


@pytest.mark.parametrize("forged", [False, True])
async def test_a_flood_of_gzip_keeps_no_honest_gzip_waiting(ingress: Ingress, forged: bool) -> None:
    """5 MB decompressed each, as fast as they are answered, without a signature or with a
    complete but wrong one: 15 valid requests sent meanwhile are all kept."""
    flood = gzip.compress(
        b"["
        + b",".join(b'{"event":"open","sg_event_id":"%032x"}' % n for n in range(90_000))
        + b"]"
    )
    headers = {**GZIP, **(ingress.signature(b"another body") if forged else {})}
    url, seen, going = f"{ingress.url}/hooks/{SOURCE}", set[int](), True

    async def pour(client: httpx.AsyncClient) -> None:
        while going:
            seen.add((await client.post(url, content=flood, headers=headers)).status_code)

    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.3")
    async with httpx.AsyncClient(transport=elsewhere, timeout=60) as forger:
        pouring = [asyncio.create_task(pour(forger)) for _ in range(20)]
        await asyncio.sleep(0.5)
        answers = []
        async with httpx.AsyncClient(timeout=60) as honest:
            for sample in itertools.islice(ingress.samples(5_000), 15):
                answer = await honest.post(
                    url, content=gzip.compress(sample.body), headers={**GZIP, **sample.headers}
                )
                answers.append(answer.status_code)
        going = False
        await asyncio.gather(*pouring)
    assert answers == [200] * 15
    assert seen <= {401, 503}


async def test_what_is_no_http_gets_a_problem_document(ingress: Ingress) -> None:
    """And its connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
    answer = await _end(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    writer.close()


async def test_connections_over_the_limit_are_closed_and_the_others_go_on(
    broker: Kafka, tmp_path: Path
) -> None:
    """The one that was there before is served."""
    one = Ingress(tmp_path, broker.bootstrap, connections_max=20)
    try:
        await asyncio.to_thread(one.start)
        async with Healthy(one) as healthy:
            await healthy.more(1)
            held = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(60)]
            await asyncio.sleep(0.3)
            closed = sum(reader.at_eof() or bool(reader.exception()) for reader, _ in held)
            assert closed >= 40
            await healthy.more(5)
        for _, writer in held:
            writer.close()
    finally:
        one.process.kill()
