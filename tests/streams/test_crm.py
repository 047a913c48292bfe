"""The demo's customer system: what ``deliver`` sends arrives there, signed; nothing else does."""

import httpx

from schemas import topics
from streams.deliver import bodies
from streams.deliver.destinations import Destination, load_destinations
from streams.deliver.senders import sender_of
from streams.simulation.crm import IDS_MAX, LINES_MAX, Crm, receiving
from tests import builders


def click(number: int, recipient: str = "reader@x.example") -> bodies.Body:
    """A first human click."""
    record = builders.record(
        "engagement", kind="click", recipient=recipient, campaign_id="spring",
        occurred_at=builders.RECEIVED_AT,
    )  # fmt: skip
    return bodies.of_record(topics.ENGAGEMENT, f"id-{number}", record)


def destination_of(crm: Crm) -> Destination:
    found = load_destinations(crm.toml, crm.environ, lambda _: "")["crm"]
    assert isinstance(found, Destination)
    return found


async def test_a_click_is_followed_up_once() -> None:
    """By the destination that the demo writes; a repeat has the same id."""
    async with receiving() as crm:
        async with sender_of(destination_of(crm)) as sender:
            for _ in range(2):
                assert (await sender.send([click(1)])).delivered
        assert list(crm.lines) == ["CRM: reader@… clicked, follow up"]
        assert (crm.got, crm.refused) == (1, 0)


async def test_a_forged_request_is_refused() -> None:
    """Whoever finds the port can't put a reader on the list."""
    async with receiving() as crm:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"http://127.0.0.1:{crm.port}/clicks", content=click(1).json)
        assert answer.status_code == 401
        assert (crm.got, crm.refused) == (0, 1)


async def test_its_memory_is_bounded() -> None:
    """However many come."""
    async with receiving() as crm:
        crm._ids = type(crm._ids)((str(n), None) for n in range(IDS_MAX))
        async with sender_of(destination_of(crm)) as sender:
            for number in range(LINES_MAX + 2):
                assert (await sender.send([click(number, f"r{number}@x.example")])).delivered
        assert len(crm._ids) == IDS_MAX
        assert len(crm.lines) == LINES_MAX
        assert crm.got == LINES_MAX + 2
