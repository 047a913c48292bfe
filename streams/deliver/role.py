"""The role ``deliver``: one runner for each destination, in one process.

Invariants:
1. Destinations share nothing but the process and the producer of dead letters: a dead one only
   lags.
2. An unavailable Kafka is waited for; a bug ends the role (invariant 8 of the design).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping

import structlog

from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.serving.server import serving_health
from schemas.settings import Settings
from streams.deliver import console, orders
from streams.deliver.destinations import AnyDestination
from streams.deliver.letters import Letters
from streams.deliver.metrics import DeliverMetrics
from streams.deliver.places import Places, places
from streams.deliver.retention import WARN_S
from streams.deliver.runner import Runner, pause
from streams.deliver.senders import AnySender, sender_of
from streams.deliver.telling import tell_of_troubles
from streams.erasure.topic import STALE_S, ErasureLog
from streams.kafka.clients import producer

log = structlog.get_logger("mailpulse.deliver")

WARN_EVERY_S = 3_600.0
RETENTION_S = 300.0
"""Between two readings of the topics' retention."""


async def serve(
    settings: Settings,
    destinations: Mapping[str, AnyDestination],
    *,
    codec: Codec,
    stop: asyncio.Event,
    metrics: DeliverMetrics | None = None,
) -> None:
    """Delivers until ``stop`` is set. Health and metrics are on ``metrics_port``.

    Raises:
        ConfigError: a certificate file of a destination can't be read.
        Exception: a bug.
    """
    figures = metrics or DeliverMetrics()
    destinations = {name: one for name, one in destinations.items() if one.topics}
    runners: dict[str, Runner] = {}
    senders = {
        name: sender_of(one, figures.count_suppressions) for name, one in destinations.items()
    }
    for name in destinations:
        figures.last_success.labels(name)
        figures.open.labels(name)
        figures.expired.labels(name)
    token = settings.dashboard_deliver_token.get_secret_value()
    health = serving_health(
        settings,
        lambda: len(runners) == len(destinations) and all(one.ready for one in runners.values()),
        figures.render,
        console.routes(runners, token),
    )
    async with health as port:
        log.info("deliver started", destinations=sorted(destinations), health_port=port)
        while not stop.is_set():
            try:
                await _deliver(settings, destinations, senders, codec, figures, runners, stop)
            except Unavailable as error:
                log.warning("Kafka does not answer, will retry", error=str(error))
                runners.clear()
                await pause(stop)


async def _deliver(
    settings: Settings,
    destinations: Mapping[str, AnyDestination],
    senders: Mapping[str, AnySender],
    codec: Codec,
    figures: DeliverMetrics,
    runners: dict[str, Runner],
    stop: asyncio.Event,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        batch = {"max_batch_size": 2_000_000, "max_request_size": 2_000_000}
        client = await stack.enter_async_context(producer(settings, **batch))
        where = await stack.enter_async_context(places(settings, time.time))
        erasures = await stack.enter_async_context(ErasureLog(settings, codec))
        await erasures.fresh()
        given = await orders.current(settings, codec)
        letters = Letters(client, codec)
        for name, destination in destinations.items():
            sender = await stack.enter_async_context(senders[name])
            runner = Runner(
                destination, settings, codec, sender, letters, where, figures, random.random,
                time.time, erasures.erasures,
            )  # fmt: skip
            if name in given:
                runner.obey(given[name])
            runners[name] = runner

        def tell(order: orders.Order) -> None:
            runner = runners.get(order.destination)
            if runner is not None and order != runner.order:
                runner.obey(order)

        beside = [
            asyncio.create_task(orders.follow(settings, codec, tell)),
            asyncio.create_task(_warn(list(runners.values()))),
            asyncio.create_task(_keep_retention(where)),
            asyncio.create_task(_keep_erasures(erasures)),
            asyncio.create_task(tell_of_troubles(destinations, runners, senders, time.time)),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for runner in runners.values():
                    group.create_task(runner.run(stop))
        except* Unavailable as errors:
            raise errors.exceptions[0] from None
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def _keep_erasures(erasures: ErasureLog) -> None:
    """Reads who was forgotten since."""
    while True:
        await asyncio.sleep(STALE_S)
        try:
            await erasures.fresh()
        except Unavailable as error:
            log.warning("erasures can't be read, will retry", error=str(error))


async def _keep_retention(where: Places) -> None:
    """Reads again how long topics keep records: ``retention.ms`` may be raised at any time."""
    while True:
        await asyncio.sleep(RETENTION_S)
        try:
            await where.refresh()
        except Unavailable as error:
            log.warning("retention can't be read, will retry", error=str(error))


async def _warn(runners: list[Runner]) -> None:
    """Says in the log which records retention will remove within ``WARN_S``."""
    while True:
        for runner in runners:
            left = runner.figures.seconds_left()
            if left is not None and left < WARN_S:
                log.error(
                    "records will be removed before they are delivered: repair the destination, or"
                    " raise retention.ms of the topic", destination=runner.name,
                    hours_left=round(max(0.0, left) / 3600, 1),
                )  # fmt: skip
        await asyncio.sleep(WARN_EVERY_S)
