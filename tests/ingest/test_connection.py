"""One connection, byte by byte, on real sockets: what is taken, refused, cut off."""

import asyncio

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.connection import REQUESTS_AHEAD_MAX
from schemas.serving.reading import HEADERS_MAX
from tests.ingest.sockets import Seen, head, listening, statuses

CHUNKED = head("Transfer-Encoding: chunked", "Trailer: X-Forwarded-For")
HOST = (b"host", b"localhost")
WHOLE = head("Content-Length: 2") + b"{}"
SMUGGLED = head("X-Forwarded-For: 203.0.113.9", "Content-Length: 2", path="/hooks/smuggled") + b"{}"


@pytest.mark.parametrize("apart", [False, True])
async def test_trailers_are_no_headers(apart: bool) -> None:
    """In one piece with their request, or a moment later: dropped and counted."""
    parts = [CHUNKED, b"2\r\n{}\r\n0\r\nX-Forwarded-For: 203.0.113.9\r\nX-Key: k\r\n\r\n"]
    async with listening() as door:
        came = await door.say(*(parts if apart else [b"".join(parts)]))
        assert statuses(came) == [200]
        [seen] = door.seen
        assert [name for name, _ in seen.headers] == [b"host", b"transfer-encoding", b"trailer"]
        assert door.metric("mailpulse_ingest_trailers_dropped_total") == 2


async def test_the_next_request_has_its_own_headers_again() -> None:
    """On the connection that a request with trailers was on."""
    async with listening() as door:
        await door.say(CHUNKED + b"0\r\nX-A: 1\r\n\r\n" + head("X-B: 2", "Content-Length: 0"))
        assert [len(seen.headers) for seen in door.seen] == [3, 3]
        assert door.seen[1].headers[1] == (b"x-b", b"2")


async def test_small_chunks_are_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as come in one read: with each alone uvicorn copies what came before it."""
    added: list[int] = []
    add = HttpToolsProtocol.on_body

    def counting(protocol: HttpToolsProtocol, body: bytes) -> None:
        added.append(len(body))
        add(protocol, body)

    monkeypatch.setattr(HttpToolsProtocol, "on_body", counting)
    body = bytes(range(256)) * 200
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in body)
    async with listening() as door:
        came = await door.say(CHUNKED + chunks + b"0\r\n\r\n")
        assert statuses(came) == [200]
        assert door.seen[0].body == body
        assert sum(added) == len(body)
        assert len(added) < len(body) / 100


async def test_headers_have_a_number() -> None:
    """Short ones too, of which 64 kB hold 16,000; none of their work is done."""
    async with listening() as door:
        lines = [f"X-{number}:" for number in range(HEADERS_MAX - 2)]
        came = await door.say(head("Content-Length: 0", *lines))
        assert statuses(came) == [200]
        came = await door.say(head("Content-Length: 0", *lines, "X:"))
        assert statuses(came) == [431]
        assert len(door.seen) == 1
        assert door.refused("too_many_headers") == 1


ENDLESS = {
    "trailers": (b"2\r\n{}\r\n0\r\n", b"X-A: " + b"a" * 900 + b"\r\n"),
    "one trailer's value": (b"2\r\n{}\r\n0\r\nX-A: ", b"a" * 900),
    "one trailer's name": (b"2\r\n{}\r\n0\r\n", b"a" * 900),
    "a chunk's extension": (b"2;a=", b"a" * 900),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_stands_around_a_body_has_a_size(name: str) -> None:
    """The framing of a body is bounded as headers are; the connection is cut off."""
    begin, more = ENDLESS[name]
    async with listening(header_bytes_max=10_000) as door:
        client = await door.connect()
        await client.send(CHUNKED + begin)
        for _ in range(2_000):
            await client.send(more)
            await asyncio.sleep(0)
            if client.reader.at_eof() or client.writer.is_closing():
                break
        else:
            raise AssertionError("1.8 MB were taken")
        assert await client.is_closed()
        assert door.refused("framing_too_large") == 1
        assert not door.seen


async def test_headers_without_end_are_cut_off() -> None:
    """At their size, before their time."""
    async with listening(header_bytes_max=10_000) as door:
        client = await door.connect()
        await client.send(b"POST /hooks/news HTTP/1.1\r\n")
        for _ in range(20):
            await client.send(b"X-A: " + b"a" * 900 + b"\r\n")
            await asyncio.sleep(0.005)
        assert await client.is_closed()
        assert door.refused("header_too_large") == 1


AMBIGUOUS: dict[str, tuple[bytes, int]] = {
    "both lengths": (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "both, the other way": (
        head("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n", 400,
    ),
    "two lengths": (head("Content-Length: 2", "Content-Length: 3") + b"{}", 400),
    "one length twice": (head("Content-Length: 2", "Content-Length: 2") + b"{}", 400),
    "a list of lengths": (head("Content-Length: 2, 2") + b"{}", 400),
    "a signed length": (head("Content-Length: +2") + b"{}", 400),
    "a negative length": (head("Content-Length: -2") + b"{}", 400),
    "a length beyond 64 bits": (head("Content-Length: 99999999999999999999") + b"{}", 400),
    "space before the colon": (head("Transfer-Encoding : chunked", "Content-Length: 2"), 400),
    "no length at all": (head("Transfer-Encoding: identity", "Content-Length: 2") + b"{}", 400),
    "an empty coding": (head("Transfer-Encoding:", "Content-Length: 2") + b"{}", 400),
    "an unknown coding": (head("Transfer-Encoding: xchunked") + b"0\r\n\r\n", 501),
    "a coding below chunked": (head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    "a coding above chunked": (head("Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (
        head("Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0") + b"0\r\n\r\n", 400,
    ),
    "chunked twice": (
        head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400,
    ),
    "two hosts": (head("Host: other", "Content-Length: 2") + b"{}", 400),
    "no host": (b"POST /hooks/news HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a folded line": (head("X-A: b\r\n c", "Content-Length: 2") + b"{}", 400),
    "a folded coding": (head("Transfer-Encoding:\r\n chunked", "Content-Length: 2") + b"{}", 400),
    "a line before the headers": (
        b"POST /hooks/news HTTP/1.1\r\n Host: a\r\nContent-Length: 0\r\n\r\n", 400,
    ),
    "bare line feeds": (b"POST /hooks/news HTTP/1.1\nHost: a\nContent-Length: 0\n\n", 400),
    "a bare carriage return": (head("X-A: a\rb", "Content-Length: 0"), 400),
    "a NUL": (head("X-A: a\0b", "Content-Length: 0"), 400),
    "no name": (head(": v", "Content-Length: 0"), 400),
    "a chunk ended by a line feed": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 400),
    "a chunk in 0x": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400),
    "a negative chunk": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk beyond 64 bits": (CHUNKED + b"fffffffffffffffff2\r\n{}\r\n0\r\n\r\n", 400),
    "space behind a chunk's size": (CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n", 400),
    "a chunk longer than it says": (CHUNKED + b"2\r\n{}xx0\r\n\r\n", 400),
    "an upgrade to HTTP/2": (
        head("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(SMUGGLED)}"), 400,
    ),
    "an upgrade to WebSocket": (
        head("Connection: Upgrade", "Upgrade: websocket", method="GET"), 400,
    ),
    "CONNECT": (b"CONNECT door:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /hooks/news\r\n\r\n", 505),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a request of HTTP/2.0": (b"GET /hooks/news HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "a version that is none": (b"GET /hooks/news HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400),
    "a path that is no ASCII": (b"GET /hooks/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target without a path": (b"GET http://evil HTTP/1.1\r\nHost: a\r\n\r\n", 400),
}  # fmt: skip
"""What two parsers could take for two things -> the status it gets."""


async def test_what_could_be_read_in_two_ways_is_refused() -> None:
    """One answer, a problem document, and nothing that follows on the connection is read."""
    async with listening() as door:
        came = await door.say_each(
            {k: (request, SMUGGLED) for k, (request, _) in AMBIGUOUS.items()}
        )
        assert {k: statuses(one) for k, one in came.items()} == {
            k: [status] for k, (_, status) in AMBIGUOUS.items()
        }
        for one in came.values():
            assert b"application/problem+json" in one
            assert b"connection: close" in one
        assert not door.seen


TAKEN: dict[str, tuple[bytes, Seen]] = {
    "an absolute target": (
        b"POST http://x/hooks/news?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        Seen("POST", "/hooks/news", (HOST, (b"content-length", b"2")), b"{}"),
    ),
    "underscores are no dashes": (
        head("X_Forwarded_For: 203.0.113.9", "Content-Length: 0"),
        Seen("POST", "/hooks/news", (
            HOST, (b"x_forwarded_for", b"203.0.113.9"), (b"content-length", b"0"),
        ), b""),
    ),
    "a chunk's extension": (
        head("Transfer-Encoding: Chunked") + b"2;a=b\r\n{}\r\n0;c\r\n\r\n",
        Seen("POST", "/hooks/news", (
            HOST, (b"transfer-encoding", b"Chunked"),
        ), b"{}"),
    ),
    "HTTP/1.0 without a host": (
        b"GET /hooks/news HTTP/1.0\r\n\r\n", Seen("GET", "/hooks/news", (), b""),
    ),
    "empty lines before it": (
        b"\r\n\r\n" + head(method="GET"), Seen("GET", "/hooks/news", (HOST,), b""),
    ),
    "a fragment": (
        head(method="GET", path="/hooks/news#x"),
        Seen("GET", "/hooks/news", (HOST,), b""),
    ),
    "an empty value is the end of its name": (
        head("X-Forwarded-:", "For: 203.0.113.9", method="GET"),
        Seen("GET", "/hooks/news", (
            HOST, (b"x-forwarded-", b""), (b"for", b"203.0.113.9"),
        ), b""),
    ),
}  # fmt: skip


async def test_what_is_unusual_and_clear_is_taken() -> None:
    """As the specification says it is to be read."""
    async with listening() as door:
        for request, seen in TAKEN.values():
            assert (await (await door.connect()).exchange(request)) == [200]
            assert door.seen.pop() == seen


async def test_a_target_with_two_slashes_names_no_host() -> None:
    """It is a path, and there is nothing at it."""
    async with listening() as door:
        came = await door.say(head(path="//door/hooks/news", method="GET"))
        assert statuses(came) == [404]
        assert not door.seen


async def test_who_waits_for_a_100_gets_it_before_the_answer() -> None:
    """And nobody else does."""
    async with listening() as door:
        came = await door.say(head("Expect: 100-continue", "Content-Length: 2"), b"{}")
        assert came.startswith(b"HTTP/1.1 100 ")
        assert statuses(came) == [200]
        assert b" 100 " not in await door.say(WHOLE)


@pytest.mark.parametrize("held", [False, True])
async def test_complete_requests_are_answered_whatever_comes_behind(held: bool) -> None:
    """Theirs first, in order, then the refusal; also when they were still worked on then."""
    async with listening() as door:
        if held:
            door.gate.clear()
        client = await door.connect()
        await client.send(WHOLE + WHOLE + b"NO HTTP\r\n\r\n")
        await asyncio.sleep(0.1)
        door.gate.set()
        assert statuses(await client.rest()) == [200, 200, 400]


async def test_a_broken_body_in_line_does_not_cost_those_before_it() -> None:
    """It is refused behind their answers."""
    async with listening() as door:
        door.gate.clear()
        client = await door.connect()
        await client.send(WHOLE + CHUNKED + b"2\r\n{}\r\n")
        await client.send(b"zz\r\n")
        await asyncio.sleep(0.1)
        door.gate.set()
        assert statuses(await client.rest()) == [200, 400]
        assert len(door.seen) == 1


async def test_nothing_is_read_behind_the_last_request_of_a_connection() -> None:
    """One that says ``Connection: close`` is the last."""
    async with listening() as door:
        came = await door.say(head("Connection: close", "Content-Length: 2") + b"{}" + SMUGGLED)
        assert statuses(came) == [200]
        assert len(door.seen) == 1


async def test_requests_sent_ahead_are_answered_in_order_and_bounded() -> None:
    """As many as the limit at once; with more of them those are answered, and no more is read."""
    request = head(method="GET")
    async with listening() as door:
        client = await door.connect()
        await client.send(request * REQUESTS_AHEAD_MAX)
        assert await client.answers(REQUESTS_AHEAD_MAX) == [200] * REQUESTS_AHEAD_MAX
        door.gate.clear()
        await client.send(request * 20_000)
        await asyncio.sleep(0.2)
        door.gate.set()
        ends = statuses(await client.rest())
        assert ends == [200] * (REQUESTS_AHEAD_MAX + 1) + [429]
        assert door.refused("too_many_ahead") == 1


async def test_where_the_bytes_are_cut_makes_no_difference() -> None:
    """A request with trailers and one behind it, cut at each place: the same two requests."""
    stream = CHUNKED + b"2;a=b\r\n{}\r\n0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n" + WHOLE
    async with listening() as door:

        async def say(cut: int) -> list[int]:
            client = await door.connect()
            await client.send(stream[:cut])
            await asyncio.sleep(0.05)
            return await client.exchange(stream[cut:], 2)

        cuts = range(1, len(stream))
        assert await asyncio.gather(*map(say, cuts)) == [[200, 200]] * len(cuts)
        assert {(len(seen.headers), seen.body) for seen in door.seen} == {(3, b"{}"), (2, b"{}")}
        assert door.metric("mailpulse_ingest_trailers_dropped_total") == len(cuts)


async def test_a_refusal_of_head_has_no_body() -> None:
    """RFC 9110 §9.3.2; that of another method on the same connection has one."""
    async with listening() as door:
        came = await door.say(head("Host: other", method="HEAD"))
        assert statuses(came) == [400]
        assert came.endswith(b"\r\n\r\n")
        came = await door.say(head(method="HEAD") + head("Host: other", method="GET"))
        assert statuses(came) == [200, 400]
        assert came.endswith(b"}")
