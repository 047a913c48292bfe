"""A client that is stopped just after it lost its broker stops, and its caller goes on."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError

from schemas.kafka_stopping import stop_client


class Away:
    """The client's connections, of which none works."""

    closed = False

    async def send(self, *_: object) -> None:
        """As to a broker that has closed its connection."""
        raise KafkaConnectionError("closed")

    async def close(self) -> None:
        """Closes them."""
        self.closed = True


async def for_ever() -> None:
    """What a caller waits for."""
    await asyncio.sleep(60)


async def test_a_fetch_that_waits_for_its_next_try_cancels_nobody_else() -> None:
    """aiokafka's own fetch and close, as they are when a connection was lost a moment ago."""
    fetcher, away = Fetcher.__new__(Fetcher), Away()
    fetch = fetcher._proc_fetch_request(None, 1, SimpleNamespace(topics=()))
    fetcher.__dict__ |= {
        "_client": away, "_retry_backoff": 60.0, "_preferred_read_replica": {},
        "_fetch_waiters": (), "_fetch_task": asyncio.create_task(for_ever()),
        "_pending_tasks": {asyncio.create_task(fetch)},
    }  # fmt: skip
    await asyncio.sleep(0)
    consumer: Any = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    consumer._client, consumer._fetcher = away, fetcher
    await stop_client(consumer)
    assert away.closed


async def test_a_caller_that_is_cancelled_is() -> None:
    """Its own cancellation is not taken for the client's."""

    class Slow:
        async def stop(self) -> None:
            await for_ever()

    task = asyncio.create_task(stop_client(Slow()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
