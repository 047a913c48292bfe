"""Stops aiokafka's clients, also while a broker is away.

aiokafka 0.14 cancels a fetch that waits for its next try and lets that cancellation out of ``stop``
(``Fetcher.close``): as if the caller were cancelled, so a role would end with an error just because
a connection had been lost within the last 100 ms. The client is pinned;
``tests/schemas/test_kafka_stopping.py`` stops a real one in that moment.
"""

import asyncio
from typing import Any


async def stop_client(client: Any) -> None:
    """Stops a consumer or producer.

    Args:
        client: an ``AIOKafkaConsumer`` or ``AIOKafkaProducer``, started or not.

    Raises:
        asyncio.CancelledError: the caller is cancelled.
    """
    try:
        await client.stop()
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is None or caller.cancelling():
            raise
        inner = getattr(client, "_client", None)  # what ``stop`` would have come to
        if inner is not None:
            await inner.close()
