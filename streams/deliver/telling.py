"""Sends notices of destinations that do not work; see ``streams.deliver.notices``."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from streams.deliver.bodies import Body
from streams.deliver.destinations import AnyDestination
from streams.deliver.notices import RETRY_S, TRIES_MAX, Watch, tellers
from streams.deliver.runner import Runner
from streams.deliver.senders import AnySender

log = structlog.get_logger("mailpulse.deliver")

LOOK_S = 5.0


async def tell_of_troubles(
    destinations: Mapping[str, AnyDestination],
    runners: Mapping[str, Runner],
    senders: Mapping[str, AnySender],
    wall: Callable[[], float],
) -> None:
    """Looks at every destination, for ever, and tells by the others."""
    watch = Watch()
    async with asyncio.TaskGroup() as group:
        while True:
            for name, runner in runners.items():
                failing = runner.machine.breaker.is_open and not runner.machine.paused
                said = runner.figures.tries.last_failure
                body = watch.look(destinations[name], failing, said, wall())
                for teller in tellers(destinations, name) if body is not None else ():
                    group.create_task(_tell(teller, senders[teller], body))
            await asyncio.sleep(LOOK_S)


async def _tell(name: str, sender: AnySender, body: Body | None) -> None:
    assert body is not None
    for number in range(TRIES_MAX):
        outcome = await sender.send([body])
        if outcome.delivered:
            return
        await asyncio.sleep(RETRY_S * 2**number)
    log.error("people were not told of a destination", by=name, said=outcome.said)
