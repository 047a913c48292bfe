"""Many requests without proof, and a few honest ones of another client.

The trial of the issue: forged posts used up a source's rate, and unsigned gzip the thread.
"""

import asyncio
import gzip
from collections import Counter
from hashlib import sha256

import httpx
import orjson
import pytest

from ingest import verify
from ingest.providers import REGISTRY, mandrill
from ingest.providers import mailersend as mailersend_module
from ingest.providers.base import Request, newest, post
from tests.ingest.front_door import KEY, front_door, source
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW

EVENTS = orjson.dumps([{"id": "m1"}])
LARGE = gzip.compress(
    orjson.dumps([{"id": "m", "said": sha256(b"%d" % n).hexdigest() * 40} for n in range(800)])
)
"""2 MB in some 50 kB."""
HONEST, FORGER = "127.0.0.2", "127.0.0.3"
STILL = {"clock": lambda: 1.0}
"""No time passes, so no token comes back, however slow the machine is."""


def signed(body: bytes) -> dict[str, str]:
    """What proves a body."""
    return {"x-signature": verify.hmac_hex(KEY, body)}


async def test_forged_posts_do_not_use_up_a_sources_rate() -> None:
    """The provider's are kept, as many as the rate lets in; the forger is told to come later."""
    async with (
        front_door(source(rate_per_s=5), parts=STILL) as door,
        door.client_at(HONEST) as honest,
        door.client_at(FORGER) as forger,
    ):
        forged = [
            (await forger.post("/hooks/news", content=EVENTS, headers={"x-key": "no"})).status_code
            for _ in range(40)
        ]
        assert forged == [401] * 5 + [429] * 35
        kept = [
            (await honest.post("/hooks/news", content=EVENTS, headers={"x-key": KEY})).status_code
            for _ in range(6)
        ]
        assert kept == [200] * 5 + [429]


async def test_forged_posts_of_the_providers_own_address_do_not_lock_it_out() -> None:
    """They come from the address of the honest ones, five times as many, as another customer of the
    provider could cause: all honest ones are kept.
    """
    async with front_door(source(rate_per_s=20)) as door:
        assert (await door.post(EVENTS)).status_code == 200
        for _ in range(10):
            forged = [(await door.post(EVENTS, key="no")).status_code for _ in range(5)]
            assert forged == [401] * 5
            assert (await door.post(EVENTS)).status_code == 200


async def test_the_setting_alone_bounds_what_proves_nothing() -> None:
    """Without any rate of proven requests; each kind of request without proof counts."""
    async with front_door(unproven_rate_per_s=4, body_bytes_max=1_000, parts=STILL) as door:
        answers = [
            await door.post(EVENTS, key="no"),
            await door.post(b"x" * 1_001),
            await door.client.get("/hooks/news"),
            await door.post(EVENTS, headers={"content-encoding": "zstd"}),
            await door.post(EVENTS),
        ]
        assert [one.status_code for one in answers] == [401, 413, 404, 415, 429]
        assert answers[-1].headers["ratelimit-policy"] == '"unproven";q=4;w=1'
        assert int(answers[-1].headers["retry-after"]) == 1


async def test_what_is_proven_costs_nothing_of_the_budget() -> None:
    """Nor does what is refused for its size once it was proven, nor an overload of ours."""
    async with front_door(unproven_rate_per_s=2) as door:
        for _ in range(5):
            assert (await door.post(EVENTS)).status_code == 200
            assert (await door.post(b"[" * 200 + b"]" * 200)).status_code == 413
            door.log.full = True
            assert (await door.post(EVENTS)).status_code == 503
            door.log.full = False
        assert (await door.post(EVENTS, key="no")).status_code == 401


async def test_unsigned_gzip_is_not_even_decoded() -> None:
    """401 for what is no gzip at all, and for a bomb."""
    async with front_door(source(provider="tiny_signed")) as door:
        for body in (b"no gzip", gzip.compress(b"\0" * 10_000_000)):
            answer = await door.post(body, headers={"content-encoding": "gzip"})
            assert answer.status_code == 401
        answer = await door.post(
            b"no gzip", headers={"content-encoding": "gzip", **signed(b"no gzip")}
        )
        assert answer.status_code == 400


@pytest.mark.parametrize("wire", [False, True])
async def test_gzip_is_proven_packed_or_unpacked(wire: bool) -> None:
    """The signature may be over what was sent, or over what it was before it was packed."""
    async with front_door(source(provider="tiny_signed")) as door:
        packed = gzip.compress(EVENTS)
        headers = {"content-encoding": "gzip", **signed(packed if wire else EVENTS)}
        assert (await door.post(packed, headers=headers)).json() == {"accepted": 1, "rejected": 0}


async def test_forged_gzip_does_not_keep_honest_gzip_waiting() -> None:
    """200 at a time whose complete but wrong signatures make us decode 2 MB each, continuously:
    none of the 15 honest ones that arrive meanwhile is refused, or waits for more than a few of
    them. In the order of arrival each would wait for all 200. The machine's pace says nothing."""
    packed = {"content-encoding": "gzip"}
    forged, body = {**packed, **signed(b"another body")}, gzip.compress(EVENTS)
    async with (
        front_door(source(provider="tiny_signed"), ack_timeout_ms=120_000) as door,
        door.client_at(HONEST) as honest,
        door.client_at(FORGER) as forger,
    ):
        going = True
        seen = Counter[int]()
        first = asyncio.Event()

        async def forge() -> None:
            while going:
                answer = await forger.post("/hooks/news", content=LARGE, headers=forged)
                seen[answer.status_code] += 1
                first.set()

        flood = [asyncio.create_task(forge()) for _ in range(200)]
        await first.wait()
        headers = {**packed, **signed(EVENTS)}
        answers, waited_for = [], []
        for _ in range(15):
            before = seen.total()
            answer = await honest.post("/hooks/news", content=body, headers=headers)
            answers.append(answer.status_code)
            waited_for.append(seen.total() - before)
        going = False
        await asyncio.gather(*flood)
        assert answers == [200] * 15
        assert max(waited_for) <= 10
        assert 401 in seen
        assert seen.keys() <= {401, 503}


def _test_calls() -> dict[str, list[Request]]:
    """Calls signed with a key that the provider has published: of each kind that it answers."""
    ping = b'{"type":"webhook.test"}'
    deep = b'{"type":"webhook.test","a":' + b"[" * 100 + b"]" * 100 + b"}"

    def mailersend(body: bytes, sent: bytes, *more: tuple[str, str]) -> Request:
        return post(sent, ("signature", verify.hmac_hex(mailersend_module.TEST_KEY, body)), *more)

    zipped = ("content-encoding", "gzip")
    form = b"mandrill_events=%5B%5D"
    url = newest(example("mandrill").source, "public_url")
    text, _ = mandrill.signed_text(url, form)
    made = verify.hmac_base64(mandrill.SETUP_KEY, text, "sha1")
    return {
        "mailersend": [
            mailersend(ping, ping),
            mailersend(ping, ping, zipped),
            mailersend(ping, gzip.compress(ping), zipped),
            mailersend(deep, deep),
            mailersend(deep, gzip.compress(deep), zipped),
        ],
        "mandrill": [post(form, (mandrill.SIGNATURE, made))],
    }


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in _test_calls().items() for call in calls]
)
async def test_test_calls_that_anybody_can_make_do_not_use_up_a_sources_rate(
    name: str, call: Request
) -> None:
    """Signed by a published key: they are answered, and count as what proves nothing."""
    one = example(name)
    hook = one.source.model_copy(update={"rate_per_s": 5})
    honest_call = REGISTRY[name].sample(hook, NOW, 1, one.signing_key)
    url = f"/hooks/{hook.name}"
    async with (
        front_door(hook, parts={"registry": REGISTRY, **STILL}, now=lambda: float(NOW)) as door,
        door.client_at(HONEST) as honest,
        door.client_at(FORGER) as forger,
    ):

        async def status(client: httpx.AsyncClient, request: Request) -> int:
            content, headers = request.body, list(request.headers)
            return (await client.post(url, content=content, headers=headers)).status_code

        called = [await status(forger, call) for _ in range(10)]
        assert called[5:] == [429] * 5
        assert 429 not in called[:5]
        assert [await status(honest, honest_call) for _ in range(6)] == [200] * 5 + [429]
