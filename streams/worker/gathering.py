"""Rows of several partitions' checkpoints that go to the same output partitions, in common batches.

Every input partition tells of campaigns of every output partition. With a batch for each pair of
them, a round of checkpoints would cost as much as the square of their number.

Invariants:
1. A row counts as sent by the flight that gathered it: ``Flight.landed`` sends what is gathered and
   waits until it is acknowledged.
2. Rows stay gathered until the producer has their batches. What was cut off in between is sent
   again, with the same coordinates.
3. Rows of one flight for one partition keep their order.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.worker.outputs import Flight, Outputs, RowLike

ROWS_MAX = 20_000
"""Gathered rows of a worker; some 10 MB of minute counts."""


@dataclass(slots=True)
class _Waiting:
    rows: list[RowLike] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)


class Gathering:
    """Gathers rows of any number of flights."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self._rows = 0
        self._sending = asyncio.Lock()

    async def add(
        self, flight: Flight, topic: str, partition: int, rows: Sequence[RowLike]
    ) -> None:
        """Gathers rows; sends all that is gathered when it has become too much.

        Raises:
            aiokafka.errors.KafkaError: as ``Flight.send_to``.
            ValueError: as ``Flight.send_to``.
        """
        waiting = self._waiting.setdefault((topic, partition), _Waiting())
        waiting.rows += rows
        if not waiting.flights or waiting.flights[-1] is not flight:
            waiting.flights.append(flight)
        flight.gathered_by = self
        self._rows += len(rows)
        if self._rows >= ROWS_MAX:
            await self.send()

    async def send(self) -> None:
        """Hands all that is gathered to the producer; a second call waits for the first.

        Raises:
            aiokafka.errors.KafkaError: as ``Flight.send_to``.
            ValueError: as ``Flight.send_to``.
        """
        async with self._sending:
            for place in list(self._waiting):
                await self._send(place)

    async def _send(self, place: tuple[str, int]) -> None:
        waiting = self._waiting.pop(place)
        self._rows -= len(waiting.rows)
        try:
            for batch in self._outputs.batches(place[0], waiting.rows):
                future = await self._outputs.send(batch, *place)
                for flight in waiting.flights:
                    flight.carries(*place, future)
        except BaseException:  # cancelled too
            since = self._waiting.setdefault(place, _Waiting())
            since.rows[:0] = waiting.rows
            since.flights[:0] = waiting.flights
            self._rows += len(waiting.rows)
            raise
