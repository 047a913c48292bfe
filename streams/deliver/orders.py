"""What operators ordered of destinations, on a topic of their own.

Invariants:
1. The newest record of a destination is its whole state, so the topic can be compacted.
2. All records are in partition 0.
3. A destination of which nothing was ordered is not paused.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from schemas import cloudevents
from schemas.cloudevents import cloud_event
from schemas.codec import Codec
from schemas.errors import ConfigError, DecodeError, Unavailable
from schemas.settings import Settings
from schemas.topics import DESTINATIONS
from streams.kafka.clients import answering, producer
from streams.kafka.reader import reader

log = structlog.get_logger("mailpulse.deliver")

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """The state of one destination; see ``schemas/avro/destination.v1.avsc``.

    Times are microseconds since 1970.
    """

    destination: str
    ordered_at: int = 0
    paused: bool = False
    resend: int = 0
    resend_from: int = 0

    def with_pause(self, paused: bool, now_us: int) -> "Order":
        """Paused or resumed."""
        return replace(self, ordered_at=now_us, paused=paused)

    def with_resend(self, from_us: int, now_us: int) -> "Order":
        """To be sent again from a time on."""
        number = max(now_us, self.resend + 1)
        return replace(self, ordered_at=now_us, resend=number, resend_from=from_us)


Orders = dict[str, Order]


def _read(codec: Codec, value: bytes | None) -> Order | None:
    if value is None:
        return None
    try:
        return Order(**codec.decode(value, "destination"))
    except DecodeError as error:
        log.error("order not readable", reason=error.reason, detail=error.detail)
        return None


async def current(settings: Settings, codec: Codec) -> Orders:
    """The newest order of each destination; none where the topic does not exist.

    Raises:
        Unavailable: Kafka does not answer.
    """
    found = await _with_offsets(settings, codec)
    return {name: order for name, (order, _) in found.items()}


async def change(
    settings: Settings, codec: Codec, name: str, changed: Callable[[Order], Order]
) -> Order:
    """Changes what is ordered of a destination; returns the order that was given.

    Two operators may order within the same moment, each from what there was before. Whoever finds
    another's order between what it read and what it wrote changes that one and writes again: so the
    later of the two is what both ordered.

    Raises:
        Unavailable: Kafka does not answer; ordering again is safe.
    """
    known, read = (await _with_offsets(settings, codec)).get(name, (Order(name), -1))
    while True:
        order = changed(known)
        written = await give(settings, codec, order)
        between = await _with_offsets(settings, codec, name, written)
        known, newest = between.get(name, (known, read))
        if newest <= read:
            return order
        read = written


async def _with_offsets(
    settings: Settings, codec: Codec, name: str = "", before: int | None = None
) -> dict[str, tuple[Order, int]]:
    """The newest order of each destination, and its offset.

    Args:
        name: only of this destination, if ``before`` is given.
        before: only orders at lower offsets.

    Raises:
        Unavailable: Kafka does not answer.
    """
    found: dict[str, tuple[Order, int]] = {}
    with answering(settings):
        async with reader(settings, DESTINATIONS) as topic:
            try:
                await topic.begin()
            except ConfigError:  # before the first ``topics apply`` of this version
                return found
            async for record in topic.records():
                if before is not None and record.offset >= before:
                    continue
                order = _read(codec, record.value)
                if order is not None:
                    found[order.destination] = order, record.offset
    return found


async def follow(settings: Settings, codec: Codec, tell: Callable[[Order], None]) -> None:
    """Tells every order, those that there are and those that come, for ever."""
    while True:
        try:
            async with reader(settings, DESTINATIONS) as topic:
                await topic.begin()
                async for record in topic.records(follow=True):
                    order = _read(codec, record.value)
                    if order is not None:
                        tell(order)
        except (Unavailable, ConfigError) as error:
            log.warning("orders can't be read, will retry", error=str(error))
        await asyncio.sleep(RETRY_S)


async def give(settings: Settings, codec: Codec, order: Order) -> int:
    """Writes an order; returns its offset when Kafka acknowledged it.

    Raises:
        Unavailable: Kafka does not answer; giving it again is safe.
    """
    identity = f"{order.destination}-{order.ordered_at}"
    headers = cloud_event("destination", cloudevents.CLI, identity, order.ordered_at)
    async with _started(settings) as client:
        written = await client.send_and_wait(
            DESTINATIONS, codec.encode("destination", asdict(order)),
            order.destination.encode(), partition=0, headers=headers,
        )  # fmt: skip
    return int(written.offset)


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Any]:
    with answering(settings):
        async with producer(settings) as client:
            yield client
