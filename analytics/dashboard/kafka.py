"""Consumer lag and throughput, read from Kafka.

Invariants:
1. Clients are kept open between readings and recreated after a failure.
2. A rate is the difference of two readings divided by the time between them; the first reading has
   none. Where offsets go back (a recreated topic) the rate is 0.
3. If Kafka is unavailable the page shows a message instead of failing.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.groups import topics_by_group
from schemas.kafka_stopping import stop_client
from schemas.metadata_pace import paced
from schemas.settings import Settings
from schemas.topics import BY_NAME

Document = dict[str, Any]
TIMEOUT_S = 5.0
RATE_S_MIN = 0.5
"""Shortest time between two readings for a rate."""
RATE_S_MAX = 60.0
"""Longest time between two readings for a rate: an older one says nothing about the present."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Offsets at one time.

    Attributes:
        at_s: monotonic time, seconds.
        ends: topic, partition -> next offset to be written.
        starts: topic, partition -> first offset.
        committed: group, topic, partition -> next offset that the group reads; -1 for none.
    """

    at_s: float
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)


def flow(earlier: Reading | None, later: Reading) -> Document:
    """Records and rates of each topic, and the lag of each group, from two readings."""
    seconds = later.at_s - earlier.at_s if earlier else 0.0
    topics: dict[str, Document] = {}
    for (topic, partition), end in sorted(later.ends.items()):
        held = topics.setdefault(topic, {"topic": topic, "records": 0, "per_s": None})
        held["records"] += end - later.starts.get((topic, partition), 0)
        before = earlier.ends.get((topic, partition)) if earlier else None
        if before is not None and seconds > 0:
            held["per_s"] = (held["per_s"] or 0.0) + max(0, end - before) / seconds
    lags = []
    for (group, topic, partition), offset in sorted(later.committed.items()):
        key = (topic, partition)
        before = earlier.committed.get((group, topic, partition)) if earlier else None
        lags.append(
            {
                "group": group,
                "topic": topic,
                "partition": partition,
                "lag": max(0, later.ends.get(key, 0) - max(offset, later.starts.get(key, 0))),
                "per_s": max(0, offset - before) / seconds
                if before is not None and before >= 0 and seconds > 0
                else None,
                "committed": offset if offset >= 0 else None,
                "end": later.ends.get(key, 0),
            }
        )
    return {"topics": list(topics.values()), "lags": lags}


class KafkaReader:
    """Reads the offsets of all topics and groups of mailpulse.

    Args:
        settings: the connection to Kafka, and the groups' names.
        clock: returns monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._admin: Any = None
        self._consumer: Any = None
        self._earlier: Reading | None = None
        self._later: Reading | None = None

    async def read(self) -> Document:
        """The document; ``kafka_trouble`` is a message if Kafka does not answer."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reading = await self._reading()
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            await self.close()
            words = str(error) or type(error).__name__
            return {
                "topics": [], "lags": [],
                "kafka_trouble": f"Kafka at {self._settings.kafka_bootstrap}: {words}",
            }  # fmt: skip
        if self._later is None or reading.at_s - self._later.at_s >= RATE_S_MIN:
            stale = self._later is None or reading.at_s - self._later.at_s > RATE_S_MAX
            self._earlier, self._later = None if stale else self._later, reading
        return {**flow(self._earlier, self._later), "kafka_trouble": ""}

    async def _reading(self) -> Reading:
        await self._open()
        described = await self._admin.describe_topics(list(BY_NAME))
        partitions = {
            item["topic"]: [each["partition"] for each in item["partitions"]]
            for item in described
            if not item["error_code"]
        }
        reading = Reading(self._clock())
        for group, topics in topics_by_group(self._settings).items():
            wanted = [
                TopicPartition(name, number)
                for name in topics
                for number in partitions.get(name, ())
            ]
            if not wanted:
                continue
            found = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
            for place in wanted:
                held = found.get(place)
                reading.committed[group, place.topic, place.partition] = (
                    held.offset if held is not None else -1
                )
        places = [
            TopicPartition(name, number) for name in partitions for number in partitions[name]
        ]
        if places:
            for bounds, method in (
                (reading.starts, self._consumer.beginning_offsets),
                (reading.ends, self._consumer.end_offsets),  # last, so that no lag is too small
            ):
                for place, offset in (await method(places)).items():
                    bounds[place.topic, place.partition] = offset
        return reading

    async def _open(self) -> None:
        if self._admin is not None:
            return
        options = self._settings.kafka_client_options()
        options["request_timeout_ms"] = int(TIMEOUT_S * 1000)
        self._admin = AIOKafkaAdminClient(**options)
        self._consumer = paced(AIOKafkaConsumer(**options, enable_auto_commit=False))
        await self._admin.start()
        await self._consumer.start()

    async def close(self) -> None:
        """Closes the clients; the next reading creates new ones."""
        admin, consumer = self._admin, self._consumer
        self._admin = self._consumer = None
        for stop in (consumer and partial(stop_client, consumer), admin and admin.close):
            if stop:
                with contextlib.suppress(KafkaError, OSError, TimeoutError, AssertionError):
                    async with asyncio.timeout(TIMEOUT_S):
                        await stop()
