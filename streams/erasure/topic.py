"""Reads and writes the topic of erasures.

Invariants:
1. All records are in partition 0, keyed by erasure; the newest of a key holds.
2. A topic that does not exist is treated as empty: nobody was forgotten.
3. ``fresh`` reads the topic to its end unless that was done ``STALE_S`` before, so what is done by
   its answer obeys every erasure that was announced longer ago.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import structlog

from schemas import cloudevents
from schemas.cloudevents import cloud_event
from schemas.codec import AvroRecord, Codec
from schemas.erasure import Erasures
from schemas.errors import ConfigError, DecodeError
from schemas.one_partition import OnePartition
from schemas.settings import Settings
from schemas.topics import ERASURES
from streams.kafka.clients import answering, lone_consumer

log = structlog.get_logger(__name__)

STALE_S = 1.0
StateKeys = tuple[int, tuple[bytes, ...]]
"""Time of an erasure in seconds, and keys of the workers' state."""


class ErasureLog:
    """A reader of the topic, and what it has read. An async context manager.

    Args:
        keeps: whether it keeps whole records, as commands need them: some 600 bytes each. Workers
            keep some 400 bytes of a person.

    Attributes:
        erasures: those to obey; grows with every ``fresh``.
        newest: record of each erasure, by its id, if they are kept.
    """

    def __init__(self, settings: Settings, codec: Codec, *, keeps: bool = False) -> None:
        self.erasures = Erasures()
        self.newest: dict[str, AvroRecord] = {}
        self._topic = OnePartition(ERASURES)
        self._keeps = keeps
        self._codec = codec
        self._settings = settings
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._state_keys: list[tuple[int, StateKeys]] = []

    async def __aenter__(self) -> "ErasureLog":
        self._consumer = await self._stack.enter_async_context(lone_consumer(self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def end(self) -> int:
        """Offset after the last record that was read."""
        return self._topic.end

    async def fresh(self, stale_s: float = STALE_S) -> None:
        """See invariant 3.

        Raises:
            Unavailable: the broker is away.
        """
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at <= stale_s:
            return
        async with self._lock:
            asked_at = loop.time()
            with answering(self._settings):
                await self._read()
            self._read_at = asked_at

    async def _read(self) -> None:
        async for record in self._topic.news(self._consumer):
            self._take(record)

    def _take(self, record: Any) -> None:
        name = (record.key or b"").decode("utf-8", "replace")
        try:
            value = None
            if record.value is not None:
                value = self._codec.decode(record.value, "erasure")
            self.erasures.put(name, value)
            keys = tuple(map(bytes.fromhex, value["state_keys"])) if value else ()
        except (DecodeError, ValueError) as error:
            log.error("erasure not readable", offset=record.offset, error=str(error))
            return
        if value is None:
            self.newest.pop(name, None)
        elif self._keeps:
            self.newest[name] = value
        if value is not None and keys:
            self._state_keys.append((record.offset, (value["at"] // 1_000_000, keys)))

    def state_keys(self, offset: int) -> Iterator[StateKeys]:
        """What records from ``offset`` on erase of the workers' state."""
        return (order for place, order in self._state_keys if place >= offset)

    async def announce(self, producer: Any, records: Iterable[AvroRecord]) -> int:
        """Writes erasures; returns the offset after the last one, once all are acknowledged.

        Raises:
            ConfigError: there is no such topic.
            aiokafka.errors.KafkaError: some may be written.
        """
        if ERASURES not in await self._consumer.topics():
            raise ConfigError([f"{ERASURES}: no such topic; 'mailpulse topics apply' creates it"])
        waiting = [
            await producer.send(
                ERASURES, self._codec.encode("erasure", record), partition=0,
                key=record["erasure_id"].encode(),
                headers=cloud_event(
                    "erasure", cloudevents.CLI,
                    f"{record['erasure_id']}-{len(record['identities'])}", record["at"],
                ),
            )
            for record in records
        ]  # fmt: skip
        ends = [(await one).offset + 1 for one in waiting]
        return max(ends, default=0)
