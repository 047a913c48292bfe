"""Batches without acknowledgement never count as acknowledged, however often one asks."""

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import MailpulseError, Unavailable
from streams.transport.chunks import TP, Chunk
from streams.worker.agent import Agent
from streams.worker.metrics import StreamMetrics
from streams.worker.outputs import Flight, Outputs, Row
from streams.worker.snapshot_manifest import Lineage
from streams.worker.work import PartitionWork


class Batch:
    """As aiokafka's batch builder, without limits."""

    def __init__(self) -> None:
        self.rows = 0

    def append(self, **_: Any) -> int:
        """Accepts anything."""
        self.rows += 1
        return self.rows

    def record_count(self) -> int:
        """Number of records."""
        return self.rows

    def size(self) -> int:
        """Not used."""
        return self.rows


class Broker:
    """A producer whose acknowledgements a test grants or refuses."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Any]] = deque()

    def create_batch(self) -> Batch:
        """A batch."""
        return Batch()

    async def send_batch(self, _: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Keeps the batch until the test decides."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future


async def flight_of(broker: Broker, batches: int) -> Flight:
    """A flight with some unacknowledged batches."""
    outputs = object.__new__(Outputs)
    outputs.producer = broker
    flight = Flight(outputs)
    for _ in range(batches):
        await flight.send_to("t", 0, [Row(b"k", b"v", 1)])
    return flight


async def test_a_failed_batch_is_told_to_everyone_who_asks() -> None:
    """The second call gets the same error as the first, although the others were acknowledged."""
    broker = Broker()
    flight = await flight_of(broker, 2)
    broker.waiting[0].set_exception(Unavailable("away"))
    broker.waiting[1].set_result(SimpleNamespace(offset=7))
    for _ in range(3):
        with pytest.raises(Unavailable):
            await flight.landed()


async def test_a_wait_that_was_cut_off_loses_no_batch() -> None:
    """The next wait waits for the same batch."""
    broker = Broker()
    flight = await flight_of(broker, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flight.landed(), 0.01)
    again = asyncio.create_task(flight.landed())
    await asyncio.sleep(0.01)
    assert not again.done()
    broker.waiting[0].set_result(SimpleNamespace(offset=7))
    await again
    assert flight.ends == {("t", 0): 7}


class Half(Agent):
    """An agent that fails in the middle of handing over."""

    topic = "t"
    name = "half"

    def __init__(self) -> None:
        self.stored = 0
        self.metrics = StreamMetrics()
        self._reach: dict[TP, int] = {}
        self._work: dict[TP, PartitionWork] = {}

    async def open(self, work: PartitionWork) -> None:
        """Nothing to load."""

    async def process(self, work: PartitionWork, chunk: Chunk) -> None:
        """Fails between the step and the end of handing over."""
        async with work.lock:
            work.handing_over = True
            work.since_checkpoint += 1
            raise Unavailable("half-way")

    async def before_checkpoint(self, work: PartitionWork) -> None:
        """Nothing to publish."""

    def store_state(self, work: PartitionWork) -> int:
        """Counts."""
        self.stored += 1
        return 1

    def reached(self, tp: TP) -> int:
        return 0

    def forget(self, tp: TP) -> None:
        """Nothing in memory."""

    def lineages(self, tp: TP) -> frozenset[Lineage]:
        return frozenset()

    def standing(self, work: PartitionWork) -> None:
        """No snapshots."""


async def test_state_of_a_half_sent_step_is_never_stored() -> None:
    """A checkpoint between the failure and the end of the process stores nothing."""
    agent = Half()
    tp = TP("t", 0)
    work = PartitionWork(tp, None, await flight_of(Broker(), 0))  # type: ignore[arg-type]  # no store needed
    agent._work[tp] = work
    with pytest.raises(Unavailable):
        await agent.process(work, Chunk(tp, [], 0, 0, 1))
    with pytest.raises(MailpulseError):
        await agent.checkpoint(work)
    assert agent.stored == 0
