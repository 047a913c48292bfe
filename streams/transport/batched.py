"""Questions to the broker that are asked at one moment go out as one request.

A broker answers the requests of a connection in order, and aiokafka's fetches are requests of the
same connection, each answered after up to half a second. A worker that opens a dozen partitions
asks for the end of each log: one question after another would wait for as many fetches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from streams.transport.chunks import TP

__all__ = ["Batched"]


class Batched:
    """Looks up one number of a partition, for many that ask at once.

    A question is never answered by a request that was sent before it was asked. One request is
    under way at a time; what is asked meanwhile goes out with the next.

    Args:
        ask: the request; its errors are raised to all whose question it carried.
    """

    def __init__(self, ask: Callable[[set[TP]], Awaitable[Mapping[TP, int]]]) -> None:
        self._ask = ask
        self._asked: dict[TP, asyncio.Future[int]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def of(self, tp: TP) -> int:
        """The number of ``tp``, as of a request that is sent from now on."""
        if tp not in self._asked:
            self._asked[tp] = asyncio.get_running_loop().create_future()
        answer = self._asked[tp]
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(answer)  # the others' answer, if this one gives up

    async def _ask_all(self) -> None:
        try:
            while self._asked:
                await asyncio.sleep(0)  # who is about to ask in this turn of the loop comes along
                asked, self._asked = self._asked, {}
                await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: Mapping[TP, asyncio.Future[int]]) -> None:
        try:
            found = await self._ask(set(asked))
            for tp, answer in asked.items():
                answer.set_result(int(found[tp]))
        except Exception as error:
            for answer in asked.values():
                if not answer.done():
                    answer.set_exception(error)
        finally:
            for answer in asked.values():
                answer.cancel()  # without effect on those that are answered
