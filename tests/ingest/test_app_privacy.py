"""What the front door tells: recipients, log lines, and the pages beside the hooks."""

import pytest
import structlog

from schemas.serving.origin import FORWARDED
from tests.ingest.front_door import KEY, front_door
from tests.ingest.test_app import EVENTS, code_of


async def test_recipients_are_kept_as_the_setting_says() -> None:
    """Hashed with a key and by the lower-cased address, or dropped; the domain stays."""
    item = {"id": "m1", "to": "Ada@example.com", "said": "550 <ada@EXAMPLE.com> unknown"}
    body = [item, {"to": "ada@example.com"}]
    async with front_door() as door:
        await door.post(body)
        assert door.log.events()[0]["recipient"] == "Ada@example.com"
    async with front_door(recipients="hashed", recipient_hash_key="k") as door:
        await door.post(body)
        [event] = door.log.events()
        assert event["recipient"].startswith("h:")
        assert event["recipient"] in event["diagnostic"]
        assert event["recipient_domain"] == "example.com"
        assert b"ada@" not in b"".join(v for p in door.log.parcels for _, v in p.dead_letters)
        await door.post([{"id": "m2", "to": "ADA@EXAMPLE.COM"}])
        assert door.log.events()[1]["recipient"] == event["recipient"]
    async with front_door(recipients="dropped") as door:
        await door.post(body)
        [event] = door.log.events()
        assert (event["recipient"], event["recipient_domain"]) == (None, "example.com")
        assert "ada" not in event["diagnostic"].lower()


@pytest.mark.parametrize("log_recipients", [False, True])
async def test_one_log_line_per_request_that_holds_no_secret(log_recipients: bool) -> None:
    """Source, result, events and milliseconds; recipients only when the setting says so."""
    with structlog.testing.capture_logs() as lines:
        async with front_door(log_recipients=log_recipients) as door:
            await door.post(EVENTS)
            await door.post(EVENTS, key="guess-of-a-secret")
            await door.post(path="/hooks/nowhere-at-all")
    hooks = [line for line in lines if line["event"] == "hook"]
    assert [(h["source"], h["result"], h["events"]) for h in hooks] == [
        ("news", "accepted", 2),
        ("news", "unauthorized", 0),
        ("", "not_found", 0),
    ]
    assert all(h["ms"] >= 0 for h in hooks)
    text = repr(lines)
    assert KEY not in text
    assert "guess" not in text
    assert "nowhere" not in text
    assert ("ada@example.com" in text) is log_recipients


async def test_pages_beside_the_hooks() -> None:
    """Live, ready or not, metrics without recipients, errors as problem documents."""
    async with front_door() as door:
        await door.post(EVENTS)
        assert (await door.client.get("/livez")).json() == {"live": True}
        assert (await door.client.get("/readyz")).status_code == 200
        door.log.up = False
        answer = await door.client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        text = (await door.client.get("/metrics")).text
        assert 'mailpulse_ingest_events_total{source="news"} 2.0' in text
        assert "example.com" not in text
        assert code_of(await door.client.post("/livez")) == "method_not_allowed"
        assert code_of(await door.client.get("/")) == "not_found"


async def test_metrics_are_for_the_networks_that_may_read_them() -> None:
    """Others are told that there is no such page."""
    async with front_door(client_host="203.0.113.9") as door:
        assert (await door.client.get("/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"x-forwarded-for": "10.1.2.3"}, 200),
        ({"x-forwarded-for": "203.0.113.9"}, 404),
        ({"x-forwarded-for": "10.1.2.3, 203.0.113.9"}, 404),
        ({"x-forwarded-for": "127.0.0.1, nobody"}, 404),
    ],
)
async def test_metrics_are_not_for_whom_our_own_proxy_brings(
    headers: dict[str, str], status: int
) -> None:
    """The proxy's own address may read them: it stands on this machine, or beside it."""
    async with front_door(trusted_proxies="127.0.0.0/8") as door:
        assert (await door.client.get("/metrics", headers=headers)).status_code == status


@pytest.mark.parametrize("name", FORWARDED)
async def test_metrics_are_not_for_whom_an_unknown_proxy_brings(name: str) -> None:
    """It may stand on this machine, and what it says is not believed."""
    async with front_door() as door:
        assert (await door.client.get("/metrics", headers={name: "10.1.2.3"})).status_code == 404


async def test_two_apps_do_not_share_metrics() -> None:
    """Nothing is registered globally."""
    async with front_door() as one, front_door() as two:
        await one.post(EVENTS)
        name = "mailpulse_ingest_events_total"
        assert (one.metric(name, source="news"), two.metric(name, source="news")) == (2, 0)
