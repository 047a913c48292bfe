"""Rows that are gathered for common batches count as sent by whoever gathered them."""

import asyncio
import random
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from streams.worker import gathering
from streams.worker.gathering import Gathering
from streams.worker.outputs import Flight, Outputs, Row

BATCH_ROWS = 7


class Batch:
    """A batch builder with room for few rows."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def append(self, *, key: bytes, **_: Any) -> int | None:
        """As aiokafka's: ``None`` if it is full."""
        if len(self.keys) >= BATCH_ROWS:
            return None
        self.keys.append(key)
        return 1

    def record_count(self) -> int:
        """Number of records."""
        return len(self.keys)


class Broker:
    """A producer that fails when it is told to, and whose acknowledgements a test grants."""

    def __init__(self) -> None:
        self.sent: dict[int, list[bytes]] = defaultdict(list)
        self.batches = 0
        self.unacknowledged: list[asyncio.Future[Any]] = []
        self.fails_after: int | None = None

    def create_batch(self) -> Batch:
        """A batch."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Takes a batch, or is cut off before that."""
        await asyncio.sleep(0)
        if self.fails_after is not None:
            if not self.fails_after:
                self.fails_after = None
                raise asyncio.CancelledError
            self.fails_after -= 1
        self.batches += 1
        self.sent[partition] += batch.keys
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.unacknowledged.append(future)
        return future

    def acknowledge(self) -> None:
        """All that was sent so far."""
        for future in self.unacknowledged:
            future.set_result(SimpleNamespace(offset=0))
        self.unacknowledged.clear()


def outputs_of(broker: Broker) -> Outputs:
    """Outputs with this producer."""
    outputs = object.__new__(Outputs)
    outputs.producer = broker
    return outputs


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_flight_lands_with_the_batch_that_others_share() -> None:
    """All of them wait for it, and one batch does for all."""
    broker = Broker()
    together = Gathering(outputs_of(broker))
    flights = [Flight(outputs_of(broker)) for _ in range(3)]
    for number, flight in enumerate(flights):
        await together.add(flight, "t", 0, [Row(b"%d" % number, b"", 1)])
    landing = [asyncio.create_task(flight.landed()) for flight in flights]
    await settle()
    assert broker.sent[0] == [b"0", b"1", b"2"]
    assert broker.batches == 1
    assert not any(task.done() for task in landing)
    broker.acknowledge()
    await asyncio.gather(*landing)


async def test_a_failed_batch_is_told_to_every_flight() -> None:
    """None of their states may be stored."""
    broker = Broker()
    together = Gathering(outputs_of(broker))
    flights = [Flight(outputs_of(broker)) for _ in range(2)]
    for flight in flights:
        await together.add(flight, "t", 0, [Row(b"k", b"", 1)])
    await together.send()
    broker.unacknowledged[0].set_exception(OSError("away"))
    for flight in flights:
        with pytest.raises(OSError, match="away"):
            await flight.landed()


async def test_gathered_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sent before a checkpoint asks for it."""
    monkeypatch.setattr(gathering, "ROWS_MAX", 10)
    broker = Broker()
    together = Gathering(outputs_of(broker))
    flight = Flight(outputs_of(broker))
    for number in range(9):
        await together.add(flight, "t", number % 3, [Row(b"%d" % number, b"", 1)])
    assert not broker.sent
    await together.add(flight, "t", 0, [Row(b"9", b"", 1)])
    assert sum(map(len, broker.sent.values())) == 10


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_cut_off_a_landed_row_was_acknowledged(seed: int) -> None:
    """Random flights, partitions, failures and waits: nothing is missing when ``landed`` returns,
    and what one flight wrote to one partition is there in order, repeats apart."""
    dice = random.Random(seed)
    broker = Broker()
    together = Gathering(outputs_of(broker))
    flights = [Flight(outputs_of(broker)) for _ in range(4)]
    gathered: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for number in range(60):
        owner, partition = dice.randrange(4), dice.randrange(3)
        keys = [b"%d-%d-%d" % (owner, number, row) for row in range(dice.randrange(1, 12))]
        gathered[owner, partition] += keys
        await together.add(flights[owner], "t", partition, [Row(key, b"", 1) for key in keys])
        if dice.random() < 0.3:
            broker.fails_after = dice.choice((None, 0, 1, 2))
            waiting = asyncio.create_task(flights[dice.randrange(4)].landed())
            await settle()
            broker.acknowledge()
            await asyncio.gather(waiting, return_exceptions=True)
    broker.fails_after = None
    for owner, flight in enumerate(flights):
        landing = asyncio.create_task(flight.landed())
        while not landing.done():
            await settle()
            broker.acknowledge()
        await landing
        for (of, partition), keys in gathered.items():
            if of == owner:
                first = [key for key in dict.fromkeys(broker.sent[partition]) if key in set(keys)]
                assert first == keys
