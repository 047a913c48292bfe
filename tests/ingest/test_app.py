"""The front door from outside: every answer, and what was kept for it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import brotli
import httpx
import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ingest.certificates import Outgoing
from ingest.parcel import Parcel
from schemas.event import message_key
from schemas.settings import Settings
from tests.ingest.front_door import (
    CERTIFICATE_URL,
    KEY,
    NOW,
    MemoryLog,
    front_door,
    source,
)

EVENTS = [{"id": "m1"}, {"id": "m2"}]


def code_of(answer: httpx.Response) -> str:
    """The code of a problem document, after a look at its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == answer.status_code
    assert set(content) == {"type", "title", "status", "detail", "code"}
    return str(content["code"])


async def test_200_comes_after_every_event_is_kept() -> None:
    """Events are encoded, keyed and stamped with the time of receipt, in their order."""
    async with front_door() as door:
        answer = await door.post(EVENTS)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "rejected": 0})
        events = door.log.events()
        assert [e["message_id"] for e in events] == ["m1", "m2"]
        assert {e["source"] for e in events} == {"news"}
        assert {e["received_at"] for e in events} == {int(NOW * 1e6)}
        [parcel] = door.log.parcels
        assert parcel.timestamp_ms == int(NOW * 1000)
        assert [key for key, _ in parcel.events] == [message_key(e) for e in events]  # type: ignore[arg-type]


async def test_a_bad_item_becomes_a_dead_letter_and_its_neighbours_go_through() -> None:
    """Rejects are kept with their bytes; sent again they get the same identity."""
    async with front_door() as door:
        for _ in range(2):
            answer = await door.post([{"id": "m1"}, {"nothing": 1}, {"id": "m2"}])
            assert answer.json() == {"accepted": 2, "rejected": 1}
        first, again = door.log.dead_letters()
        assert first["content"] == b'{"nothing":1}'
        assert (first["reason"], first["stage"], first["source"]) == ("no_id", "ingest", "news")
        assert first["dead_letter_id"] == again["dead_letter_id"]
        assert door.metric(
            "mailpulse_ingest_dead_letters_total", source="news", reason="no_id"
        ) == 2  # fmt: skip


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe", b'"explode"'])
async def test_a_verified_body_that_cannot_be_parsed_is_kept_whole(body: bytes) -> None:
    """Also when the provider's module fails on it: that is our bug, and nobody's loss."""
    async with front_door() as door:
        answer = await door.post(body)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "rejected": 1})
        [letter] = door.log.dead_letters()
        assert letter["content"] == body


async def test_what_the_schema_does_not_hold_is_a_dead_letter() -> None:
    """A value that cannot be encoded costs its event and nothing else."""
    async with front_door() as door:
        answer = await door.post([{"id": "m1", "metadata": {"a": 1}}, {"id": "m2"}])
        assert answer.json() == {"accepted": 1, "rejected": 1}
        [letter] = door.log.dead_letters()
        assert letter["reason"] == "not_encodable"


async def test_every_refused_signature_gets_the_same_answer() -> None:
    """Wrong, empty or missing key, and a provider module that fails: one and the same document."""
    async with front_door() as door:
        answers = [await door.post(EVENTS, key=key) for key in ("wrong", "", "explode")]
        answers.append(await door.client.post("/hooks/news", content=b"[]"))
        assert {a.status_code for a in answers} == {401}
        assert len({a.content for a in answers}) == 1
        assert code_of(answers[0]) == "unauthorized"
        assert not door.log.parcels


async def test_basic_authentication_is_asked_for_where_the_source_uses_it() -> None:
    """SNS sends its credentials only after a challenge."""
    async with front_door(source(username=("u",), password=("p",)), source("plain")) as door:
        assert "basic" in (await door.post(key="no")).headers["www-authenticate"].lower()
        answer = await door.post(key="no", path="/hooks/plain")
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/",
        "/hooks//",
        "/hooks/other",
        "/hooks/news//",
        "/hooks/news/x",
        "/hooks/../news",
        "/x",
    ],
)
async def test_unknown_places_are_not_found(path: str) -> None:
    """The same document for an unknown source and an unknown page."""
    async with front_door() as door:
        answer = await door.post(path=path)
        assert (answer.status_code, code_of(answer)) == (404, "not_found")


async def test_a_slash_at_the_end_of_the_path_is_the_same_place() -> None:
    """Consoles add one; a redirect would lose the event, since providers follow none."""
    async with front_door() as door:
        assert (await door.post(path="/hooks/news/")).status_code == 200
        assert (await door.client.head("/hooks/news/")).status_code == 200


async def test_set_up_calls_are_answered_as_the_provider_says() -> None:
    """Calls that it does not make lead nowhere; other methods are told which are taken."""
    async with front_door() as door:
        head = await door.client.head("/hooks/news")
        assert (head.status_code, head.content) == (200, b"")
        answer = await door.client.get("/hooks/news")
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
        for method in ("PUT", "DELETE", "OPTIONS"):
            answer = await door.client.request(method, "/hooks/news")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_large_bodies_are_refused_while_they_are_read() -> None:
    """By the declared length, and by what really comes when nothing is declared."""
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000
            yield b"x" * 1_000

    async with front_door(body_bytes_max=10_000) as door:
        declared = await door.post(b"x" * 10_001)
        assert (declared.status_code, code_of(declared)) == (413, "body_too_large")
        streamed = await door.client.post("/hooks/news", content=_some(stream(), 2_000))
        assert (streamed.status_code, code_of(streamed)) == (413, "body_too_large")
        assert (await door.post(EVENTS)).status_code == 200


async def _some(stream: AsyncIterator[bytes], parts: int) -> AsyncIterator[bytes]:
    for _ in range(parts):
        yield await anext(stream)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(orjson.dumps(EVENTS))),
        ("br", brotli.compress(orjson.dumps(EVENTS))),
        ("identity", orjson.dumps(EVENTS)),
        ("utf-8", orjson.dumps(EVENTS)),
    ],
)
async def test_packed_bodies_are_taken(encoding: str, packed: bytes) -> None:
    """One content coding, of those that the documents name."""
    async with front_door() as door:
        answer = await door.post(packed, headers={"content-encoding": encoding})
        assert answer.json() == {"accepted": 2, "rejected": 0}


@pytest.mark.parametrize(
    ("encoding", "packed", "status", "code"),
    [
        ("gzip", gzip.compress(b"\0" * 10_000_000), 413, "decompression_ratio"),
        ("br", brotli.compress(b"\0" * 10_000_000), 413, "decompression_ratio"),
        ("gzip", gzip.compress(b"[]")[:-3], 400, "content_broken"),
        ("gzip", b"[]", 400, "content_broken"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"[]")), 415, "content_coding"),
        ("zstd", b"[]", 415, "content_coding"),
    ],
)
async def test_bombs_and_broken_codings_are_refused(
    encoding: str, packed: bytes, status: int, code: str
) -> None:
    """Before anything looks at what is inside."""
    async with front_door() as door:
        answer = await door.post(packed, headers={"content-encoding": encoding})
        assert (answer.status_code, code_of(answer)) == (status, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
        (b"[" + b"{}," * 1_000_000 + b"{}]", "too_many_values"),
        (orjson.dumps([{"id": "m"}] * 10_001), "too_many_events"),
        (orjson.dumps([{"id": "m", "said": "x" * 1_000_000}]), "record_too_large"),
    ],
)
async def test_what_is_too_deep_or_too_much_is_refused(body: bytes, code: str) -> None:
    """A limit of its own for each, and nothing of such a request is kept."""
    async with front_door() as door:
        answer = await door.post(body)
        assert (answer.status_code, code_of(answer)) == (413, code)
        assert not door.log.parcels


@pytest.mark.parametrize(("provider", "status"), [("tiny", 503), ("tiny429", 429)])
async def test_a_source_without_its_secret_is_off_alone(provider: str, status: int) -> None:
    """It is told to send again, whatever it proves; nothing is read, and its neighbour works."""
    off = source("off", provider=provider, secret=(), unset=("sources.off.secret: not set",))
    async with front_door(source(), off) as door:
        for method in ("POST", "GET", "HEAD"):
            answer = await door.client.request(
                method, "/hooks/off", headers={"x-key": KEY}, content=b"[]"
            )
            assert answer.status_code == status
            assert answer.headers["retry-after"]
            assert b"secret" not in answer.content
        assert (await door.post(EVENTS)).status_code == 200
        assert door.log.tried == 1


async def test_a_source_that_is_off_answers_no_more_addresses_than_one_that_is_on() -> None:
    """The order of the steps is the same: who may not post learns nothing of it."""
    allowed = {"allow_ips": ("203.0.113.0/24",)}
    off = source("off", secret=(), unset=("sources.off.secret: not set",), **allowed)
    async with front_door(source("on", **allowed), off) as door:
        answers = [
            await door.client.post(f"/hooks/{name}", content=b"[]") for name in ("on", "off")
        ]
        assert [one.status_code for one in answers] == [403, 403]
        assert answers[0].content == answers[1].content


@pytest.mark.parametrize("provider", ["tiny", "tiny429"])
async def test_no_acknowledgement_is_no_200(provider: str) -> None:
    """Away, slow or full: the status that makes this provider come again, and when."""
    wanted = 503 if provider == "tiny" else 429
    async with front_door(source(provider=provider), ack_timeout_ms=100) as door:
        for trouble in ({"up": False}, {"full": True}, {"delay_s": 9.0}):
            for name, value in {"up": True, "full": False, "delay_s": 0.0, **trouble}.items():
                setattr(door.log, name, value)
            answer = await door.post(EVENTS)
            assert answer.status_code == wanted
            assert int(answer.headers["retry-after"]) > 0
        assert not door.log.parcels


async def test_an_error_of_ours_is_no_500() -> None:
    """The provider is made to come again, and hears nothing of the error."""
    async with front_door(log=MemoryLog(fails=ZeroDivisionError("secret detail"))) as door:
        answer = await door.post(EVENTS)
        assert (answer.status_code, code_of(answer)) == (503, "internal")
        assert b"secret" not in answer.content


async def test_source_addresses_are_checked_before_the_signature() -> None:
    """IPv4 and IPv6 networks; an address outside learns nothing about the key."""
    one = source(allow_ips=("203.0.113.0/24", "2001:db8::/32"))
    for host, status in (("203.0.113.9", 200), ("2001:db8::1", 200), ("198.51.100.1", 403)):
        async with front_door(one, client_host=host, allow_http=True) as door:
            assert (await door.post(EVENTS)).status_code == status


async def test_plain_http_from_elsewhere_is_refused() -> None:
    """Loopback may; others by a trusted proxy that says HTTPS, or by the setting."""
    elsewhere: dict[str, Any] = {"client_host": "203.0.113.9"}
    async with front_door(**elsewhere) as door:
        answer = await door.post(EVENTS, headers={"x-forwarded-proto": "https"})
        assert (answer.status_code, code_of(answer)) == (403, "https_required")
    async with front_door(**elsewhere, allow_http=True) as door:
        assert (await door.post(EVENTS)).status_code == 200
    async with front_door(**elsewhere, trusted_proxies=("203.0.113.9",)) as door:
        forwarded = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https"}
        assert (await door.post(EVENTS, headers=forwarded)).status_code == 200
        forwarded["x-forwarded-proto"] = "http"
        assert (await door.post(EVENTS, headers=forwarded)).status_code == 403


async def test_plain_http_by_a_proxy_of_this_machine_is_refused() -> None:
    """One that is not named as trusted, or that is and does not say who came."""
    chain = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "http"}
    for trusted, headers, status in (
        ((), {}, 200),
        ((), {"via": "1.1 Caddy"}, 403),
        ((), chain, 403),
        ((), chain | {"x-forwarded-proto": "https"}, 403),
        (("127.0.0.1",), {}, 403),
        (("127.0.0.1",), chain, 403),
        (("127.0.0.1",), chain | {"x-forwarded-proto": "https"}, 200),
    ):
        async with front_door(trusted_proxies=trusted) as door:
            assert (await door.post(EVENTS, headers=headers)).status_code == status


async def test_a_path_without_a_source_tells_the_scheme_as_a_hook_does() -> None:
    """A health check through the proxy sees what providers get, without knowing a source."""
    for trusted, status in ((("203.0.113.9",), 404), ((), 403)):
        async with front_door(client_host="203.0.113.9", trusted_proxies=trusted) as door:
            headers = {"x-forwarded-proto": "https"}
            for path in ("/hooks/-", "/hooks/nobody"):
                answer = await door.client.get(path, headers=headers)
                assert answer.status_code == status


async def test_the_log_names_the_proxy_that_is_not_trusted() -> None:
    """An operator whose hooks are all refused reads which address to trust, or what it lacks."""
    for trusted, reason in (
        ((), "plain HTTP from 203.0.113.9, no trusted proxy"),
        (("203.0.113.9",), "plain HTTP from 203.0.113.9"),
        ((), "by a proxy at 127.0.0.1 that is not in MAILPULSE_TRUSTED_PROXIES"),
    ):
        host = next((one for one in ("203.0.113.9",) if one in reason), "127.0.0.1")
        with structlog.testing.capture_logs() as lines:
            async with front_door(client_host=host, trusted_proxies=trusted) as door:
                await door.post(EVENTS, headers={"via": "1.1 proxy"})
        [line] = [one for one in lines if one.get("result") == "https_required"]
        assert line["reason"] == reason


async def test_rate_limits_say_when_to_come_again() -> None:
    """Per source and over all; the refusal carries Retry-After, every answer the count."""
    async with front_door(source(rate_per_s=2), source("other")) as door:
        answers = [await door.post(EVENTS) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert [a.headers["ratelimit"] for a in answers[:2]] == [
            '"source";r=1;t=0', '"source";r=0;t=1',
        ]  # fmt: skip
        assert answers[2].headers["retry-after"] == "1"
        assert (await door.post(EVENTS, path="/hooks/other")).status_code == 200
    async with front_door(source(), source("other"), rate_per_s=1) as door:
        paths = ["/hooks/news", "/hooks/other"]
        assert [(await door.post(EVENTS, path=p)).status_code for p in paths] == [200, 429]


async def test_bodies_in_memory_are_bounded_together() -> None:
    """While one large body is worked on, another one is sent away; then there is room again."""
    async with front_door(bodies_bytes_max=1_000, log=MemoryLog(delay_s=0.2)) as door:
        body = orjson.dumps([{"id": "m", "said": "x" * 17_000}])
        answers = await asyncio.gather(door.post(body), door.post(body), door.post(EVENTS))
        assert sorted(a.status_code for a in answers[:2]) == [200, 503]
        assert answers[2].status_code == 200
        assert (await door.post(body)).status_code == 200


async def test_a_large_body_is_worked_on_like_a_small_one() -> None:
    """Beyond the size at which a thread does it."""
    async with front_door() as door:
        answer = await door.post([{"id": f"m{n}", "said": "x" * 100} for n in range(2_000)])
        assert answer.json() == {"accepted": 2_000, "rejected": 0}
        assert (await door.post(b"x" * 200_000, key="no")).status_code == 401


async def test_a_certificate_is_fetched_once_and_a_subscription_confirmed() -> None:
    """What the provider's protocol asks for, by way of its effects."""
    calls: list[str] = []
    confirmed = asyncio.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(str(request.url))
        if request.url.path == "/confirm":
            confirmed.set()
        return httpx.Response(200, content=b"certificate")

    outgoing = Outgoing(lambda: 0.0, httpx.MockTransport(answer))
    async with front_door(parts={"outgoing": outgoing}) as door:
        for _ in range(2):
            assert (await door.post(EVENTS, headers={"x-certificate": "1"})).status_code == 200
        confirm = "https://sns.example.com/confirm?token=1"
        assert (await door.post({"confirm": confirm})).json() == {"accepted": 0, "rejected": 0}
        await asyncio.wait_for(confirmed.wait(), 5)
        assert calls == [CERTIFICATE_URL, confirm]


async def test_a_certificate_that_cannot_be_had_makes_the_sender_come_again() -> None:
    """Nothing is proven, but nothing is disproven either; failures are not tried at once again."""
    calls = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(500)

    outgoing = Outgoing(lambda: 0.0, httpx.MockTransport(answer))
    async with front_door(parts={"outgoing": outgoing}) as door:
        for _ in range(3):
            assert (await door.post(EVENTS, headers={"x-certificate": "1"})).status_code == 503
    assert calls == 1


@given(body=st.binary(max_size=200), key=st.sampled_from([KEY, "no"]))
def test_any_body_gets_a_documented_answer(body: bytes, key: str) -> None:
    """Never a 500, and what is accepted or rejected is what is kept."""

    async def run() -> None:
        async with front_door() as door:
            answer = await door.post(body, key=key)
            assert answer.status_code == (200 if key == KEY else 401)
            kept = sum(p.count for p in door.log.parcels)
            if answer.status_code == 200:
                assert kept == answer.json()["accepted"] + answer.json()["rejected"]
            else:
                assert kept == 0

    asyncio.run(run())


async def test_a_hook_waits_for_its_own_acknowledgement_only() -> None:
    """Requests do not queue behind one another."""
    log = MemoryLog(delay_s=0.05)
    async with front_door(log=log) as door:
        answers = await asyncio.gather(*[door.post([{"id": f"m{n}"}]) for n in range(50)])
        assert {a.status_code for a in answers} == {200}
        assert len(log.parcels) == 50


def test_a_parcel_knows_its_count_and_size() -> None:
    """What the limits on what is in flight are counted by."""
    parcel = Parcel(1, [(b"k", b"value")], [(b"id", b"letter")])
    assert (parcel.count, parcel.size) == (2, 14)


def test_settings_that_refuse_nonsense() -> None:
    """Networks are networks."""
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings(trusted_proxies="nonsense")
