"""Parcels to Kafka, acknowledged by all in-sync replicas.

Invariants:
1. ``send`` returns only when Kafka has acknowledged every record of the parcel (``acks=all``); in
   every other case it raises. Kafka may then still have some of the parcel's records: the provider
   sends the same events again, with the same ids, and the streams deduplicate them.
2. Per partition, records are sent in the order in which their parcels were handed over: one queue
   per partition, one batch of a queue at a time, so that concurrent requests share batches.
3. A record's partition is that of Kafka's default partitioner for its key.
4. A client that fails is replaced: after an unexpected error, or when nothing was acknowledged for
   a whole time-out, all waiting parcels are refused and a new client connects (with a new producer
   id, hence new sequence numbers).
5. Waiting parcels are limited in events and bytes; over that a parcel is refused at once. A parcel
   that timed out before it was handed to Kafka's client is not sent.

aiokafka is pinned: ``close_client`` uses its accumulator of batches, since ``stop`` alone waits for
brokers that are down.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel
from ingest.partition_queue import Connection, ParcelInFlight
from ingest.sparing_log import SparingLog
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS, RAW

RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
"""Wait between attempts to connect, doubling."""
PROBE_INTERVAL_S = 5.0
"""How often an idle connection is tried."""
CLOSE_TIMEOUT_S = 2.0
TIMER_SLACK_S = 0.002
"""How much early a time-out may fire: the resolution of timers."""


class Overloaded(Unavailable):
    """The settings allow no more events or bytes to wait for Kafka."""


class Log(Protocol):
    """A store of parcels: Kafka, or a test's list."""

    @property
    def up(self) -> bool:
        """Whether parcels are accepted right now."""

    async def start(self) -> None:
        """Starts connecting, without waiting for it."""

    async def stop(self) -> None:
        """Waits a limited time for outstanding acknowledgements, and closes."""

    async def wait_up(self) -> None:
        """Waits until ``up``."""

    async def send(self, parcel: Parcel, timeout_s: float) -> None:
        """Keeps a parcel.

        Raises:
            Unavailable: not acknowledged within ``timeout_s``, or refused at once.
        """


class Producer:
    """The Kafka side of ingress: connects, reconnects, sends.

    Args:
        settings: how to reach Kafka, and the limits.
        metrics: where acknowledgements and failures are counted.
        clock: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, metrics: IngestMetrics, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("mailpulse.ingest.producer")
        self._events = 0
        self._bytes = 0
        self._last_ack = clock()
        self._outstanding: dict[ParcelInFlight, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._connection: Connection | None = None
        self._is_up = asyncio.Event()
        self._broken: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def up(self) -> bool:
        """Whether there is a connection that acknowledges."""
        return self._connection is not None

    async def wait_up(self) -> None:
        """Waits until ``up``."""
        await self._is_up.wait()

    async def start(self) -> None:
        """Starts connecting, with retries; returns at once."""
        self._task = asyncio.create_task(self._supervise(), name="ingest-producer")

    async def stop(self) -> None:
        """Waits for outstanding acknowledgements, at most one time-out of them, then closes."""
        if self._outstanding:
            waiting = [pending.done for pending in self._outstanding]
            await asyncio.wait(waiting, timeout=self._settings.ack_timeout_ms / 1000)
        # aiokafka's client swallows a cancellation while it closes, hence the flag.
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def send(self, parcel: Parcel, timeout_s: float) -> None:
        """Keeps a parcel in Kafka.

        Raises:
            Overloaded: too many events or bytes are waiting already.
            Unavailable: there is no connection, or no acknowledgement within ``timeout_s``.
        """
        connection, count, size = self._connection, parcel.count, parcel.size
        if count == 0:
            return
        if connection is None:
            raise Unavailable("no connection to Kafka")
        settings = self._settings
        if self._events and (
            self._events + count > settings.inflight_events_max
            or self._bytes + size > settings.inflight_bytes_max
        ):
            raise Overloaded(f"{self._events} events wait for Kafka")
        started = self._clock()
        done = asyncio.get_running_loop().create_future()
        pending = ParcelInFlight(done, started + timeout_s, parcel.trace)
        self._events += count
        self._bytes += size
        self._outstanding[pending] = None
        try:
            connection.submit(RAW, parcel.events, parcel.timestamp_ms, pending)
            if parcel.dead_letters:
                connection.submit(DEAD_LETTERS, parcel.dead_letters, parcel.timestamp_ms, pending)
            self._give_up_at(pending.deadline, started)
            await pending.done
        except TimeoutError:
            if self._last_ack <= started:
                self._break("no acknowledgement")
            raise Unavailable("no acknowledgement in time") from None
        finally:
            self._events -= count
            self._bytes -= size
            self._outstanding.pop(pending, None)
        self._metrics.ack_seconds.observe(self._clock() - started)

    def _give_up_at(self, deadline: float, now: float) -> None:
        """Makes sure that time-outs are checked at ``deadline`` or before.

        One timer serves all parcels: most are acknowledged long before, and a timer for each cost
        more than handing the parcel over.
        """
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(deadline - now, self._give_up)

    def _give_up(self) -> None:
        """Refuses what is past its deadline; sets the timer for what is not."""
        now = self._clock() + TIMER_SLACK_S
        later = []
        for pending in self._outstanding:
            if pending.deadline > now:
                later.append(pending.deadline)
            elif not pending.done.done():
                pending.done.set_exception(TimeoutError())
        self._timer = None
        if later:
            self._give_up_at(min(later), now)

    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait for Kafka."""
        return self._events, self._bytes

    def _break(self, reason: str) -> None:
        """Marks the connection as lost, at once, so that no parcel is handed to it any more."""
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(reason)
            self._down(reason)

    def _acknowledged(self) -> None:
        self._last_ack = self._clock()

    async def _supervise(self) -> None:
        """Connects and replaces lost connections, until it is stopped."""
        while not self._stopping:
            connection = await self._connected()
            if connection is None:
                return
            self._log.info("kafka_up", partitions=connection.partitions)
            reason = "stopped"
            try:
                reason = await self._watch(connection)
            finally:
                self._down(reason)
                await close_client(connection.client)
            self._metrics.kafka_failures.inc()
            self._log.warning("kafka_lost", reason=reason)

    async def _connected(self) -> Connection | None:
        """The connection, after as many attempts as it takes; ``None`` once it is to stop.

        The first failure is logged at once, further ones once a minute.
        """
        wait_s = RETRY_MIN_S
        with contextlib.closing(SparingLog("mailpulse.ingest.producer", self._clock)) as log:
            while not self._stopping:
                try:
                    return await self._connect()
                except (KafkaError, OSError, AssertionError, TimeoutError) as error:
                    log.say("warning", "kafka_away", {"error": type(error).__name__})
                    await asyncio.sleep(wait_s)
                    wait_s = min(RETRY_MAX_S, wait_s * 2)
        return None

    async def _connect(self) -> Connection:
        settings = self._settings
        options = settings.kafka_client_options()
        client = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            client_id="mailpulse-ingest",
        )
        try:
            async with asyncio.timeout(settings.kafka_request_timeout_ms / 1000):
                await client.start()
                partitions = {
                    topic: len(await client.partitions_for(topic)) for topic in (RAW, DEAD_LETTERS)
                }
        except BaseException:
            await close_client(client)
            raise
        return Connection(client, partitions, settings.record_bytes_max)

    async def _watch(self, connection: Connection) -> str:
        """Runs the queues until one fails or the connection is lost.

        Returns:
            The reason.
        """
        self._broken = asyncio.get_running_loop().create_future()
        tasks = [
            asyncio.create_task(queue.run(self._acknowledged)) for queue in connection.all_queues()
        ]
        tasks.append(asyncio.create_task(self._probe(connection.client)))
        self._connection = connection
        self._is_up.set()
        self._metrics.kafka_up.set(1)
        try:
            ends: list[asyncio.Future[Any]] = [self._broken, *tasks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                return self._broken.result()
            failed = next(task for task in tasks if task.done())
            return type(failed.exception()).__name__
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _down(self, reason: str) -> None:
        """Refuses all waiting parcels, in their order."""
        self._connection = None
        self._is_up.clear()
        self._metrics.kafka_up.set(0)
        for pending in list(self._outstanding):
            if not pending.done.done():
                pending.done.set_exception(Unavailable(reason))

    async def _probe(self, client: Any) -> None:
        """Requests metadata while nothing is acknowledged, to notice a silent loss of brokers."""
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            if self._clock() - self._last_ack < PROBE_INTERVAL_S:
                continue
            async with asyncio.timeout(self._settings.ack_timeout_ms / 1000):
                if not await client.client.force_metadata_update():
                    raise Unavailable("no broker answers")


class _Outgoing(set[Any]):
    """Batches in flight; removing one that is not there is no error."""

    remove = set.discard


async def close_client(client: Any) -> None:
    """Closes a client whose brokers may be down: without flushing, within a short time."""
    accumulator = client._message_accumulator
    # A batch that waits for a retry is no longer pending; without this, aiokafka would log a
    # KeyError with a long traceback for each.
    accumulator._pending_batches = _Outgoing(accumulator._pending_batches)
    batches = [*accumulator._pending_batches]
    batches += [batch for queue in accumulator._batches.values() for batch in queue]
    accumulator.fail_all(Unavailable("closed"))
    for batch in batches:
        for future in (batch.future, batch._drain_waiter):
            if future.done() and not future.cancelled():
                future.exception()  # nobody else retrieves it, and asyncio would log that
    closing: Iterable[Awaitable[None]] = (client.client.close(), client.stop())
    for step in closing:
        # A client in this state may raise anything; it is discarded.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await step
