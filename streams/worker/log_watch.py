"""Notices that the raw topic was deleted and recreated since the local state was made from it.

A recreated topic begins again at offset 0. A worker that went on reading from the old offsets would
take the new log's records for the old log's, and skip those below.

Invariants:
1. A record is folded only if the topic's id was read after the record was fetched, or at most
   ``FRESH_S`` before, and is the known one (``verify``). Nothing is folded while no broker answers.
2. One admin client is kept open, and replaced after a failure.
3. A topic that does not exist has not been recreated: what was fetched is of the known log.
4. With ``MAILPULSE_LOG_ID`` the operator says which log it is, and Kafka is not asked.

Each commit names its log (``commit_notes`` of ``ChunkApp``), so a commit of the old log that lands
on the recreated topic is ignored when it is read. Commits of earlier versions name no log, and are
valid.

One gap is left: a topic that is deleted, recreated and filled beyond the last offset read, all
within ``FRESH_S`` or before the broker that is asked has heard of it. What is fetched then is
folded as if it were of the old log. The next worker reads the new log from its first record, and
drops those records as duplicates.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from aiokafka.errors import for_code

from schemas.errors import MailpulseError, Unavailable
from schemas.settings import Settings
from schemas.topics import RAW
from streams.kafka.clients import admin_client, answering
from streams.kafka.metadata import ClusterRequest

FRESH_S = 0.1
"""How long an answer is valid, so that at most ten requests a second are made. One takes 1.3 ms, of
them 0.3 ms CPU (measured 2026-11-24 with the broker on the same machine)."""
RETRY_S = 0.2
_UNKNOWN_TOPIC = 3  # Kafka error code UNKNOWN_TOPIC_OR_PARTITION


class LogChanged(MailpulseError):
    """The raw topic was recreated: this worker must end, and the next one reads the new log."""


class Ids(Protocol):
    """Asks a broker for topics' ids over one connection."""

    async def topic_id(self, topic: str) -> str | None:
        """The id of a topic; ``None``: there is none of that name.

        Raises:
            Unavailable: no broker answers. The connection can only be closed then.
        """

    async def close(self) -> None:
        """Closes the connection."""


class TopicIds:
    """``Ids`` over an admin client; made by ``connect``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: Any = None

    @classmethod
    async def connect(cls, settings: Settings) -> "TopicIds":
        """Connects.

        Raises:
            Unavailable: no broker answers.
        """
        ids = cls(settings)
        ids._client = await ids._stack.enter_async_context(admin_client(settings))
        return ids

    async def topic_id(self, topic: str) -> str | None:
        """See ``Ids``; as 32 hexadecimal digits."""
        with answering(self._settings):
            response = await self._client._send_request(ClusterRequest([topic]))
            (found,) = response.to_object()["topics"]
            if found["error_code"] == _UNKNOWN_TOPIC:
                return None
            if found["error_code"]:
                raise for_code(found["error_code"])()
        topic_id: str = found["topic_id"].hex
        return topic_id

    async def close(self) -> None:
        """See ``Ids``."""
        await self._stack.aclose()


class LogWatch:
    """Compares the raw topic's id with that of the log that a worker reads.

    Args:
        log_id: of the worker's log.
        connect: connects to a broker; raises ``Unavailable``. ``None``: invariant 4.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        log_id: str,
        connect: Callable[[], Awaitable[Ids]] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_id = log_id
        self._connect = connect
        self._clock = clock
        self._ids: Ids | None = None
        self._ours_at = -math.inf
        """When the newest question was asked whose answer was ``log_id``."""
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Asks now.

        Raises:
            LogChanged: it is another log.
            Unavailable: no broker answers.
        """
        if self._connect is None:
            return
        async with self._lock:
            asked_at = self._clock()
            found = await self._ask(self._connect)
            if found is not None and found != self._log_id:
                raise LogChanged(f"{RAW} was recreated: its id is {found}, and was {self._log_id}")
            self._ours_at = asked_at

    async def _ask(self, connect: Callable[[], Awaitable[Ids]]) -> str | None:
        if self._ids is None:
            self._ids = await connect()
        try:
            return await self._ids.topic_id(RAW)
        except BaseException:  # cancelled in the middle of an answer too
            broken, self._ids = self._ids, None
            await broken.close()
            raise

    async def verify(self) -> None:
        """Returns once what was fetched before the call may be folded (invariant 1).

        Raises:
            LogChanged: it is another log.
        """
        if self._connect is None:
            return
        needed = self._clock() - FRESH_S
        while self._ours_at < needed:
            try:
                await self.look()
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Disconnects, after a question that is under way was answered."""
        async with self._lock:
            if self._ids is not None:
                await self._ids.close()
                self._ids = None


def watch_of(settings: Settings, log_id: str) -> LogWatch:
    """The watch over a worker's log; connects when it is first asked."""

    async def connect() -> Ids:
        return await TopicIds.connect(settings)

    return LogWatch(log_id, None if settings.log_id else connect)
