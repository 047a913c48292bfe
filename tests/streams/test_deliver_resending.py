"""What a destination did not take is not sent again about people who were forgotten since."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.erasure import Erasures, digest
from streams.deliver.letters import Letters
from streams.deliver.resending import is_of_forgotten, send_again
from tests.builders import enrichment, event, record
from tests.streams.test_deliver_destinations import Producer

ADA, BOB = "ada@lovelace.example", "bob@gmail.com"
AT = 1_800_000_000_000_000


def letter(topic: str, name: str, at_us: int) -> Mapping[str, Any]:
    """A parked record of a topic about a person, at a time; a lifted suppression of ``lifted``."""
    codec, producer = Codec(), Producer()
    value = None
    if topic == topics.ENRICHED:
        one = event(recipient=name, occurred_at=at_us, received_at=at_us)
        value = codec.encode("enriched_event", {"event": one, "enrichment": enrichment()})
    elif topic == topics.SUPPRESSIONS:
        value = codec.encode("suppression", record("suppression") | {"since": at_us})
    parked = SimpleNamespace(
        topic=topic if value else topics.SUPPRESSIONS, partition=1, offset=2, key=name.encode(),
        value=value, timestamp=at_us // 1_000, headers=[("ce_id", b"1")],
    )  # fmt: skip
    asyncio.run(Letters(producer, codec).write("crm", parked, "not_delivered", "said"))
    return codec.decode(producer.values[0], "dead_letter")


@pytest.mark.parametrize("topic", [topics.ENRICHED, topics.SUPPRESSIONS, "lifted"])
def test_letters_about_forgotten_people_are_told_apart(topic: str) -> None:
    """Those of before the erasure alone, and nobody else's."""
    erasures = Erasures()
    erasures.put("e", {"at": AT, "digests": [digest(ADA).hex()]})
    judged = {
        (name, at): is_of_forgotten(letter(topic, name, AT + at), Codec(), erasures)
        for name in (ADA, BOB) for at in (-1_000_000, 1_000_000)
    }  # fmt: skip
    assert [place for place, forgotten in judged.items() if forgotten] == [(ADA, -1_000_000)]
    assert not is_of_forgotten(letter(topic, ADA, AT - 1), Codec(), Erasures())


def test_they_reach_no_sender() -> None:
    """Not even a connection is made for them."""

    async def run() -> list[str]:
        erasures = Erasures()
        erasures.put("e", {"at": AT, "digests": [digest(ADA).hex()]})
        letters = [parked]
        destinations: Any = {"crm": object()}  # no sender can be made of it
        return [said async for said in send_again(destinations, Codec(), letters, erasures)]

    parked = letter(topics.SUPPRESSIONS, ADA, AT - 1)
    assert asyncio.run(run()) == ["about a person who was forgotten since"]
