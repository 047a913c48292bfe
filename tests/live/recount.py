"""Reads what the engine wrote to Kafka and compares it with a recount of its input."""

from collections import defaultdict
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas import topics
from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from schemas.scopes import parts_of
from streams.enrich.telling import Addressee
from tests.streams.reference import Counts, count
from tests.streams.suppression_reference import standing as recounted

CODEC = Codec()


async def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic up to its present end, in order within each partition."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False,
        isolation_level="read_committed", max_partition_fetch_bytes=8 << 20,
        auto_offset_reset="earliest",
    )  # fmt: skip
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        assert ends, f"{topic} has no partitions"
        out: list[Any] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                out += records
        return out
    finally:
        await consumer.stop()


async def raw_events(bootstrap: str) -> list[Event]:
    """The raw topic's events, in order within each partition, without unreadable ones."""
    records, _ = CODEC.decode_batch(
        [r.value or b"" for r in await read_topic(bootstrap, topics.RAW)], "raw_event"
    )
    return [record for _, record in records]  # type: ignore[misc]  # decoded events


async def identities(bootstrap: str) -> dict[str, set[tuple[int, int]]]:
    """Event id -> its coordinates in the enriched topic."""
    out: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for record in await read_topic(bootstrap, topics.ENRICHED):
        value = CODEC.decode(record.value, "enriched_event")
        added = value["enrichment"]
        assert added["partition"] == record.partition
        out[value["event"]["event_id"]].add((added["partition"], added["offset"]))
    return out


async def merged_minutes(bootstrap: str) -> Counts:
    """The minutes topic merged: the highest offset of each partial counts; sums over partitions."""
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in await read_topic(bootstrap, topics.MINUTES):
        value = CODEC.decode(record.value, "campaign_minute")
        key = (
            value["campaign_id"], value["mailbox_provider"], value["minute"], value["log_id"],
            value["partition"],
        )  # fmt: skip
        if key not in newest or value["offset"] >= newest[key]["offset"]:
            newest[key] = value
    sums: Counts = defaultdict(lambda: defaultdict(int))
    for (campaign, mailbox, minute, _, _), value in newest.items():
        for name in COUNTER_NAMES:
            sums[campaign, mailbox, minute // 60_000][name] += value[name]
    cleaned = {key: {n: v for n, v in row.items() if v} for key, row in sums.items()}
    return {key: row for key, row in cleaned.items() if row}


async def _places(bootstrap: str, wanted: set[str]) -> list[str]:
    """Where events are in the raw topic: partition and offsets, first and last of each span."""
    stretches: list[list[int]] = []
    records = await read_topic(bootstrap, topics.RAW)
    for record in sorted(records, key=attrgetter("partition", "offset")):
        try:
            event = CODEC.decode(record.value or b"", "raw_event")
        except DecodeError:
            continue
        if event["event_id"] in wanted:
            if not stretches or stretches[-1][::2] != [record.partition, record.offset - 1]:
                stretches.append([record.partition, record.offset, record.offset])
            stretches[-1][2] = record.offset
    return [f"{partition}: {first} to {last}" for partition, first, last in stretches]


async def told_suppressions(bootstrap: str) -> dict[Addressee, str]:
    """The suppressions that the topics hold now, by whom they concern."""
    out: dict[Addressee, str] = {}
    for topic in (topics.SUPPRESSIONS, topics.SCOPED_SUPPRESSIONS):
        for record in await read_topic(bootstrap, topic):
            whom = Addressee(*parts_of(record.key.decode()))
            out.pop(whom, None)
            if record.value is not None:
                out[whom] = CODEC.decode(record.value, "suppression")["reason"]
    return out


async def assert_exact(bootstrap: str) -> int:
    """Asserts that every event is enriched under exactly one identity, and every count is exact.

    The suppressions that stand are those of a recount too.

    Returns:
        The number of different events.
    """
    events = await raw_events(bootstrap)
    found = await identities(bootstrap)
    expected = {event["event_id"] for event in events}
    missing = expected - set(found)
    places = await _places(bootstrap, missing) if missing else []
    assert not missing, f"{len(missing)} of {len(expected)} events are not enriched: {places}"
    assert set(found) == expected
    twice = {event_id: at for event_id, at in found.items() if len(at) > 1}
    assert not twice, f"{len(twice)} events under two identities, such as {next(iter(twice))}"
    published, counted = await merged_minutes(bootstrap), count(events)
    wrong = {
        key: (published.get(key), counted.get(key))
        for key in published.keys() | counted.keys()
        if published.get(key) != counted.get(key)
    }
    some = list(wrong.items())[:3]
    assert not wrong, f"{len(wrong)} minutes differ from the recount, such as {some}"
    standing = {whom: reason for whom, reason in recounted(events).items() if reason}
    assert await told_suppressions(bootstrap) == standing
    return len(expected)
