"""Where the partitions of a destination begin: at what is committed, or as ordered, or now.

Invariants:
1. A commit's metadata says what is finished beyond it, and which order to send again was followed:
   an order is followed once by each partition, whoever owns it.
2. Records that retention has removed are counted, never passed over in silence.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from aiokafka import TopicPartition

from schemas.settings import Settings
from schemas.topics import BY_NAME, TOPICS
from streams.deliver.destinations import AnyDestination
from streams.deliver.orders import Order
from streams.deliver.progress import Progress, restored
from streams.deliver.retention import seconds_left
from streams.kafka.clients import admin_client, answering

Begun = tuple[Progress, int]
"""Where a partition begins, and how many records before that retention removed."""


class Places:
    """Asks Kafka. Made by ``places``.

    Args:
        admin: an admin client.
        settings: of the process.
        retention_ms: of each topic; ``None``: by key.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        admin: Any,
        settings: Settings,
        retention_ms: dict[str, int | None],
        wall: Callable[[], float],
    ) -> None:
        self._admin = admin
        self._settings = settings
        self._retention_ms = retention_ms
        self._wall = wall

    def seconds_left(self, topic: str, timestamp_ms: int) -> float | None:
        """Until retention may remove a record; ``None``: it never does."""
        return seconds_left(timestamp_ms, self._retention_ms.get(topic), self._wall())

    async def refresh(self) -> None:
        """Reads the retention of the topics again.

        Raises:
            Unavailable: Kafka does not answer; what was known stays.
        """
        self._retention_ms = await _retention(self._settings)

    async def of(
        self,
        consumer: Any,
        destination: AnyDestination,
        group: str,
        partitions: Iterable[TopicPartition],
        order: Order,
    ) -> dict[TopicPartition, Begun]:
        """Where each partition begins.

        Raises:
            Unavailable: Kafka does not answer.
        """
        wanted = list(partitions)
        with answering(self._settings):
            committed = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
            starts = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
            found = {}
            for tp in wanted:
                old = committed.get(tp)
                known = old is not None and old.offset >= 0
                first = starts[tp] if destination.begin == "earliest" else ends[tp]
                progress = restored(old.offset, old.metadata) if known else Progress(first)
                if not known:
                    progress.order = order.resend
                elif progress.order < order.resend:
                    progress = _again(progress, await _at(consumer, tp, order, ends), order)
                found[tp] = _still_there(progress, starts[tp], ends[tp])
        return found


async def _at(
    consumer: Any, tp: TopicPartition, order: Order, ends: dict[TopicPartition, int]
) -> int:
    """The first record from the time that the order names; the end if there is none."""
    from_ms = max(0, order.resend_from // 1000)  # aiokafka refuses what is before 1970
    at = (await consumer.offsets_for_times({tp: from_ms}))[tp]
    return ends[tp] if at is None else int(at.offset)


def _again(progress: Progress, at: int, order: Order) -> Progress:
    """To be sent again from ``at``, and what was not sent before that too."""
    kept = [(begin, min(end, at)) for begin, end in progress.spans if begin < at]
    return Progress(min(progress.offset, at), kept, order.resend)


def _still_there(progress: Progress, start: int, end: int) -> Begun:
    """``progress`` from the first record that is there, and what is missing before it.

    A place beyond the end belongs to a topic that was made anew since: all of it is to be sent.
    """
    if progress.offset > end:
        return Progress(start, order=progress.order), 0
    if progress.offset >= start:
        return progress, 0
    gone = progress.unfinished(progress.offset, start)
    progress.finish(progress.offset, start)
    progress.position = progress.offset
    return progress, gone


async def _retention(settings: Settings) -> dict[str, int | None]:
    """Milliseconds that each topic keeps records; ``None``: by key.

    Raises:
        Unavailable: Kafka does not answer.
    """
    from streams.kafka.admin import topics_show

    cluster = await topics_show(settings)
    retention = {topic.name: topic.retention_ms for topic in TOPICS}
    for name, state in cluster.topics.items():
        if not BY_NAME[name].compacted and "retention.ms" in state.config:
            retention[name] = int(state.config["retention.ms"])
    return retention


@contextlib.asynccontextmanager
async def places(settings: Settings, wall: Callable[[], float]) -> AsyncIterator[Places]:
    """Opens a connection for the block.

    Raises:
        Unavailable: Kafka does not answer.
    """
    retention = await _retention(settings)
    async with admin_client(settings) as admin:
        yield Places(admin, settings, retention, wall)
