"""Publishes how requests were answered: ``RequestCounts`` to ``email.source.requests.v1``.

Invariants:
1. Nothing here delays or refuses a request: it has a connection to Kafka of its own, and no error
   of it reaches the hooks.
2. One record per source with requests and ``INTERVAL_S`` at most. While Kafka does not answer, an
   interval goes on; what a process that is killed has not published is lost: the counts say what
   happened, events do not depend on them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from ingest.producer import close_client
from ingest.request_counts import RequestCounts, result_of
from ingest.sparing_log import SparingLog
from schemas.cloudevents import INGEST, cloud_event
from schemas.codec import AvroRecord, Codec
from schemas.errors import Unavailable
from schemas.metadata_pace import paced
from schemas.settings import Settings
from schemas.topics import SOURCE_REQUESTS

INTERVAL_S = 60.0
SEND_S_MAX = 15.0
LAST_S_MAX = 3.0
"""How long the last counts may take when ingress ends."""
_KIND = "source_requests"


class Topic(Protocol):
    """Where records are sent: Kafka, or a test's list."""

    async def send(self, records: Sequence[AvroRecord]) -> None:
        """Sends records; returns once all are kept.

        Raises:
            Unavailable: not all are.
        """

    async def close(self) -> None:
        """Closes the connection."""


class KafkaTopic:
    """The topic in Kafka, over a connection that is opened when it is first needed, and again
    after an error.

    Args:
        settings: how to reach Kafka.
        codec: how records are framed.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._client: Any = None

    async def send(self, records: Sequence[AvroRecord]) -> None:
        """See ``Topic.send``."""
        try:
            if self._client is None:
                self._client = paced(
                    AIOKafkaProducer(
                        **self._settings.kafka_client_options(), acks="all",
                        enable_idempotence=True, client_id="mailpulse-ingest-counts",
                    )
                )  # fmt: skip
                await self._client.start()
            sent = [await self._client.send(SOURCE_REQUESTS, *self._pair(one)) for one in records]
            await asyncio.gather(*sent)
        except asyncio.CancelledError:
            await self.close()
            raise
        except Exception as error:  # aiokafka raises many kinds while brokers are away
            await self.close()
            raise Unavailable(type(error).__name__) from error

    def _pair(self, record: AvroRecord) -> tuple[Any, ...]:
        """Value, key, partition, time and headers, as aiokafka takes them."""
        identity = f"{record['ingress']}-{record['sequence']}-{record['source']}"
        headers = cloud_event(_KIND, INGEST, identity, record["ended_at"])
        return self._codec.encode(_KIND, record), record["source"].encode(), None, None, headers

    async def close(self) -> None:
        """See ``Topic.close``."""
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)


class Counting:
    """Counts requests, and publishes the counts each ``INTERVAL_S``.

    Args:
        topic: where to; ``None``: nothing is published.
        recipients: how this process stores recipients, see ``mode_mark``.
        now: seconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        topic: Topic | None,
        recipients: str,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._topic = topic
        self._now = now
        self._counts = RequestCounts(uuid4().hex, recipients, self._now_us())
        self._log = SparingLog("mailpulse.ingest.counting", clock)
        self._task: asyncio.Task[None] | None = None

    def count(self, source: str, result: str, reason: str, events: int, dead_letters: int) -> None:
        """Counts a request that was answered; see ``RequestCounts.add``."""
        self._counts.add(source, result_of(result, events, dead_letters), reason, self._now_us())

    def start(self) -> None:
        """Begins to publish."""
        if self._topic is not None:
            self._task = asyncio.create_task(self._run(), name="ingest-counting")

    async def stop(self) -> None:
        """Publishes what is left, within ``LAST_S_MAX``, and ends."""
        if self._task is not None and self._topic is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if await self.publish(LAST_S_MAX / 2):  # what was not acknowledged: what came since
                await self.publish(LAST_S_MAX / 2)
            await self._topic.close()
        self._log.close()

    async def publish(self, within_s: float) -> bool:
        """Publishes once; what fails is published by the next call.

        Returns:
            Whether anything was published.
        """
        records = self._counts.records(self._now_us())
        if self._topic is None or not records:
            return False
        try:
            async with asyncio.timeout(within_s):
                await self._topic.send(records)
        except (Unavailable, TimeoutError) as error:
            said = str(error) or type(error).__name__
            self._log.say("warning", "request counts not published", {"error": said})
            return False
        self._counts.acknowledged()
        return True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.publish(SEND_S_MAX)

    def _now_us(self) -> int:
        return int(self._now() * 1e6)
