"""The sink: reads the topics and stores their records in ClickHouse.

Invariants:
1. Read, insert, commit, in this order; after a crash the same records are read and the same rows
   written again (invariants 3 to 5 of the design): at-least-once delivery, exactly-once effect.
2. Kafka is polled continuously, also while ClickHouse is unavailable: partitions of full topics are
   paused, so memory is bounded and this member stays in the group.
3. Sinks share partitions as one consumer group; on a rebalance running inserts get some time to
   finish, and everything else is dropped and read again by the next owner.
4. A bug ends ``run`` with its error (invariant 8 of the design); an unavailable peer never does.
5. No batch is begun without the erasures that were announced a second before
   (``analytics.sink.erasure_list``); the member with the topic of erasures carries them out.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client

from analytics import migrate
from analytics.client import connect
from analytics.metrics import SinkMetrics
from analytics.sink.asking import Asked
from analytics.sink.batcher import Batcher, BatchLimits, Offsets
from analytics.sink.eraser import Eraser
from analytics.sink.erasure_list import ErasureList
from analytics.sink.loading import Loader, Reject
from analytics.sink.progress import Progress
from analytics.sink.reconciling import Reconciler
from schemas.cloudevents import SINK, by_leading_text
from schemas.codec import Codec
from schemas.dead_letter import of_record
from schemas.errors import Unavailable
from schemas.kafka_stopping import stop_client
from schemas.metadata_pace import paced
from schemas.serving.server import serving_health
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS, ENRICHED, ERASURES, RAW, sink_topics
from schemas.trace import Tracer

log = structlog.get_logger("mailpulse.sink")

POLL_S_MAX = 0.1
"""Longest wait in one poll, so the longest delay of a batch that is due."""
LANDING_S_MAX = 10.0
"""How long a stop waits for running inserts, seconds; a rebalance waits half as long."""
LAG_INTERVAL_S = 1.0
METADATA_MS = 15_000
"""How soon a topic that was deleted and recreated is read again."""


Ask = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]
Beside = Callable[
    [Ask, Callable[[], bool], Callable[[Mapping[str, float]], None]], Coroutine[Any, Any, None]
]
"""What runs beside a sink: takes a query of ClickHouse (blocking, raises ``Unavailable``), whether
this sink is the one that reads partition 0 of the raw topic, and what shows sources' silence."""


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One member of the sink's consumer group.

    Args:
        settings: of the process.
        codec: with the schema ids in use.
        metrics: to update.
        client: creates a ClickHouse client; blocking, raises ``Unavailable``.
        tracer: records spans of batches that have traced records.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        codec: Codec | None = None,
        metrics: SinkMetrics | None = None,
        client: Callable[[], Client] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec or Codec()
        self.metrics = metrics or SinkMetrics()
        self._client = client or (lambda: connect(settings))
        self._tracer = tracer
        wanted = sink_topics(reconcile=settings.sink_reconcile)
        self._executor = ThreadPoolExecutor(len(wanted), thread_name_prefix="sink")
        self._erasures = ErasureList(settings, self._codec)
        self._batchers = {topic: self._batcher(topic) for topic in wanted}
        self._consumer: AIOKafkaConsumer = None
        self._producer: AIOKafkaProducer = None
        self._lag_due = 0.0
        self._stored: Offsets = {}

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned and the last inserts succeeded."""
        consumer = self._consumer
        return consumer is not None and bool(consumer.assignment()) and self.stores

    @property
    def reconciles(self) -> bool:
        """Whether this member reports the reconciliation: it reads partition 0 of the raw topic."""
        consumer = self._consumer
        return consumer is not None and TopicPartition(RAW, 0) in consumer.assignment()

    def reading(self) -> tuple[Any, Offsets, Mapping[TopicPartition, int]]:
        """The consumer, its next offsets to store, and the log times of enriched records stored."""
        return self._consumer, self._stored, self._batchers[ENRICHED].through_ms

    @property
    def stores(self) -> bool:
        """Whether the last insert of every topic succeeded; true before the first."""
        return all(batcher.healthy for batcher in self._batchers.values())

    def _batcher(self, topic: str) -> Batcher:
        settings = self._settings
        self.metrics.declare(topic)
        return Batcher(
            topic,
            lambda: self._loader(topic),
            self._executor,
            BatchLimits(
                settings.sink_rows_max,
                settings.sink_bytes_max,
                settings.sink_interval_ms / 1000,
                settings.sink_backoff_ms_max / 1000,
            ),
            self.metrics,
            self._commit,
            self._dead_letter,
            self._tracer,
        )

    def _loader(self, topic: str) -> Loader | Eraser:
        client, settings = self._client(), self._settings
        if topic == ERASURES:
            return Eraser(client, self._codec, settings.clickhouse_cluster)
        return Loader(client, self._codec, topic, settings.sink_group, self._erasures.erasures)

    async def run(self, stop: asyncio.Event) -> None:
        """Reads and stores until ``stop``; then stores what it holds, commits and leaves the group.

        Raises:
            Exception: a bug. An unavailable Kafka or ClickHouse is waited for instead.
        """
        try:
            if await self._connected(stop):
                await self._pump(stop)
                await self._land()
        finally:
            for batcher in self._batchers.values():
                batcher.disown()
            for peer in (self._consumer, self._producer):
                if peer is not None:
                    await stop_client(peer)
            await self._erasures.close()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _connected(self, stop: asyncio.Event) -> bool:
        """Starts the Kafka clients; ``False`` if stopped before Kafka answered."""
        options = self._settings.kafka_client_options()
        while not stop.is_set():
            producer = AIOKafkaProducer(
                **options,
                acks="all",
                enable_idempotence=True,
                max_request_size=self._settings.sink_bytes_max,
            )
            consumer = AIOKafkaConsumer(
                **options,
                group_id=self._settings.sink_group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=self._settings.session_timeout_ms,
                heartbeat_interval_ms=max(1, self._settings.session_timeout_ms // 10),
                rebalance_timeout_ms=self._settings.rebalance_timeout_ms,
                max_partition_fetch_bytes=4_000_000,
                fetch_max_wait_ms=100,
                metadata_max_age_ms=METADATA_MS,
            )
            consumer.subscribe(list(self._batchers), listener=self)
            # before the start, during which partitions may already be assigned
            self._producer, self._consumer = paced(producer), paced(consumer)
            try:
                await producer.start()
                await consumer.start()
            except (KafkaError, OSError) as error:
                log.warning("Kafka does not answer, will retry", error=str(error))
                await producer.stop()
                await stop_client(consumer)
                self._producer = self._consumer = None
                await _pause(stop, 1.0)
                continue
            return True
        return False

    async def _pump(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            waits = (batcher.due_in(loop.time()) for batcher in self._batchers.values())
            wait_s = min([POLL_S_MAX, *filter(None, waits)])
            try:
                polled = await self._consumer.getmany(timeout_ms=max(1, int(wait_s * 1000)))
                for partition, records in polled.items():
                    self._batchers[partition.topic].add(partition, records, loop.time())
                await self._erasures.fresh(loop.time())
            except (KafkaError, Unavailable) as error:
                log.warning("poll failed, will retry", error=str(error))
                self._throttle()
                await _pause(stop, 1.0)
                continue
            now = loop.time()
            for batcher in self._batchers.values():
                if batcher.failure is not None:
                    raise batcher.failure
                batcher.launch(now)
            self._throttle()
            if now >= self._lag_due:
                self._lag_due = now + LAG_INTERVAL_S
                self._show_lag()

    def _throttle(self) -> None:
        """Pauses the partitions of full topics and resumes the others."""
        paused = self._consumer.paused()
        for partition in self._consumer.assignment():
            full = self._batchers[partition.topic].full
            if full and partition not in paused:
                self._consumer.pause(partition)
            elif not full and partition in paused:
                self._consumer.resume(partition)

    def _show_lag(self) -> None:
        self.metrics.partitions.set(len(self._consumer.assignment()))
        self.metrics.held_bytes.set(sum(batcher.held_bytes for batcher in self._batchers.values()))
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None:
                stored = self._stored.get(partition, 0)
                label = self.metrics.lag.labels(partition.topic, str(partition.partition))
                label.set(max(0, end - stored))

    async def _land(self) -> None:
        """Stores what is held, for ``LANDING_S_MAX`` seconds at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LANDING_S_MAX
        while not all(batcher.idle for batcher in self._batchers.values()):
            left = deadline - loop.time()
            if left <= 0:
                log.warning("stopped before everything was stored; it will be read again")
                return
            try:
                await self._erasures.fresh(loop.time())
            except Unavailable:
                await asyncio.sleep(POLL_S_MAX)
                continue
            for batcher in self._batchers.values():
                batcher.launch(loop.time(), force=True)
            await asyncio.gather(*(batcher.settle(left) for batcher in self._batchers.values()))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Waits for running inserts, so that their offsets can still be committed."""
        # aiokafka returns no records between here and the next assignment
        await asyncio.gather(
            *(batcher.settle(LANDING_S_MAX / 2) for batcher in self._batchers.values())
        )
        for batcher in self._batchers.values():
            batcher.disown()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Resets the lag metrics to the assigned partitions."""
        self.metrics.lag.clear()
        partitions = list(assigned)
        try:
            places = await asyncio.gather(*(self._consumer.committed(tp) for tp in partitions))
        except KafkaError:  # only the lag metric depends on it
            places = []
        known = zip(partitions, places, strict=False)
        self._stored = {tp: place for tp, place in known if place is not None}
        log.info("partitions assigned", partitions=len(partitions))

    async def _commit(self, offsets: Offsets) -> None:
        try:
            await self._consumer.commit(dict(offsets))
        except KafkaError as error:
            # rows are stored; this sink or the next owner reads and writes the same again
            log.warning("not committed", error=str(error))
            return
        self._stored.update(offsets)

    async def _dead_letter(self, rejects: Sequence[Reject]) -> None:
        """Sends rejects to the dead-letter topic; returns once Kafka has acknowledged them."""
        sent = []
        try:
            for reject in rejects:
                self.metrics.dead_letters.labels(reject.record.topic, reject.reason).inc()
                log.warning(
                    "dead letter", topic=reject.record.topic, partition=reject.record.partition,
                    offset=reject.record.offset, reason=reject.reason, detail=reject.detail,
                )  # fmt: skip
                if reject.record.topic == DEAD_LETTERS:
                    continue  # it is on that topic already, and a letter about it would fail too
                key, value = dead_letter(reject, self._codec)
                headers = _letter_headers(value, reject.record.timestamp)
                sent.append(await self._producer.send(DEAD_LETTERS, value, key, headers=headers))
            for each in sent:
                await each
        except KafkaError as error:
            raise Unavailable(f"Kafka: {error}") from error


_letter_headers = by_leading_text("dead_letter", SINK)


def dead_letter(reject: Reject, codec: Codec) -> tuple[bytes, bytes]:
    """Key and value of a dead letter; always the same for the same record."""
    record = reject.record
    letter = of_record(
        "sink", record.topic, record.partition, record.offset,
        key=record.key, value=record.value, timestamp_ms=record.timestamp,
        reason=reject.reason, detail=reject.detail,
    )  # fmt: skip
    return letter["dead_letter_id"].encode(), codec.encode("dead_letter", letter)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    codec: Codec | None = None,
    tracer: Tracer | None = None,
    beside: Beside | None = None,
) -> None:
    """The role ``sink``: migrates, then reads and stores until ``stop`` is set.

    Health and metrics are on ``metrics_port``.

    Raises:
        ConfigError: the DSN is invalid, or the database is a newer release's.
        MigrationError: the database can't be migrated.
        Exception: a bug.
    """
    async with contextlib.AsyncExitStack() as stack:
        sink = Sink(settings, codec=codec, tracer=tracer)
        health = serving_health(settings, lambda: sink.ready, sink.metrics.render)
        health_port = await stack.enter_async_context(health)
        if not await _migrated(settings, stop):
            return
        log.info("sink started", health_port=health_port)
        reconciler = Reconciler(
            settings, lambda: connect(settings), sink.metrics, lambda: sink.reconciles
        )
        asking = asyncio.create_task(reconciler.run(), name="reconciliation")
        stack.callback(asking.cancel)
        progress = Progress(settings, lambda: connect(settings), sink.reading, sink.metrics)
        # 0 until here: the database did not answer
        sink.metrics.clickhouse_up.set_function(lambda: float(sink.stores and progress.told))
        telling = asyncio.create_task(progress.run(), name="progress")
        stack.callback(telling.cancel)
        if beside is not None:
            ask = Asked(lambda: connect(settings))
            running = beside(ask, lambda: sink.reconciles, sink.metrics.show_silence)
            stack.callback(asyncio.create_task(running, name="beside").cancel)
        await sink.run(stop)


async def _migrated(settings: Settings, stop: asyncio.Event) -> bool:
    """Waits for ClickHouse and migrates; ``False`` if stopped before."""
    while not stop.is_set():
        try:
            applied = await asyncio.to_thread(_migrate, settings)
        except Unavailable as error:
            log.warning("ClickHouse does not answer, will retry", error=str(error))
            await _pause(stop, 1.0)
            continue
        log.info("database ready", applied=applied)
        return True
    return False


def _migrate(settings: Settings) -> int:
    client = connect(settings)
    try:
        return len(migrate.apply(client, settings))
    finally:
        client.close()
