"""The dashboard asks processes of ``deliver``, and has tests sent: on real sockets."""

from typing import Any

import httpx
import pytest

from analytics.dashboard import create_app, deliveries
from analytics.dashboard.deliveries import Deliveries, together
from schemas.settings import Settings
from tests.streams.receiving import Answer, answering, receiver

TOKEN = "t" * 32


def one(name: str = "crm", **changed: Any) -> dict[str, Any]:
    """A destination as a process lists it."""
    return {
        "destination": name, "kind": "webhook", "host": "crm.example", "topics": "engagement",
        "state": "on", "waits_s": 0, "lag": 3, "held": 1, "delivered": 5, "failed": 2,
        "last_success_ms": 1_000, "tries": [_try(1_000)], **changed,
    }  # fmt: skip


def _try(at_ms: int) -> dict[str, Any]:
    return {"at_ms": at_ms, "records": 1, "result": "delivered", "said": "", "seconds": 0.1}


def listing(*rows: dict[str, Any]) -> Answer:
    import orjson

    return answering(200, orjson.dumps({"destinations": rows}))


def test_processes_share_a_destination() -> None:
    """Numbers are added, the worst state is shown, the newest tries come first."""
    other = one(state="failing", lag=10, last_success_ms=None, tries=[_try(2_000), _try(500)])
    for answers in ([[one()], [other]], [[other], [one()]]):
        found = together(answers)
        [row] = found["destinations"]
        assert (row["lag"], row["failed"], row["state"]) == (13, 4, "failing")
        assert row["last_success_ms"] == 1_000
        assert [each["at_ms"] for each in found["tries"]] == [2_000, 1_000, 500]
        assert {each["destination"] for each in found["tries"]} == {"crm"}


async def test_a_process_that_is_down_says_since_when_and_its_last_answer_stays() -> None:
    """Nothing is shown as if it were of now."""
    async with receiver(listing(one())) as there:
        url = f"http://127.0.0.1:{there.port}"
        asking = Deliveries([url, "http://127.0.0.1:9"], TOKEN, lambda: 1_795_000_000.0)
        found = await asking.read()
        assert [row["destination"] for row in found["destinations"]] == ["crm"]
        assert found["deliver_trouble"] == "deliver at http://127.0.0.1:9 has not answered yet"
        assert there.got[0].headers["x-mailpulse-token"] == TOKEN
        there.answer = answering(500)
        found = await asking.read()
        assert [row["destination"] for row in found["destinations"]] == ["crm"]
        assert f"deliver at {url}: no answer since 2026-11-" in found["deliver_trouble"]
        await asking.close()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"no json", b'{"destinations": 1'])
async def test_nonsense_is_no_answer(body: bytes) -> None:
    """Whatever listens there."""
    async with receiver(answering(200, body)) as there:
        asking = Deliveries([f"http://127.0.0.1:{there.port}"], TOKEN, lambda: 0.0)
        found = await asking.read()
        assert found["destinations"] == []
        assert "has not answered" in found["deliver_trouble"]
        await asking.close()


@pytest.mark.parametrize(
    "changed",
    [{"lag": "x"}, {"destination": []}, {"tries": [{}]}, {"tries": None}, {"said": 1, "held": None},
     {"last_success_ms": "now"}, {"state": {}}],
)  # fmt: skip
async def test_an_answer_of_another_shape_is_none(changed: dict[str, Any]) -> None:
    """It never reaches the page; what was known before stays."""
    async with receiver(listing(one())) as there:
        asking = Deliveries([f"http://127.0.0.1:{there.port}"], TOKEN, lambda: 0.0)
        assert (await asking.read())["deliver_trouble"] == ""
        there.answer = listing(one(**changed))
        found = await asking.read()
        assert [row["destination"] for row in found["destinations"]] == ["crm"]
        assert "no answer since" in found["deliver_trouble"]
        there.answer = answering(200, b'{"delivered": "perhaps"}')
        assert not (await asking.test("crm"))["delivered"]
        await asking.close()


async def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes: the page's memory is not theirs to fill."""
    monkeypatch.setattr(deliveries, "ANSWER_BYTES_MAX", 10_000)
    async with receiver(listing(one(host="h" * 10_000))) as there:
        asking = Deliveries([f"http://127.0.0.1:{there.port}"], TOKEN, lambda: 0.0)
        assert (await asking.read())["destinations"] == []
        await asking.close()


async def test_a_test_goes_to_the_first_process_that_answers() -> None:
    """With the name quoted: it can't lead to another path."""
    async with receiver(answering(200, b'{"delivered": true, "said": ""}')) as there:
        urls = ["http://127.0.0.1:9", f"http://127.0.0.1:{there.port}"]
        asking = Deliveries(urls, TOKEN, lambda: 0.0)
        assert (await asking.test("../x?y"))["delivered"]
        assert there.got[0].path == "/destinations/..%2Fx%3Fy/test"
        await asking.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example"}, 421),
    ],
)
async def test_no_other_site_can_send_a_test(headers: dict[str, str], status: int) -> None:
    """As the page's other actions; and only by POST."""
    sent: list[str] = []

    async def send(name: str) -> dict[str, Any]:
        sent.append(name)
        return {"delivered": True, "said": ""}

    async def query(_sql: str, _parameters: Any) -> Any:
        return []

    app = create_app(Settings(), query, wall=lambda: 0.0, send_test=send)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.post("/api/destinations/crm/test", headers=headers)
        assert (answer.status_code == 200) == (status == 200)
        assert sent == (["crm"] if status == 200 else [])
        assert (await http.get("/api/destinations/crm/test")).status_code in (404, 405)


async def test_only_the_signed_in_can_send_a_test() -> None:
    """Where a token is set."""

    async def query(_sql: str, _parameters: Any) -> Any:
        return []

    settings = Settings(dashboard_token=TOKEN)
    app = create_app(settings, query, wall=lambda: 0.0)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.post("/api/destinations/crm/test")).status_code == 401
