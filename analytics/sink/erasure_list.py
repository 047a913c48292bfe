"""The erasures that a sink obeys, read from their topic.

Invariants:
1. A batch is begun only with a list that was read to its end at most ``STALE_S`` before, so
   whatever is inserted later than that after an erasure was announced obeys it.
2. A topic that does not exist is treated as empty.
"""

from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from schemas.erasure import Erasures
from schemas.errors import DecodeError, Unavailable
from schemas.kafka_stopping import stop_client
from schemas.metadata_pace import paced
from schemas.one_partition import OnePartition
from schemas.settings import Settings
from schemas.topics import ERASURES

log = structlog.get_logger("mailpulse.sink")

STALE_S = 1.0


class ErasureList:
    """A reader of the topic, without a group.

    Attributes:
        erasures: all that were announced; grows while it is used.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self.erasures = Erasures()
        self._settings = settings
        self._codec = codec
        self._consumer: Any = None
        self._topic = OnePartition(ERASURES)
        self._read_at = float("-inf")

    async def fresh(self, now: float) -> None:
        """Reads what is new, if the last reading is older than ``STALE_S``.

        Raises:
            Unavailable: Kafka does not answer; nothing may be stored by this list.
        """
        if now - self._read_at <= STALE_S:
            return
        try:
            await self._read()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error}") from error
        self._read_at = now

    async def _read(self) -> None:
        if self._consumer is None:
            consumer = paced(
                AIOKafkaConsumer(
                    **self._settings.kafka_client_options(), group_id=None,
                    enable_auto_commit=False, auto_offset_reset="earliest",
                )
            )  # fmt: skip
            try:
                await consumer.start()
            except BaseException:
                await stop_client(consumer)
                raise
            self._consumer = consumer
        async for record in self._topic.news(self._consumer):
            self._put(record)

    def _put(self, record: Any) -> None:
        try:
            value = None
            if record.value is not None:
                value = self._codec.decode(record.value, "erasure")
            self.erasures.put((record.key or b"").decode("utf-8", "replace"), value)
        except (DecodeError, ValueError) as error:
            log.error("erasure not readable", offset=record.offset, error=str(error))

    async def close(self) -> None:
        """Ends the reader."""
        if self._consumer is not None:
            await stop_client(self._consumer)
