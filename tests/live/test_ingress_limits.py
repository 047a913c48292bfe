"""Rate limits that several ingresses share, on a real Valkey; about 5 s."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.rate_limits import STORE_PAUSE_S, RateLimits, StoreCount
from schemas.addresses import store_url
from tests.ingest.front_door import front_door
from tests.live.valkey_server import ValkeyServer

pytestmark = pytest.mark.live

RATE_PER_S = 0.01
"""One request in 100 s: the window does not move on while a test runs."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A running server of the test's own."""
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the store as long as a busy machine needs; it is never away here."""
    monkeypatch.setattr("ingest.rate_limits.STORE_TIMEOUT_S", 10.0)


def process(url: str, errors: list[Exception], rate_per_s: float = RATE_PER_S) -> RateLimits:
    """The limits of one process: a connection of its own, a bucket of its own."""
    store = StoreCount(store_url(url), time.time)
    return RateLimits(
        None, {"a": rate_per_s, "b": rate_per_s}, time.monotonic, store, errors.append
    )


async def allowed(limits: RateLimits, source: str = "a") -> bool:
    """Whether a request may go on."""
    verdict = await limits.hit(source)
    assert verdict is not None
    return verdict.allowed


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_two_processes_share_one_count(valkey: ValkeyServer, scheme: str) -> None:
    """A request admitted by one counts for the other; another source has its own count."""
    errors: list[Exception] = []
    one, two = (process(f"{scheme}://{valkey.address}/0", errors) for _ in range(2))
    assert await allowed(one)
    assert not await allowed(two)
    assert not await allowed(one)
    assert await allowed(two, "b")
    assert not await allowed(one, "b")
    assert not errors


@pytest.mark.usefixtures("patient")
async def test_two_processes_share_what_a_client_did_not_prove(valkey: ValkeyServer) -> None:
    """One forged request uses up the forger's budget at both, and nothing of the source's rate."""
    errors: list[Exception] = []
    one, two = (process(f"redis://{valkey.address}/0", errors) for _ in range(2))
    assert await two.may_try("a", "forger") is None
    await one.proves_nothing("a", "forger")
    refused = await two.may_try("a", "forger")
    assert refused is not None
    assert refused.policy == "unproven"
    assert await two.may_try("a", "provider") is None
    assert await two.may_try("b", "forger") is None
    assert await allowed(two)
    assert not await allowed(one)
    assert not errors


async def test_while_the_store_is_away_each_counts_for_itself(valkey: ValkeyServer) -> None:
    """Requests are limited meanwhile; when the store is back, the count is shared again."""
    errors: list[Exception] = []
    one, two = (process(f"redis://{valkey.address}/0", errors) for _ in range(2))
    assert await allowed(one, "b")
    valkey.kill()
    assert [await allowed(one), await allowed(one)] == [True, False]
    assert [await allowed(two), await allowed(two)] == [True, False]
    assert len(errors) >= 2
    failed = len(errors)
    valkey.start()  # with nothing in it
    await asyncio.sleep(STORE_PAUSE_S)
    assert await allowed(two, "b")
    assert not await allowed(one, "b")
    assert len(errors) == failed


async def test_a_frozen_store_is_not_waited_for(valkey: ValkeyServer) -> None:
    """A server that accepts connections and never answers costs a moment, not the request."""
    errors: list[Exception] = []
    one = process(f"redis://{valkey.address}/0", errors)
    assert await allowed(one, "b")
    valkey.pause()
    assert [await allowed(one), await allowed(one)] == [True, False]
    assert {type(error) for error in errors} == {TimeoutError}
    valkey.resume()


async def test_two_front_doors_answer_429_by_the_shared_count(valkey: ValkeyServer) -> None:
    """By the setting alone: ``MAILPULSE_RATE_LIMIT_URL``; failures of the store are counted."""
    shared: dict[str, Any] = {
        "rate_per_s": RATE_PER_S,
        "rate_limit_url": f"redis://{valkey.address}/0",
    }
    async with (
        front_door(**shared) as one,
        front_door(**shared) as two,
    ):
        answers = [await door.post() for door in (one, two)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert int(answers[1].headers["retry-after"]) >= 1
        valkey.kill()
        assert (await two.post()).status_code == 200
        assert two.metric("mailpulse_ingest_rate_store_failures_total") == 1
