"""Writes a backup's topics into a Kafka that has none of them.

Invariants:
1. A record of a topic that is not compacted gets the offset that it had: everything that was made
   of it has that offset as its coordinate, so it is a replay wherever it is read again, and the
   counts that were made of it are valid. Kafka numbers what is written, so offsets before the first
   record, and gaps, are filled by empty records; those before the first are then deleted.
2. Records of a compacted topic keep their order, follow each other, and end where they ended: who
   had read up to an offset reads nothing too few from there, and some records again.
3. Nothing is deleted by age, and nothing compacted, before all is written.
4. Ends are compared with the backup's before it counts as done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from copy import copy
from functools import lru_cache
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.record.util import calc_crc32c

from schemas.errors import ConfigError, Unavailable
from schemas.record_batch import RecordBatch
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.backup.chunks import Copied, placed, shifted, unpacked
from streams.backup.manifest import Found, Manifest, Partition, TopicCopy
from streams.backup.place import BackupPlace, Told
from streams.kafka.admin import replication_for, topics_show, wanted_config
from streams.kafka.clients import admin_client, answering, producer

BATCH_BYTES_MAX = 900_000
"""Kafka's own limit of a batch is 1 MiB."""
IN_FLIGHT_MAX = 8
FILLED_AT_ONCE = 100_000
"""Empty records of a batch: eight bytes each."""
_EMPTY = b"\x01\x01\x00"
"""A record from its key on: no key, no value, no headers."""
_FILLING = {"cleanup.policy": "delete", "retention.ms": "-1"}


@lru_cache(4)
def _empty_batch(count: int) -> RecordBatch:
    """A batch of empty records, to be copied for each use: making one takes long."""
    batch = RecordBatch(BATCH_BYTES_MAX, calc_crc32c)
    if batch.extend([_EMPTY] * count, 0) != count:
        raise ValueError(f"{count} empty records are more than a batch holds")
    return batch


class Refill:
    """Writes the topics of a backup.

    Args:
        told: called with how many records of how many are written.
    """

    def __init__(
        self, settings: Settings, place: BackupPlace, manifest: Manifest, told: Told
    ) -> None:
        self._settings, self._place, self._manifest = settings, place, manifest
        self._told = told
        self._total = sum(
            partition.records for copy in manifest.topics.values() for partition in copy.partitions
        )
        self._done = 0

    async def run(self, found: Callable[[], Awaitable[dict[str, Found]]]) -> None:
        """Makes the topics and writes them.

        Args:
            found: looks for topics.

        Raises:
            Unusable: an object is gone or damaged.
            Unavailable: no broker answers, or the place does not.
            ConfigError: the broker refuses a topic.
        """
        await self._create()
        async with producer(self._settings, max_request_size=1 << 20) as client:
            for name, copy in self._manifest.topics.items():
                for number, partition in enumerate(copy.partitions):
                    await self._fill(client, name, number, partition)
        self._check(await found())
        await self._settle()

    async def _create(self) -> None:
        async with admin_client(self._settings) as client:
            there = await topics_show(self._settings, configs=False)
            replication = replication_for(self._settings, there.brokers)
            if there.topics:  # empty ones
                await client.delete_topics(list(there.topics))
                await self._until(set())
            new = [
                NewTopic(name, len(copy.partitions), replication, topic_configs=dict(_FILLING))
                for name, copy in self._manifest.topics.items()
            ]
            answer = (await client.create_topics(new)).to_object()
            problems = [
                f"{one['topic']}: {for_code(one['error_code']).__name__}"
                for one in answer["topic_errors"]
                if one["error_code"]
            ]
            if problems:
                raise ConfigError(problems)
            await self._until(set(self._manifest.topics))

    async def _until(self, names: set[str], attempts: int = 150) -> None:
        for _ in range(attempts):
            topics = (await topics_show(self._settings, configs=False)).topics
            if topics.keys() == names and all(one.in_sync for one in topics.values()):
                return
            await asyncio.sleep(0.1)
        raise Unavailable("Kafka did not make or delete topics in time; run the restore again")

    async def _fill(self, client: Any, name: str, number: int, partition: Partition) -> None:
        records: Iterable[Copied] = self._records(partition)
        begin = partition.begin
        if BY_NAME[name].compacted:
            begin = partition.end - partition.records
            records = shifted(records, partition.end, partition.records)
        writing = Writing(client, name, number)
        position = 0
        with answering(self._settings):
            for skip, record in placed(records, 0):
                if skip:
                    await writing.skip(skip)
                await writing.add(record)
                position = record.offset + 1
                self._done += 1
                if self._done % 10_000 == 0:
                    self._told(self._done, self._total)
            await writing.skip(partition.end - position)
            await writing.landed()
        if begin:
            async with admin_client(self._settings) as admin:
                tp = TopicPartition(name, number)
                await admin.delete_records({tp: RecordsToDelete(before_offset=begin)})

    def _records(self, partition: Partition) -> Iterator[Copied]:
        for chunk in partition.chunks:
            yield from unpacked(self._place.read(chunk.stored))

    def _check(self, found: dict[str, Found]) -> None:
        for name, wanted_topic in self._manifest.topics.items():
            ends = [end for _, end in found[name].bounds]
            wanted = [partition.end for partition in wanted_topic.partitions]
            if ends != wanted:
                raise Unavailable(
                    f"{name} ends at {ends} instead of {wanted}: somebody else writes to it, or a"
                    " batch came twice; run the restore again"
                )

    async def _settle(self) -> None:
        """Gives the topics the settings that they had (invariant 3)."""
        cluster = await topics_show(self._settings, configs=False)
        async with admin_client(self._settings) as client:
            for name, copy in self._manifest.topics.items():
                config = _config(name, copy, cluster.topics[name].replication)
                resource = ConfigResource(ConfigResourceType.TOPIC, name, config)
                for answer in await client.alter_configs([resource]):
                    for code, said, *_ in answer.resources:
                        if code:
                            raise ConfigError([f"{name}: {said or for_code(code).__name__}"])


def _config(name: str, copy: TopicCopy, replication: int) -> dict[str, str]:
    """What a new topic has, with the retention that the operator had set."""
    config = wanted_config(BY_NAME[name], replication)
    kept = {
        key: copy.config[key]
        for key in ("retention.ms", "retention.bytes", "max.compaction.lag.ms")
        if copy.config.get(key)
    }
    return {**config, **kept}


class Writing:
    """Writes one partition in order."""

    def __init__(self, client: Any, topic: str, partition: int) -> None:
        self._client, self._topic, self._partition = client, topic, partition
        self._batch: Any = None
        self._flying: deque[Any] = deque()

    async def add(self, record: Copied) -> None:
        """Adds a record."""
        given = {
            "key": record.key, "value": record.value, "timestamp": record.timestamp,
            "headers": list(record.headers),
        }  # fmt: skip
        if self._batch is None:
            self._batch = self._client.create_batch()
        if self._batch.append(**given) is None:
            await self._send()
            self._batch = self._client.create_batch()
            if self._batch.append(**given) is None:
                raise ValueError(f"{self._topic}: a record of {len(record.value or b'')} bytes")

    async def skip(self, offsets: int) -> None:
        """Fills offsets with empty records."""
        if offsets > 0:
            await self._send()
        while offsets > 0:
            count = min(offsets, FILLED_AT_ONCE)
            await self._carry(copy(_empty_batch(count)))
            offsets -= count

    async def landed(self) -> None:
        """Waits until everything is acknowledged."""
        await self._send()
        while self._flying:
            await self._flying.popleft()

    async def _send(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None and batch.record_count():
            await self._carry(batch)

    async def _carry(self, batch: Any) -> None:
        while len(self._flying) >= IN_FLIGHT_MAX:
            await self._flying.popleft()
        self._flying.append(
            await self._client.send_batch(batch, self._topic, partition=self._partition)
        )
