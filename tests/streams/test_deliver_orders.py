"""Operators order at the same moment: what both ordered holds."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from streams.deliver import orders
from streams.deliver.orders import Order

Change = Callable[[Order], Order]


class Topic:
    """The orders' topic in memory; every call takes a random while."""

    def __init__(self, seed: int) -> None:
        self.records: list[Order] = []
        self._dice = random.Random(seed)

    async def _while(self) -> None:
        for _ in range(self._dice.randrange(5)):
            await asyncio.sleep(0)

    async def give(self, _settings: Any, _codec: Any, order: Order) -> int:
        await self._while()
        self.records.append(order)
        offset = len(self.records) - 1
        await self._while()
        return offset

    async def read(
        self, _settings: Any, _codec: Any, name: str = "", before: int | None = None
    ) -> dict[str, tuple[Order, int]]:
        await self._while()
        kept = self.records[:before]
        found = {order.destination: (order, offset) for offset, order in enumerate(kept)}
        await self._while()
        return found


def paused(order: Order) -> Order:
    return order.with_pause(True, 1)


def again(order: Order) -> Order:
    return order.with_resend(7, 2)


@pytest.mark.parametrize("seed", range(300))
async def test_two_orders_at_once_both_hold(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause and a «send again», and another destination's beside them, in any interleaving."""
    topic = Topic(seed)
    monkeypatch.setattr(orders, "give", topic.give)
    monkeypatch.setattr(orders, "_with_offsets", topic.read)
    nothing: Any = None

    def order(name: str, change: Change) -> Any:
        return orders.change(nothing, nothing, name, change)

    await asyncio.gather(order("crm", paused), order("crm", again), order("other", paused))
    final = (await topic.read(None, None))["crm"][0]
    assert final.paused
    assert (final.resend > 0, final.resend_from) == (True, 7)
