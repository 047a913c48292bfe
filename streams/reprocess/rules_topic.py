"""Reads and writes the topic of rules.

Invariants:
1. All records are in partition 0, so that their order is that of the epochs.
2. A topic that does not exist is treated as empty: rules were never changed.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from schemas import cloudevents
from schemas.cloudevents import cloud_event
from schemas.codec import Codec
from schemas.one_partition import OnePartition
from schemas.settings import Settings
from schemas.topics import RULES
from streams.enrich.epochs import Epoch, History, Span
from streams.kafka.clients import answering, lone_consumer


class Rulebook:
    """A reader of the topic of rules, and what it has read. An async context manager.

    Attributes:
        history: grows with every ``refresh``.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self.history = History()
        self._codec = codec
        self._settings = settings
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self._lock = asyncio.Lock()
        self._topic = OnePartition(RULES)

    async def __aenter__(self) -> "Rulebook":
        self._consumer = await self._stack.enter_async_context(lone_consumer(self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def is_there(self) -> bool:
        """Whether the topic existed at the last ``refresh``."""
        return self._topic.is_there

    async def refresh(self) -> History:
        """Reads all that was written before the call.

        Raises:
            Unavailable: the broker is away.
        """
        async with self._lock:
            with answering(self._settings):
                await self._read()
        return self.history

    async def _read(self) -> None:
        async for record in self._topic.news(self._consumer):
            if record.value is not None:
                self.history.add([self._codec.decode(record.value, "rules")])

    async def announce(self, producer: Any, epoch: Epoch) -> None:
        """Writes an epoch; returns when it is acknowledged. ``refresh`` tells whether it is first.

        Raises:
            aiokafka.errors.KafkaError: it may or may not be written.
        """
        await self._write(producer, epoch.record_key(), epoch.record())

    async def abort(self, producer: Any, epoch: Epoch) -> bool:
        """Writes that ``epoch`` is aborted.

        Returns:
            Whether it is: not if a partition began it first. Then the record is removed, so that
            compaction can't make it the earlier one.

        Raises:
            aiokafka.errors.KafkaError: it may or may not be written.
        """
        await self._write(producer, epoch.abort_key(), epoch.aborted())
        if (await self.refresh()).is_aborted(epoch.number):
            return True
        await producer.send_and_wait(RULES, None, key=epoch.abort_key(), partition=0)
        return False

    async def note_gone_back(self, producer: Any, epoch: Epoch, partition: int, span: Span) -> None:
        """Writes that the committed offset of ``partition`` was set back to ``span.begin``.

        Raises:
            aiokafka.errors.KafkaError: it may or may not be written.
        """
        key = f"{epoch.number}-{epoch.log_id}-{partition}".encode()
        await self._write(producer, key, epoch.gone_back(partition, span))

    async def _write(self, producer: Any, key: bytes, record: dict[str, Any]) -> None:
        identity, at_us = key.decode(), record["begun_at"] * 1000
        await producer.send_and_wait(
            RULES, self._codec.encode("rules", record), key=key, partition=0,
            headers=cloud_event("rules", cloudevents.CLI, identity, at_us),
        )  # fmt: skip
