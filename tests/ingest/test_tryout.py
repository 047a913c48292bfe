"""What the command line asks of ingress: captured requests, samples, sources."""

import asyncio
import gzip
from typing import Any

import httpx
import orjson
import pytest

from ingest.providers import REGISTRY as REAL
from ingest.providers import check_sources
from ingest.providers.base import Request
from ingest.tryout import check_request, sample_for, send_test
from schemas.serving.origin import Networks
from schemas.settings import Settings
from tests.ingest.front_door import KEY, NOW, REGISTRY, front_door, source
from tests.ingest.keys import example


def request(body: bytes, *headers: tuple[str, str]) -> Request:
    """A captured request."""
    return Request("POST", "", headers, body, "127.0.0.1")


GOOD = orjson.dumps([{"id": "m1"}, {}])


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (GOOD, [("x-key", KEY)], 200, "accepted"),
        (gzip.compress(GOOD), [("x-key", KEY), ("content-encoding", "gzip")], 200, "accepted"),
        (b"no json", [("x-key", KEY)], 200, "accepted"),
        (GOOD, [("x-key", "no")], 401, "wrong_key"),
        (GOOD, [("x-certificate", "1")], 503, "needs_certificate"),
        (GOOD, [("content-encoding", "gzip"), ("x-key", KEY)], 400, "content_broken"),
        (GOOD, [("content-encoding", "gzip")], 401, "wrong_key"),
        (GOOD, [("content-encoding", "zstd")], 415, "content_coding"),
        (b"[" * 200 + b"]" * 200, [("x-key", KEY)], 413, "too_deep"),
        (b"x" * 6_000_000, [("x-key", KEY)], 413, "body_too_large"),
        (orjson.dumps([{"id": "m"}] * 101), [("x-key", KEY)], 413, "too_many_events"),
    ],
)
async def test_the_verdict_offline_is_the_answer_online(
    body: bytes, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    """The same status; offline it also says what was wrong."""
    limits: dict[str, Any] = {"events_per_request_max": 100}
    verdict = check_request(
        source(), request(body, *headers), NOW, registry=REGISTRY, settings=Settings(**limits)
    )
    assert (verdict.status, verdict.code, verdict.accepted) == (status, code, status == 200)
    offline = httpx.MockTransport(lambda _: httpx.Response(500))
    from ingest.certificates import Outgoing

    async with front_door(parts={"outgoing": Outgoing(lambda: 0.0, offline)}, **limits) as door:
        answer = await door.client.post("/hooks/news", content=body, headers=headers)
        assert answer.status_code == status
        if status == 200:
            counts = {"accepted": len(verdict.events), "rejected": len(verdict.rejects)}
            assert answer.json() == counts
            assert [e["event_id"] for e in door.log.events()] == [
                e["event_id"] for e in verdict.events
            ]


def test_a_verdict_is_plain_values() -> None:
    """For ``--json``."""
    verdict = check_request(source(), request(GOOD, ("x-key", KEY)), NOW, registry=REGISTRY)
    shown = orjson.loads(orjson.dumps(verdict.as_json()))
    assert shown["events"][0]["source"] == "news"
    assert shown["rejects"] == [{"reason": "no_id", "detail": "", "content": "{}"}]


async def test_a_sample_is_sent_and_its_answer_reported() -> None:
    """By the address of the ingress or of the hook; the event that arrives is the one named."""
    async with front_door() as door:
        transport = httpx.ASGITransport(door.app)
        for url in ("http://door", "http://door/", "http://door/hooks/news"):
            result = await send_test(url, source(), registry=REGISTRY, transport=transport)
            assert result.ok, result
            assert door.log.events()[-1]["event_id"] == result.event_ids[0]
        other = source(secret=("other",))
        result = await send_test("http://door", other, registry=REGISTRY, transport=transport)
        assert (result.ok, result.status) == (False, 401)


async def test_no_answer_is_reported_not_raised() -> None:
    """For a terminal."""

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    result = await send_test(
        "http://door", source(), registry=REGISTRY, transport=httpx.MockTransport(away)
    )
    assert (result.status, result.body) == (0, "ConnectError")


@pytest.mark.parametrize("name", sorted(REAL))
def test_samples_of_every_provider_are_accepted_offline(name: str) -> None:
    """What ``send-test`` sends is what ``check`` accepts."""
    one = example(name)
    sample = REAL[name].sample(one.source, NOW, 7, one.signing_key)
    verdict = check_request(one.source, sample, NOW, certificates=one.certificates)
    assert (verdict.accepted, len(verdict.events), verdict.rejects) == (True, 1, ())


def test_problems_of_sources_are_all_named() -> None:
    """Unknown providers, and what a provider misses."""
    problems = check_sources({"a": source("a", provider="nobody"), "b": source("b", secret=())})
    assert len(problems) == 2
    assert problems[0].startswith("sources.a.provider: no provider 'nobody'")
    assert problems[1].startswith("sources.b")
    assert check_sources({"news": source()}, registry=REGISTRY) == []


async def test_a_sample_from_a_trusted_proxys_own_machine_says_so() -> None:
    """The ingress would take it for one of the proxy's clients, whom the proxy did not name."""
    async with front_door(trusted_proxies=("127.0.0.1",)) as door:
        for trusted, status in ((None, 403), (Networks(("127.0.0.1",)), 200)):
            result = await send_test(
                "http://127.0.0.1:8080", source(), registry=REGISTRY, now=NOW, trusted=trusted,
                transport=httpx.ASGITransport(door.app, client=("127.0.0.1", 40_000)),
            )  # fmt: skip
            assert result.status == status


def test_a_sample_goes_where_its_token_is() -> None:
    """A token of the path or the query is part of the address that it is sent to."""
    for place, tail in (("path", "/a%2Fb"), ("query:key", "?key=a%2Fb")):
        source = example("generic", secret=(), token=("a/b",), mapping={"token": place}).source
        assert sample_for("https://e.example", source, NOW, 1)[0] == (
            f"https://e.example/hooks/generic{tail}"
        )


@pytest.mark.parametrize("url", ["http://[::1", "http://a b/", "nowhere", "ftp://a.example"])
async def test_a_url_that_is_none_is_no_answer(url: str) -> None:
    """And no traceback."""
    assert (await send_test(url, source(), registry=REGISTRY, now=NOW)).status == 0


async def test_what_is_on_this_machine_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy of the environment is for the network; it would get the signed sample."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    taken: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        for host in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
            assert (
                await send_test(f"http://{host}", source(), registry=REGISTRY, now=NOW)
            ).status == 0
        assert taken == []
        away = await send_test("http://ingress.invalid", source(), registry=REGISTRY, now=NOW)
    assert away.status == 204
    assert len(taken) == 1
