"""Kafka clients for the length of a ``with``: started, and closed however it ends.

A broker that does not answer, at the start or later, is ``Unavailable``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.errors import Unavailable
from schemas.kafka_stopping import stop_client
from schemas.metadata_pace import paced
from schemas.settings import Settings

FETCH_BYTES_MAX = 4 << 20
"""Of one partition in one fetch, compressed, where whole topics are read."""


@contextmanager
def answering(settings: Settings) -> Iterator[None]:
    """Turns what clients raise into ``Unavailable``; the message names the brokers' addresses."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        # aiokafka's own errors begin with their name
        said = error if isinstance(error, KafkaError) else f"{type(error).__name__}: {error}"
        raise Unavailable(f"Kafka at {settings.kafka_bootstrap}: {said}") from error


def lone_consumer(settings: Settings, **options: Any) -> AbstractAsyncContextManager[Any]:
    """An aiokafka consumer without a group: it commits nothing, and no one's offsets move.

    Args:
        options: of ``AIOKafkaConsumer``, besides those for the connection.
    """
    consumer = AIOKafkaConsumer(
        **settings.kafka_client_options(), group_id=None, enable_auto_commit=False,
        auto_offset_reset="earliest", **options,
    )  # fmt: skip
    return _started(settings, paced(consumer), partial(stop_client, consumer))


def offset_keeper(settings: Settings, group: str) -> AbstractAsyncContextManager[Any]:
    """An aiokafka consumer that only commits offsets under ``group``, of which it is no member."""
    consumer = AIOKafkaConsumer(
        **settings.kafka_client_options(), group_id=group, enable_auto_commit=False,
    )  # fmt: skip
    return _started(settings, paced(consumer), partial(stop_client, consumer))


def producer(settings: Settings, **options: Any) -> AbstractAsyncContextManager[Any]:
    """An aiokafka producer whose records are acknowledged by all in-sync replicas.

    Args:
        options: of ``AIOKafkaProducer``, besides those for the connection and acknowledgements.
    """
    client = AIOKafkaProducer(
        **settings.kafka_client_options(), acks="all",
        enable_idempotence=True, **options,
    )  # fmt: skip
    return _started(settings, paced(client), partial(stop_client, client))


def admin_client(settings: Settings) -> AbstractAsyncContextManager[Any]:
    """An aiokafka admin client."""
    client = AIOKafkaAdminClient(**settings.kafka_client_options())
    return _started(settings, client, client.close)


@asynccontextmanager
async def _started(
    settings: Settings, client: Any, close: Callable[[], Awaitable[None]]
) -> AsyncIterator[Any]:
    with answering(settings):
        try:
            await client.start()
            yield client
        finally:
            await close()
