"""``send-test`` where only the provider can sign: who must refuse it, and what is kept."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.providers import REGISTRY, check_sources
from ingest.trial import Trial, only_its_provider_signs, send_trial
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings, Source
from tests.ingest.front_door import NOW, MemoryLog, front_door
from tests.ingest.keys import example

SIGNED_BY_OTHERS = [
    name for name in sorted(REGISTRY)
    if only_its_provider_signs(example(name).source)
]  # fmt: skip


async def trial(
    source: Source, running: httpx.AsyncBaseTransport, log: MemoryLog, **settings: Any
) -> Trial:
    """One at a running ingress."""
    return await send_trial(
        "http://running", source, Settings(**settings), codec=Codec(), now=lambda: NOW, number=7,
        log=log, transport=running, wait_s=0.2,
    )  # fmt: skip


def test_there_are_such_providers() -> None:
    """By a public key, and by a certificate."""
    assert {"sendgrid", "ses"} <= set(SIGNED_BY_OTHERS)


@pytest.mark.parametrize("name", SIGNED_BY_OTHERS)
async def test_the_running_ingress_refuses_and_the_event_is_kept(name: str) -> None:
    """The whole way but the key: the same source, its events, in the log."""
    source = example(name).source
    assert check_sources({source.name: source}) == []
    log = MemoryLog()
    async with front_door(source, parts={"registry": REGISTRY}) as door:
        transport = httpx.ASGITransport(door.app)
        done = await trial(source, transport, log, trusted_proxies=("127.0.0.1",))
        assert door.log.parcels == []
    assert (done.refused.status, done.ok) == (401, True)
    assert done.kept is not None
    kept = log.events()
    assert tuple(event["event_id"] for event in kept) == done.kept.event_ids
    assert [event["source"] for event in kept] == [source.name]


@pytest.mark.parametrize("status", [0, 200, 302, 403, 404, 500, 503])
async def test_nothing_is_stored_unless_it_refuses_with_401(status: int) -> None:
    """An ingress that does not know the source, or that accepts any key, is found."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    log = MemoryLog()
    done = await trial(example("sendgrid").source, httpx.MockTransport(answer), log)
    assert (done.refused.status, done.kept, done.ok) == (status, None, False)
    assert log.tried == 0


async def test_without_kafka_it_says_so() -> None:
    """And nothing is stored."""
    running = httpx.MockTransport(lambda _: httpx.Response(401))
    with pytest.raises(Unavailable, match="Kafka"):
        await trial(example("sendgrid").source, running, MemoryLog(up=False))


async def test_what_is_shared_on_the_machine_is_left_alone(tmp_path: Path) -> None:
    """The spool is the running ingress's; and the list of addresses does not refuse the trial."""
    running = httpx.MockTransport(lambda _: httpx.Response(401))
    source = example("sendgrid").source.model_copy(update={"allow_ips": ("203.0.113.0/24",)})
    log = MemoryLog()
    done = await trial(source, running, log, spool_dir=tmp_path / "spool")
    assert done.ok
    assert not (tmp_path / "spool").exists()
