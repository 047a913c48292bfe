"""What an import asks of ClickHouse and Kafka, and how it is joined to live events.

Invariants:
1. An event that is stored already is not imported: that is decided once, before anything is
   written, and what was decided is in the sorted files.
2. The import is joined to state by one record on the topic of rules, after all of its records are
   acknowledged (``streams.enrich.epochs``).
"""

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka import TopicPartition

from schemas.codec import Codec
from schemas.errors import BadInput, ConfigError
from schemas.event import event_hash
from schemas.settings import Settings
from schemas.topics import ENRICHED, HISTORY, MINUTES, RAW
from streams.cli.clickhouse import ask, rows_of
from streams.enrich.epochs import Epoch, Joined, Ruling
from streams.kafka import admin
from streams.kafka.clients import lone_consumer
from streams.reprocess.plan import Planner
from streams.reprocess.rules_topic import Rulebook
from streams.worker.worker import look_ups_of

DAY_US = 86_400_000_000
IDS_AT_ONCE = 1_000_000
"""Ids of one answer of ClickHouse's: 33 MB."""
LIVE_STORED_S = 60.0
"""How long an import that is not joined waits for live events to be stored."""
KNOWN_MAX = 50_000_000
"""Stored ids that are compared, eight bytes each in memory."""
_LIVE_SINCE = (
    "SELECT toUnixTimestamp64Milli(min(received_at)), count() FROM events"
    " WHERE source = {source:String} AND received_by != 'command'"
)
_RANGE = (
    " FROM events WHERE provider = {provider:String}"
    " AND event_time >= fromUnixTimestamp64Milli({begin:Int64})"
    " AND event_time < fromUnixTimestamp64Milli({until:Int64})"
)
_SHARE = " AND cityHash64(event_id) % {shares:UInt32} = {share:UInt32}"


# --- what is known --------------------------------------------------------------------------------


def live_since_us(settings: Settings, source: str) -> int | None:
    """When the first live event of a source came in, microseconds; ``None``: none has.

    Raises:
        Unavailable: ClickHouse does not answer.
    """
    [(at_ms, count)] = rows_of(settings, _LIVE_SINCE, {"source": source}, tuple[int, int])
    return at_ms * 1_000 if count else None


class Known:
    """Which events are stored: hashes of ids, sorted."""

    def __init__(self, hashes: "array[int]") -> None:
        self._hashes = hashes

    def __contains__(self, identity: object) -> bool:
        assert isinstance(identity, int)
        at = bisect_left(self._hashes, identity)
        return at < len(self._hashes) and self._hashes[at] == identity

    def __len__(self) -> int:
        return len(self._hashes)


def known(settings: Settings, provider: str, first_us: int, last_us: int) -> Known:
    """The stored events of a provider in a range, a day more on both sides.

    Raises:
        Unavailable: ClickHouse does not answer.
        BadInput: ``too_many``.
    """
    given = {
        "provider": provider, "begin": str((first_us - DAY_US) // 1_000),
        "until": str((last_us + DAY_US) // 1_000),
    }  # fmt: skip
    [(count,)] = rows_of(settings, "SELECT count()" + _RANGE, given, tuple[int])
    if count > KNOWN_MAX:
        raise BadInput("too_many", f"{count:,} events of {provider} are stored in the range, more "
                       f"than {KNOWN_MAX:,}: import a shorter range")  # fmt: skip
    hashes = array("Q")
    shares = -(-count // IDS_AT_ONCE)
    sql = "SELECT replaceAll(toString(event_id), '-', '')" + _RANGE + _SHARE
    for share in range(shares):
        more = {**given, "shares": str(shares), "share": str(share)}
        text = b"".join(ask(settings, sql, "TabSeparated", more).pieces).decode()
        hashes.extend(map(event_hash, text.split()))
    return Known(array("Q", sorted(hashes)))


async def partitions_of(settings: Settings) -> int:
    """How many partitions the topics of events have.

    Raises:
        ConfigError: one is missing, or has another number.
        Unavailable: Kafka is away.
    """
    cluster = await admin.topics_show(settings)
    for name in (RAW, ENRICHED, HISTORY, MINUTES):
        if name not in cluster.topics:
            raise ConfigError([f"{name}: no such topic; 'mailpulse topics apply' creates it"])
    count = cluster.topics[RAW].partitions
    if cluster.topics[HISTORY].partitions != count:
        raise ConfigError([f"{HISTORY}: has not as many partitions as {RAW} ({count})"])
    return count


async def check_stored(settings: Settings) -> None:
    """Refuses to begin while the sink has not stored an earlier import: what is known of it would
    not be recognised.

    Raises:
        BadInput: ``not_stored``.
    """
    rows = await admin.lag(settings, {settings.sink_group: (HISTORY,)})
    left = sum(row.lag for row in rows)
    if left:
        raise BadInput(
            "not_stored",
            f"{left:,} records of an earlier import are not stored yet: repeat the command when "
            "the sink has read them ('mailpulse lag')",
        )


async def wait_for_live(settings: Settings) -> None:
    """Returns once the live events that have come are stored: else those of them that the files
    hold too would not be recognised, and an import that is not joined would count them again.

    Raises:
        BadInput: ``not_stored``: not within ``LIVE_STORED_S``.
        Unavailable: Kafka is away.
    """
    deadline = time.monotonic() + LIVE_STORED_S
    for group, topic in ((settings.consumer_group, RAW), (settings.sink_group, ENRICHED)):
        begun = await admin.lag(settings, {group: (topic,)})
        ends = {row.partition: row.end for row in begun if row.lag}
        while ends:
            if time.monotonic() >= deadline:
                raise BadInput(
                    "not_stored",
                    f"live events that have come are not stored yet ({topic} is not read to where"
                    " it ended): repeat the command when they are ('mailpulse lag')",
                )
            await asyncio.sleep(1)
            for row in await admin.lag(settings, {group: (topic,)}):
                if not row.lag or (row.committed or 0) >= ends.get(row.partition, 0):
                    ends.pop(row.partition, None)


async def ends_of(settings: Settings, partitions: int) -> tuple[int, ...]:
    """The ends of the topic of history."""
    places = [TopicPartition(HISTORY, number) for number in range(partitions)]
    async with lone_consumer(settings) as consumer:
        ends = await consumer.end_offsets(places)
    return tuple(ends[place] for place in places)


# --- joining --------------------------------------------------------------------------------------


@asynccontextmanager
async def planner_of(settings: Settings, codec: Codec) -> AsyncIterator[tuple[Planner, Rulebook]]:
    """The planner of epochs."""
    log_id = await admin.log_id(settings)
    own = look_ups_of(settings).rules.version
    async with Rulebook(settings, codec) as rulebook:
        yield Planner(settings, rulebook, log_id, own), rulebook


async def ruling_of(settings: Settings, rulebook: Rulebook) -> Ruling:
    """How the workers judge now."""
    return Ruling.of(await rulebook.refresh(), look_ups_of(settings))


async def plan_of(planner: Planner, text: str, now_ms: int) -> tuple[Epoch, dict[int, Any]]:
    """The epoch that folds all live events again, behind the history.

    Raises:
        BadInput: records of live events are gone, or another run is under way.
    """
    try:
        return await planner.plan(text, lambda _: 0, now_ms, again=True)
    except BadInput as error:
        if error.reason != "too_early":
            raise
        raise BadInput("live_too_old", "Kafka no longer holds the first live events, which have to "
                       "be counted again behind the history; --apart imports it without: a message "
                       "that was opened before and after the cut then counts on both sides"
                       ) from None  # fmt: skip


def is_joined(rulebook: Rulebook, log_id: str) -> bool:
    """Whether an import was joined."""
    return any(
        one.log_id == log_id for epoch in rulebook.history.standing for one in epoch.histories
    )


async def join(
    planner: Planner, rulebook: Rulebook, ruling: Ruling, text: str, log_id: str,
    ends: tuple[int, ...], now_ms: int,
) -> None:  # fmt: skip
    """Announces the epoch that joins an import, unless that was done before."""
    await rulebook.refresh()
    if is_joined(rulebook, log_id):
        return
    epoch, _ = await plan_of(planner, text, now_ms)
    histories = (*ruling.histories, Joined(log_id, epoch.number, ends))
    await planner.begin(replace(epoch, histories=histories))
