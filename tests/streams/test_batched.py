"""Questions asked at one moment are one request."""

import asyncio
from collections.abc import Mapping

import pytest

from streams.transport.batched import Batched
from streams.transport.chunks import TP

PLACES = [TP("in", number) for number in range(12)]


class Broker:
    """Answers when it is let; the number of a partition is how many requests were sent before."""

    def __init__(self) -> None:
        self.requests: list[set[TP]] = []
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def ask(self, tps: set[TP]) -> Mapping[TP, int]:
        self.requests.append(tps)
        self.is_asked.set()
        number = len(self.requests)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {tp: 100 * number + tp.partition for tp in tps}


async def test_what_is_asked_together_goes_out_together() -> None:
    """Also what is asked twice."""
    broker = Broker()
    ends = Batched(broker.ask)
    found = await asyncio.gather(*map(ends.of, PLACES), *map(ends.of, PLACES[:3]))
    assert found == [*range(100, 112), 100, 101, 102]
    assert broker.requests == [set(PLACES)]


async def test_a_question_is_not_answered_by_a_request_that_was_sent_before_it() -> None:
    """The log may have grown since."""
    broker = Broker()
    ends = Batched(broker.ask)
    broker.may_answer.clear()
    first = asyncio.create_task(ends.of(PLACES[0]))
    await broker.is_asked.wait()
    later = [asyncio.create_task(ends.of(tp)) for tp in PLACES]
    await asyncio.sleep(0)
    assert len(broker.requests) == 1
    broker.may_answer.set()
    assert await first == 100
    assert await asyncio.gather(*later) == [*range(200, 212)]
    assert len(broker.requests) == 2
    assert await ends.of(PLACES[1]) == 301


async def test_an_error_goes_to_all_who_asked_and_to_nobody_after_them() -> None:
    """A broker that is back answers again."""
    broker = Broker()
    ends = Batched(broker.ask)
    broker.error = ConnectionError("broker is away")
    failed = await asyncio.gather(*map(ends.of, PLACES), return_exceptions=True)
    assert failed == [broker.error] * len(PLACES)
    broker.error = None
    assert await ends.of(PLACES[0]) == 200


async def test_an_answer_without_the_partition_is_an_error() -> None:
    """Nobody waits for ever."""

    async def nothing(tps: set[TP]) -> Mapping[TP, int]:
        return {}

    with pytest.raises(KeyError):
        await asyncio.wait_for(Batched(nothing).of(PLACES[0]), 5)


async def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    """Another waits for the same partition."""
    broker = Broker()
    ends = Batched(broker.ask)
    broker.may_answer.clear()
    stays, leaves = (asyncio.create_task(ends.of(PLACES[0])) for _ in range(2))
    await broker.is_asked.wait()
    leaves.cancel()
    await asyncio.sleep(0)
    broker.may_answer.set()
    assert await stays == 100
    assert leaves.cancelled()
