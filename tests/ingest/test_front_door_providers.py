"""Every provider's call through the whole front door: what is answered, and what is kept.

Invariants:
1. The app is the real one with a log in memory; calls are those that ``sample`` makes.
2. A provider whose certificate would have to be fetched first (SES) is not in the list.
"""

import hashlib
import hmac
from dataclasses import replace

import httpx
import orjson
import pytest

from ingest.app import create_app
from ingest.providers import REGISTRY
from ingest.providers.base import Request, post
from ingest.providers.mailersend import TEST_KEY
from schemas.settings import Settings, Source
from tests.ingest.front_door import MemoryLog
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW

SELF_CONTAINED = sorted(name for name in REGISTRY if not example(name).certificates)


async def answer(source: Source, request: Request) -> tuple[int, dict[str, object], int]:
    """Status, content, and how many parcels were kept."""
    log = MemoryLog()
    app = create_app(
        Settings(), {source.name: source}, registry=REGISTRY, log=log, now=lambda: float(NOW)
    )
    query = f"?{request.query}" if request.query else ""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            response = await client.request(
                request.method,
                f"/hooks/{source.name}{f'/{request.path}' if request.path else ''}{query}",
                content=request.body,
                headers=list(request.headers),
            )
    return response.status_code, orjson.loads(response.content), len(log.parcels)


@pytest.mark.parametrize("name", SELF_CONTAINED)
async def test_a_sample_is_taken_kept_and_answered_200(name: str) -> None:
    """What ``send-test`` sends comes through every step, as exactly one event."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    assert await answer(one.source, request) == (200, {"accepted": 1, "rejected": 0}, 1)


@pytest.mark.parametrize("name", SELF_CONTAINED)
async def test_a_stranger_is_refused_and_nothing_is_kept(name: str) -> None:
    """Signed correctly, by somebody else's key."""
    other = example(name, 7)
    request = REGISTRY[name].sample(other.source, NOW, 1, other.signing_key)
    status, _, kept = await answer(example(name).source, request)
    assert (status, kept) == (401, 0)


async def test_mailersend_can_save_its_webhook() -> None:
    """The test call gets its 200 and leaves nothing behind."""
    body = orjson.dumps({"type": "webhook.test", "message": "This is a ping test message"})
    made = hmac.new(TEST_KEY.encode(), body, hashlib.sha256).hexdigest()
    request = post(body, ("signature", made))
    status, content, kept = await answer(example("mailersend").source, request)
    assert (status, content, kept) == (200, {"accepted": 0, "rejected": 0}, 0)


async def test_sparkpost_can_save_its_webhook() -> None:
    """The test batch is answered exactly 200: anything else and the webhook is not created."""
    one = example("sparkpost")
    sample = REGISTRY["sparkpost"].sample(one.source, NOW, 1)
    request = replace(sample, body=b'[{"msys":{}}]')
    assert await answer(one.source, request) == (200, {"accepted": 0, "rejected": 0}, 0)


@pytest.mark.parametrize("name", ["unisender_go", "elastic_email"])
async def test_a_set_up_get_is_answered_200(name: str) -> None:
    """Both look whether the address answers before they save it."""
    status, _, kept = await answer(example(name).source, Request("GET", "", (), b"", ""))
    assert (status, kept) == (200, 0)


async def test_elastic_emails_events_come_by_get() -> None:
    """``Provider.methods`` names GET: such a call is proven and kept like a POST."""
    source = Source.model_validate(
        {"name": "elastic", "provider": "elastic_email", "token": ("t0ken",)}
    )
    request = REGISTRY["elastic_email"].sample(source, NOW, 1)
    assert await answer(source, request) == (200, {"accepted": 1, "rejected": 0}, 1)
    stranger = replace(request, query=request.query.replace("t0ken", "t0keN"))
    assert (await answer(source, stranger))[0] == 401


async def test_firehose_gets_its_request_id_back() -> None:
    """Firehose takes an answer for success only if it repeats the request's id."""
    body = orjson.dumps({"requestId": "r-1", "timestamp": 1, "records": []})
    source = Source.model_validate(
        {"name": "ses", "provider": "ses", "token": ("t0ken",), "topic_arns": ("arn:x",)}
    )
    headers = (
        ("content-type", "application/json"),
        ("x-amz-firehose-access-key", "t0ken"),
        ("x-amz-firehose-request-id", "r-1"),
    )
    status, content, kept = await answer(source, Request("POST", "", headers, body, ""))
    assert (status, content["requestId"], kept) == (200, "r-1", 0)


UNSIGNED = [name for name in SELF_CONTAINED if REGISTRY[name].signs != "raw body"]


@pytest.mark.parametrize("name", UNSIGNED)
async def test_a_byte_order_mark_passes_every_step(name: str) -> None:
    """The check of the body's shape, the proof, and parsing; where the mark is not signed."""
    one = example(name)
    request = REGISTRY[name].sample(one.source, NOW, 1, one.signing_key)
    marked = replace(request, body=b"\xef\xbb\xbf" + request.body)
    assert await answer(one.source, marked) == (200, {"accepted": 1, "rejected": 0}, 1)


@pytest.mark.parametrize(
    ("path", "status"), [("t0ken", 200), ("other", 401), ("", 401), ("t0ken/more", 401)]
)
async def test_a_token_may_follow_the_source_in_the_path(path: str, status: int) -> None:
    """For senders without a module; a path behind another provider's source stays unknown."""
    source = example("generic", secret=(), token=("t0ken",), mapping={"token": "path"}).source
    request = replace(REGISTRY["generic"].sample(source, NOW, 1), path=path)
    assert (await answer(source, request))[0] == status
    other = example("postmark")
    behind = replace(REGISTRY["postmark"].sample(other.source, NOW, 1), path=path)
    assert (await answer(other.source, behind))[0] == (404 if path else 200)
