"""Holds aiokafka's clients back where they ask for the same metadata again and again.

aiokafka 0.14 repeats the request as fast as the broker answers while a partition that it reads or
writes has no leader: its topic was deleted, or the broker with its data is down. One consumer asks
about 500 times a second then, which costs a core here and more on the broker that is in trouble.
Kafka's own client waits between two requests (``retry.backoff.ms``), and so do those here.
"""

import asyncio
import math
import time
from collections.abc import Collection
from typing import Any, TypeVar

PAUSE_S = 0.1
"""Between two requests for the same topics: the default of ``retry.backoff.ms``."""

Client = TypeVar("Client")


def paced(outer: Client) -> Client:
    """Makes a consumer or producer pause between two requests for the same topics.

    Requests for other topics are not delayed, nor is the first one after a pause. It relies on two
    internals of aiokafka, which is pinned; ``tests/live/test_metadata_pace.py`` counts requests.

    Args:
        outer: an ``AIOKafkaConsumer`` or ``AIOKafkaProducer``.
    """
    given: Any = outer
    inner = given._client if hasattr(given, "_client") else given.client
    update = inner._metadata_update
    asked_for: frozenset[str] | None = None
    asked_at_s = -math.inf

    async def update_later(cluster: Any, topics: Collection[str] | None) -> Any:
        nonlocal asked_for, asked_at_s
        if cluster is not inner.cluster:  # a list of all topics, which a caller asks for once
            return await update(cluster, topics)
        wanted = frozenset(topics or ())
        if wanted == asked_for:
            await asyncio.sleep(max(0.0, asked_at_s + PAUSE_S - time.monotonic()))
        asked_for, asked_at_s = wanted, time.monotonic()
        return await update(cluster, topics)

    inner._metadata_update = update_later
    return outer
