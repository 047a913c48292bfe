"""Copies Kafka's topics into a backup, and what groups have committed.

Invariants:
1. Every partition is copied from its first offset to the end that it had when the copying of its
   topic began; nobody's offsets move.
2. A full chunk of a topic that is not compacted is not read again if the last backup has it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError

from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.backup.chunks import CHUNK_OFFSETS, packed, spans
from streams.backup.manifest import Chunk, Found, Manifest, Partition, Place, TopicCopy
from streams.backup.place import BackupPlace, Told
from streams.kafka.admin import TopicState, topics_show
from streams.kafka.clients import FETCH_BYTES_MAX, admin_client, lone_consumer
from streams.kafka.stretches import PartitionStretches

RECORDS_AT_ONCE = 10_000
FETCH_WAIT_MS = 50
"""Of a fetch that finds nothing: the next request of the connection waits behind it."""


async def committed(settings: Settings) -> dict[str, dict[str, dict[int, Place]]]:
    """What every group has committed on mailpulse's topics, those of other systems included.

    Raises:
        Unavailable: no broker answers.
    """
    out: dict[str, dict[str, dict[int, Place]]] = {}
    async with admin_client(settings) as client:
        for group, *_ in await client.list_consumer_groups():
            with suppress(GroupAuthorizationFailedError):
                found = await client.list_consumer_group_offsets(group)
                for tp, at in sorted(found.items()):
                    if tp.topic in BY_NAME and at.offset >= 0:
                        places = out.setdefault(group, {}).setdefault(tp.topic, {})
                        places[tp.partition] = Place(at.offset, at.metadata)
    return out


async def found_topics(settings: Settings) -> dict[str, Found]:
    """What Kafka has of mailpulse's topics.

    Raises:
        Unavailable: no broker answers.
    """
    states = (await topics_show(settings, configs=False)).topics
    if not states:
        return {}
    async with lone_consumer(settings) as consumer:
        bounds = await _bounds(consumer, states)
    return {
        name: Found(
            state.topic_id,
            tuple(bounds[TopicPartition(name, number)] for number in range(state.partitions)),
        )
        for name, state in states.items()
    }


async def _bounds(
    consumer: Any, states: Mapping[str, TopicState]
) -> dict[TopicPartition, tuple[int, int]]:
    every = [
        TopicPartition(name, number)
        for name, state in states.items()
        for number in range(state.partitions)
    ]
    begins = await consumer.beginning_offsets(every)
    ends = await consumer.end_offsets(every)
    return {tp: (begins[tp], ends[tp]) for tp in every}


@dataclass(frozen=True, slots=True)
class Copying:
    """What is copied to where.

    Attributes:
        place: of the backup.
        before: the last backup there.
        told: called with how many offsets of how many are done.
    """

    settings: Settings
    place: BackupPlace
    before: Manifest | None
    told: Told

    async def topics(self) -> dict[str, TopicCopy]:
        """Copies every topic.

        Raises:
            Unavailable: no broker answers, or the place does not.
        """
        states = (await topics_show(self.settings)).topics
        sizes = {
            "max_partition_fetch_bytes": FETCH_BYTES_MAX, "fetch_max_bytes": 4 * FETCH_BYTES_MAX,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }  # fmt: skip
        async with lone_consumer(self.settings, **sizes) as consumer:
            bounds = await _bounds(consumer, states)
            done, total = 0, sum(end - begin for begin, end in bounds.values())
            out = {}
            for name, state in states.items():
                partitions = []
                for number in range(state.partitions):
                    tp = TopicPartition(name, number)
                    begin, end = bounds[tp]
                    async for chunk, through in self._chunks(consumer, tp, state, begin, end):
                        partitions.append(chunk)
                        self.told(done + through - begin, total)
                    done += end - begin
                out[name] = _copy(state, bounds, partitions)
        return out

    async def _chunks(
        self, consumer: Any, tp: TopicPartition, state: TopicState, begin: int, end: int
    ) -> AsyncIterator[tuple[tuple[int, Chunk], int]]:
        """Chunks of a partition, each with its number, and the offset that is reached."""
        known = self._known(tp, state)
        reading: PartitionStretches | None = None
        for first, through in spans(begin, end):
            earlier = known.get(through)
            if earlier is not None and earlier.begin <= first and self.place.has(earlier.stored):
                self.place.kept_bytes += earlier.stored.bytes
                yield (tp.partition, earlier), through
                continue
            if reading is None:
                consumer.assign([tp])
                reading = PartitionStretches(consumer, tp, begin, end)
            records: list[Any] = []
            async for some, _ in reading.read(first, through, RECORDS_AT_ONCE):
                records += some
            if records:
                yield (tp.partition, await self._stored(first, through, records)), through

    async def _stored(self, begin: int, end: int, records: Sequence[Any]) -> Chunk:
        def store() -> Chunk:
            return Chunk(begin, end, len(records), self.place.put_bytes(packed(records)))

        return await asyncio.to_thread(store)

    def _known(self, tp: TopicPartition, state: TopicState) -> dict[int, Chunk]:
        """End -> chunk that can't have changed since the last backup (invariant 2)."""
        copy = self.before.topics.get(tp.topic) if self.before else None
        if copy is None or copy.topic_id != state.topic_id or BY_NAME[tp.topic].compacted:
            return {}
        if tp.partition >= len(copy.partitions):
            return {}
        chunks = copy.partitions[tp.partition].chunks
        return {chunk.end: chunk for chunk in chunks if chunk.end % CHUNK_OFFSETS == 0}


def _copy(
    state: TopicState,
    bounds: Mapping[TopicPartition, tuple[int, int]],
    chunks: Sequence[tuple[int, Chunk]],
) -> TopicCopy:
    partitions = [
        Partition(*bounds[TopicPartition(state.name, number)]) for number in range(state.partitions)
    ]
    for number, chunk in chunks:
        partitions[number] = replace(
            partitions[number], chunks=(*partitions[number].chunks, chunk)
        )  # fmt: skip
    return TopicCopy(state.topic_id, state.config, tuple(partitions))
