"""Tells ClickHouse through which time its data is complete, also while nothing comes.

Invariants:
1. Of each partition: when the workers have committed all of the raw topic, and the sink has stored
   all of the enriched one, the data is complete through the moment of asking; otherwise through the
   log time of the last record stored. It never goes back while this process runs.
2. The workers' offsets are asked for before the topics' ends: they commit only what Kafka has
   acknowledged (invariant 5 of the design), so what they had committed is before the ends.
3. The cost is that of a few requests every ``INTERVAL_S`` seconds, whatever the topics hold.
4. A failure changes nothing: the time that was told last stays, and gets older.
5. The metrics say the same, and how far the workers are behind.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client

from analytics.client import RowsRefused, insert_columns
from analytics.metrics import SinkMetrics
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import ENRICHED, MINUTES, RAW

log = structlog.get_logger("mailpulse.sink")

INTERVAL_S = 1.0
"""Between two rows of a partition: by so much ``freshness`` may be behind on a quiet system. A page
that must say within 5 seconds that a sink stands still hears of it no sooner."""

Offsets = Mapping[TopicPartition, int]
Through = dict[TopicPartition, int]


def through(
    partitions: Iterable[int],
    committed: Offsets,
    ends: Offsets,
    stored: Offsets,
    times_ms: Offsets,
    asked_ms: int,
    told: Through,
) -> Through:
    """Through which time each partition is complete. Pure.

    Args:
        partitions: of the enriched topic that this sink reads.
        committed: next offset that the workers read, of the raw and the minutes topic; -1: none.
        ends: end of each topic and partition, asked for after ``committed``.
        stored: next offset that the sink stores, of the enriched topic.
        times_ms: log time of the last enriched record stored, milliseconds.
        asked_ms: when the question was begun.
        told: what was told before.

    Returns:
        Milliseconds since 1970, of the enriched topic for events, of the minutes topic for rates;
        without those of which nothing is known yet.
    """
    found = dict(told)

    def note(place: TopicPartition, at_ms: int) -> None:
        if at_ms > found.get(place, 0):
            found[place] = at_ms

    for number in partitions:
        raw, enriched, minutes = (TopicPartition(t, number) for t in (RAW, ENRICHED, MINUTES))
        worked_off = _reached(committed, raw, ends)
        if worked_off and _reached(stored, enriched, ends):
            note(enriched, asked_ms)
        else:
            note(enriched, times_ms.get(enriched, 0))
        if worked_off and _reached(committed, minutes, ends):
            note(minutes, asked_ms)
    return found


def _reached(position: Offsets, place: TopicPartition, ends: Offsets) -> bool:
    return place in ends and max(0, position.get(place, 0)) >= ends[place]


def lags(committed: Offsets, ends: Offsets) -> dict[TopicPartition, int]:
    """Records of each partition that a group has not committed. Pure.

    Args:
        committed: next offset that the group reads; -1: it has committed nothing, so all that the
            partition ever held counts.
        ends: end of each partition, asked for after ``committed``.
    """
    return {
        place: max(0, ends[place] - max(0, at)) for place, at in committed.items() if place in ends
    }


class Progress:
    """Tells it every ``INTERVAL_S`` seconds.

    Args:
        settings: of Kafka, and the workers' group.
        client: creates a ClickHouse client; blocking, raises ``Unavailable``.
        reading: the sink's consumer, while it has one, its next offsets to store, and the log times
            of the last records stored.
        metrics: to update.
        wall: seconds since 1970.

    Attributes:
        told: whether the last row was stored; true before the first.
    """

    def __init__(
        self,
        settings: Settings,
        client: Callable[[], Client],
        reading: Callable[[], tuple[Any, Offsets, Offsets]],
        metrics: SinkMetrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._make_client = client
        self._client: Client | None = None
        self._reading = reading
        self._metrics = metrics
        self._wall = wall
        self._told: Through = {}
        self.told = True

    async def run(self) -> None:
        """Runs until it is cancelled."""
        admin = AIOKafkaAdminClient(**self._settings.kafka_client_options())
        started = False
        try:
            while True:
                try:
                    if not started:
                        await admin.start()
                        started = True
                    await self.tell(admin)
                except (KafkaError, Unavailable, RowsRefused, OSError) as error:
                    self._client = None
                    if isinstance(error, KafkaError):
                        self._metrics.workers_lag.clear()  # unknown
                    log.warning("progress not told", error=str(error)[:300])
                await asyncio.sleep(INTERVAL_S)
        finally:
            await admin.close()

    async def tell(self, admin: AIOKafkaAdminClient) -> None:
        """Asks Kafka and writes rows for the partitions of this sink.

        Raises:
            KafkaError, Unavailable, RowsRefused: as the clients.
        """
        consumer, stored, times_ms = self._reading()
        if consumer is None:
            return
        mine = sorted(tp.partition for tp in consumer.assignment() if tp.topic == ENRICHED)
        if not mine:
            self._told = {}
            self._show({})
            return
        asked_ms = int(self._wall() * 1000)
        places = [TopicPartition(topic, number) for topic in (RAW, MINUTES) for number in mine]
        group = self._settings.consumer_group
        found = await admin.list_consumer_group_offsets(group, partitions=places)
        committed = {place: each.offset for place, each in found.items()}
        enriched = [TopicPartition(ENRICHED, number) for number in mine]
        ends = await consumer.end_offsets([*places, *enriched])
        held = {place: at for place, at in self._told.items() if place.partition in mine}
        self._told = through(mine, committed, ends, stored, times_ms, asked_ms, held)
        self._show(lags(committed, ends))
        try:
            await asyncio.to_thread(self._write, asked_ms)
        except Unavailable:
            self.told = False
            raise
        self.told = True

    def _show(self, workers_lag: Mapping[TopicPartition, int]) -> None:
        metrics = self._metrics
        metrics.workers_lag.clear()  # another sink reports what is not this one's any more
        for place, records in workers_lag.items():
            metrics.workers_lag.labels(place.topic, str(place.partition)).set(records)
        metrics.complete_through.clear()
        for place, at_ms in self._told.items():
            if place.topic == ENRICHED:
                metrics.complete_through.labels(str(place.partition)).set(at_ms / 1000)

    def _write(self, asked_ms: int) -> None:
        if self._client is None:
            self._client = self._make_client()
        rows = sorted(self._told.items())
        if rows:
            columns = {
                "topic": [place.topic for place, _ in rows],
                "partition": [place.partition for place, _ in rows],
                "through": [at_ms for _, at_ms in rows],
                "told_at": [asked_ms] * len(rows),
            }
            insert_columns(self._client, "sink_progress", columns, {})
