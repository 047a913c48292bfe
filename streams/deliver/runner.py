"""Delivers to one destination: its consumer group, its state machine and its requests.

Invariants:
1. Read, deliver or park, commit, in this order. A crash repeats what was not committed, with the
   same ids.
2. Kafka is polled continuously, also while the destination is dead or paused: partitions are paused
   when there is no room, but for the first record of each, so that it is known how long that will
   still be there. So memory is bounded, by what the machine may hold, a record and a fetch of each
   partition; and this member stays in its group, so that the group's offsets do not expire.
3. A new destination's place is committed before its first record is read: what comes while it can't
   be reached is not missed.
4. On a rebalance requests get ``SETTLE_S`` to end; the rest are broken off, and the next owner
   sends them again.
5. What Kafka removed before it was read is counted; a topic that was made anew is read from its
   start.
6. A bug ends ``run`` with its error (invariant 8 of the design); an unavailable peer never does.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, OffsetMetadataTooLargeError

from schemas.codec import Codec
from schemas.erasure import Erasures
from schemas.errors import DecodeError, Unavailable
from schemas.kafka_stopping import stop_client
from schemas.metadata_pace import paced
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.deliver import bodies
from streams.deliver.bodies import BODY_BYTES_MAX, Body
from streams.deliver.breaker import Dice
from streams.deliver.content import Content, content_of
from streams.deliver.core import Deliveries, Item, Place, Request
from streams.deliver.destinations import AnyDestination
from streams.deliver.figures import Figures
from streams.deliver.filters import passes
from streams.deliver.forgotten import is_forgotten
from streams.deliver.groups import instance_of
from streams.deliver.letters import Letters
from streams.deliver.metrics import DeliverMetrics
from streams.deliver.orders import Order
from streams.deliver.outcomes import Blame, Outcome
from streams.deliver.places import Places
from streams.deliver.progress import METADATA_BYTES_MAX, Progress
from streams.deliver.senders import AnySender
from streams.kafka.groups import destination_group

log = structlog.get_logger("mailpulse.deliver")

POLL_MS = 200
COMMIT_S = 1.0
SETTLE_S = 5.0
RETRY_S = 1.0
"""Between two tries of something that Kafka refused."""


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One member of one destination's consumer group.

    Args:
        destination: where to.
        settings: of the process.
        codec: with the schema ids in use.
        sender: opened by the caller.
        letters: where parked records go.
        places: where partitions begin.
        metrics: to update.
        dice: for pauses.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        destination: AnyDestination,
        settings: Settings,
        codec: Codec,
        sender: AnySender,
        letters: Letters,
        places: Places,
        metrics: DeliverMetrics,
        dice: Dice,
        wall: Any,
        erasures: Erasures | None = None,
    ) -> None:
        self._erasures = Erasures() if erasures is None else erasures
        self.destination = destination
        self.name = destination.name
        self.machine = Deliveries(destination.limits, dice)
        self.order = Order(destination.name)
        self._settings = settings
        self._codec = codec
        self._sender = sender
        self._letters = letters
        self._places = places
        self._metrics = metrics
        self._wall = wall
        self.figures = Figures(destination, self.machine, metrics, places, wall, _loop_time)
        self._passes = {topic: passes(destination, topic) for topic in destination.topic_names}
        self._consumer: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._moving = False
        self._generation = 0
        self._timer: asyncio.TimerHandle | None = None
        self._committed: dict[Place, tuple[int, str]] = {}
        self._metadata_bytes = METADATA_BYTES_MAX
        self._failure: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it is in its group, and knows where each of its partitions begins."""
        consumer = self._consumer
        if consumer is None or self._moving:
            return False
        return all(Place(*tp) in self.machine.progress for tp in consumer.assignment())

    @property
    def group(self) -> str:
        """Its consumer group."""
        return destination_group(self._settings, self.destination.group_names[0])

    # --- life ---

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until ``stop``; then lets requests end, commits and leaves the group.

        Raises:
            Exception: a bug.
        """
        self._failure = asyncio.get_running_loop().create_future()
        stopped = asyncio.ensure_future(stop.wait())
        loops: list[asyncio.Future[Any]] = []
        try:
            if not await self._connected(stop):
                return
            loops = [asyncio.ensure_future(one) for one in (self._read(), self._commit_often())]
            ends: list[asyncio.Future[Any]] = [stopped, self._failure, *loops]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for one in (self._failure, *loops):
                if one.done():
                    one.result()
            await self._let_go()
        finally:
            for task in (stopped, *loops, *self._tasks):
                task.cancel()
            self._failure.cancel()
            if self._timer is not None:
                self._timer.cancel()
            self.figures.show_no_partitions()
            if self._consumer is not None:
                await stop_client(self._consumer)

    async def _connected(self, stop: asyncio.Event) -> bool:
        """Joins the group; ``False`` if stopped before Kafka answered."""
        settings = self._settings
        while not stop.is_set():
            consumer = AIOKafkaConsumer(
                **settings.kafka_client_options(),
                group_id=self.group,
                group_instance_id=instance_of(settings, self.destination.topic_names),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=settings.session_timeout_ms,
                heartbeat_interval_ms=max(1, settings.session_timeout_ms // 10),
                rebalance_timeout_ms=settings.rebalance_timeout_ms,
                max_partition_fetch_bytes=1_000_000,
                fetch_max_wait_ms=100,
                metadata_max_age_ms=15_000,
            )
            consumer.subscribe(list(self.destination.topic_names), listener=self)
            self._consumer = self.figures.consumer = paced(consumer)
            self._moving = True  # until partitions are assigned
            try:
                await consumer.start()
            except (KafkaError, OSError) as error:
                log.warning("Kafka does not answer, will retry", error=str(error))
                await stop_client(consumer)
                self._consumer = None
                await pause(stop)
                continue
            log.info("destination joined", destination=self.name, host=self.destination.host)
            return True
        return False

    async def _let_go(self) -> None:
        """Lets requests end, and commits; nothing new is sent."""
        self._moving = True
        if self._requests:
            await asyncio.wait([*self._requests.values()], timeout=SETTLE_S)
        await self._commit()

    # --- Kafka ---

    async def _read(self) -> None:
        while True:
            try:
                await self._begin()
                room = self._make_way()
                polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=max(1, room))
            except (KafkaError, Unavailable) as error:
                log.warning("reading failed, will retry", destination=self.name, error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            for tp, records in polled.items():
                place = Place(tp.topic, tp.partition)
                if place in self.machine.progress:  # else it is begun, and read, anew
                    self._take(place, records)
            self._pump()

    def _make_way(self) -> int:
        """Pauses partitions while there is no room, else resumes them; returns the room.

        One of which nothing is held is not paused: its first record tells how long there is left.
        """
        consumer, room = self._consumer, self.machine.room
        paused = consumer.paused()
        for tp in consumer.assignment():
            full = not room and self.machine.holds(Place(*tp))
            if full and tp not in paused:
                consumer.pause(tp)
            elif not full and tp in paused:
                consumer.resume(tp)
        return room

    async def _begin(self) -> None:
        """Begins the partitions that were assigned, and those that are ordered to begin anew."""
        if self._moving:
            return
        new = [
            tp
            for tp in self._consumer.assignment()
            if (progress := self.machine.progress.get(Place(*tp))) is None
            or progress.order < self.order.resend
        ]
        if not new:
            return
        generation = self._generation
        found = await self._places.of(self._consumer, self.destination, self.group, new, self.order)
        if generation != self._generation:
            return  # assigned anew meanwhile
        for tp, (progress, gone) in found.items():
            self._count_gone(Place(*tp), gone)
            self._consumer.seek(tp, progress.offset)
            self.machine.assign(Place(*tp), progress)
        await self._commit()

    def _count_gone(self, place: Place, records: int) -> None:
        if records:
            self._metrics.expired.labels(self.name).inc(records)
            log.error(
                "retention removed records before they were delivered", destination=self.name,
                topic=place.topic, partition=place.partition, records=records,
            )  # fmt: skip

    def _notice_a_leap(self, place: Place, first: int) -> None:
        """Compares the first offset that was read with the one that was to be read.

        aiokafka goes on at the earliest record when the one to be read is not there.
        """
        progress = self.machine.progress[place]
        if first < progress.position:
            log.error(
                "a topic was made anew, and is read from its start", destination=self.name,
                topic=place.topic, partition=place.partition,
            )  # fmt: skip
            self.machine.assign(place, Progress(first, order=progress.order))
        elif not BY_NAME[place.topic].compacted:
            self._count_gone(place, progress.unfinished(progress.position, first))

    def _take(self, place: Place, records: Sequence[Any]) -> None:
        self._notice_a_leap(place, records[0].offset)
        for record in records:
            progress = self.machine.progress[place]
            if record.offset < progress.position or progress.is_finished(record.offset):
                if record.offset >= progress.position:
                    self.machine.skip(place, record.offset)
                continue
            try:
                body = self._body(place.topic, record)
            except DecodeError as error:
                self._set_aside(place, record, error.reason, error.detail)
                continue
            if body is None:
                self.machine.skip(place, record.offset)
                self._metrics.records.labels(self.name, "filtered").inc()
            elif len(body.json) > BODY_BYTES_MAX:
                self._set_aside(place, record, "body_too_large", f"{len(body.json)} bytes")
            else:
                content = Content(record, body)
                key = (place, record.key)
                size = len(body.json) + len(record.value or b"")
                self.machine.add(place, record.offset, key, content, size)

    def _body(self, topic: str, record: Any) -> Body | None:
        """What is sent of a record; ``None``: the filter leaves it out.

        Raises:
            DecodeError: it can't be read.
        """
        body_id = bodies.identity_of(record)
        if record.value is None:
            if "suppression.lifted" not in bodies.KINDS[topic].types:
                return None  # a tombstone says nothing here
            if is_forgotten(record, None, self._erasures):
                return None
            return bodies.of_lifted(body_id, record.key or b"", record.timestamp)
        decoded = self._codec.decode(record.value, BY_NAME[topic].schema)
        if is_forgotten(record, decoded, self._erasures):
            return None
        return bodies.of_record(topic, body_id, decoded) if self._passes[topic](decoded) else None

    def _set_aside(self, place: Place, record: Any, reason: str, detail: str) -> None:
        item = self.machine.set_aside(
            place, record.offset, Content(record, None), len(record.value or b"")
        )
        self._spawn(self._park(item, reason, detail))

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()
            self.figures.show()

    async def _commit(self) -> None:
        offsets: dict[Place, tuple[int, str]] = {}
        for place, progress in self.machine.progress.items():
            state = progress.offset, progress.metadata(self._metadata_bytes)
            if self._committed.get(place) != state:
                offsets[place] = state
        if not offsets:
            return
        try:
            await self._consumer.commit(
                {TopicPartition(*place): state for place, state in offsets.items()}
            )
        except OffsetMetadataTooLargeError:
            self._metadata_bytes //= 2
            log.warning("Kafka takes less metadata with a commit", bytes=self._metadata_bytes)
            return
        except KafkaError as error:  # delivered all the same; repeated with the same ids
            log.warning("not committed", destination=self.name, error=str(error))
            return
        self._committed |= offsets

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Lets requests end, commits, and forgets (invariant 4)."""
        await self._let_go()
        self._generation += 1
        self.figures.show_no_partitions()
        for place in list(self.machine.progress):
            self.machine.revoke(place)
        self._committed.clear()
        for task in self._requests.values():
            task.cancel()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Goes on; the partitions are begun by the reading loop."""
        self._generation += 1
        self._moving = False
        log.info("partitions assigned", destination=self.name, partitions=len(list(assigned)))

    # --- requests ---

    def obey(self, order: Order) -> None:
        """Follows what an operator ordered; partitions begin anew in the reading loop."""
        self.order = order
        now = asyncio.get_running_loop().time()
        if order.paused != self.machine.paused:
            self.machine.pause(order.paused, now)
            log.info("paused" if order.paused else "resumed", destination=self.name)
        self._pump()

    def _pump(self) -> None:
        """Sends whatever may be sent, and sets the timer for the next that time alone allows."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._moving:
            return
        now = loop.time()
        for request in self.machine.take(now):
            task = self._spawn(self._try(request))
            self._requests[request.number] = task
        item = self.machine.crowded(now)
        if item is not None:
            self._spawn(self._park(item, "not_delivered", item.said))
        at = self.machine.wake_at()
        if at is not None:
            self._timer = loop.call_at(max(at, now + 0.001), self._pump)

    async def _try(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = Outcome("broken off", Blame.DESTINATION)
        try:
            outcome = await self._sender.send([content_of(item).body for item in request.items])
        finally:  # also when it is broken off: its records are forgotten by then
            self._requests.pop(request.number, None)
            parked = self.machine.answer(request.number, outcome, loop.time())
        self.figures.answered(request, outcome, loop.time() - began)
        for item in parked:
            self._spawn(self._park(item, "not_delivered", f"{item.tries} tries; {item.said}"))
        self._pump()

    async def _park(self, item: Item, reason: str, detail: str) -> None:
        """Writes a record's dead letter, for as long as it takes and this member owns it; none
        about a person who was forgotten since the record was read."""
        record, result = content_of(item).record, "parked"
        while item.place in self.machine.progress:
            try:
                if self._is_forgotten(record):
                    result = "filtered"
                else:
                    await self._letters.write(self.name, record, reason, detail)
            except (KafkaError, Unavailable) as error:
                log.warning("dead letter not written, will retry", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self.machine.parked(item)
            self._metrics.records.labels(self.name, result).inc()
            self._pump()
            return

    def _is_forgotten(self, record: Any) -> bool:
        try:
            schema = BY_NAME[record.topic].schema
            decoded = None if record.value is None else self._codec.decode(record.value, schema)
        except DecodeError:
            return False  # nobody knows whose it is
        return is_forgotten(record, decoded, self._erasures)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._failure is not None and not self._failure.done():
                self._failure.set_exception(error)

    async def test(self, body_id: str) -> Outcome:
        """What comes of a request of type «test», sent beside all others."""
        loop = asyncio.get_running_loop()
        began, now = loop.time(), self._wall()
        outcome = await self._sender.send([bodies.of_test(body_id, int(now * 1e6))])
        self.figures.tested(outcome, loop.time() - began)
        return outcome

    def document(self) -> dict[str, Any]:
        """How it does, for the dashboard."""
        return self.figures.document()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def pause(stop: asyncio.Event) -> None:
    """Waits ``RETRY_S``, or until ``stop``."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), RETRY_S)
