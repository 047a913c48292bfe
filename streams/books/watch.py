"""Looks at every source each minute, and tells what its rhythm does not explain.

Invariants:
1. One process looks: the sink that reads partition 0 of the raw topic. If for a moment two do, they
   tell the same incidents under the same identities.
2. What came is known through ``freshness``: while the pipeline is behind or stands still, its lag
   is no silence of a source.
3. Nothing is remembered here but rhythms and when silences ended, which are learned from what is
   stored: open incidents are read from where they are stored. What
   was told in the last ``STORED_S`` seconds may not be there yet, so that is remembered too.
4. Rhythms are learned anew every ``LEARN_S`` seconds, source by source, so that memory holds one
   source's history at a time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from schemas.cloudevents import BOOKS, cloud_event
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import SOURCE_ALERTS
from streams.books.clocks import Clocks, of_requests
from streams.books.refusals import Facts, Kind, Requests
from streams.books.rhythm import SLOT_S, WEEK_SLOTS, WEEKS_MAX, Rhythm, learn, resumed
from streams.books.silence import CLOSED, SLOT_US, WHOLE, Held, Key, Record, Stream, learned, look
from streams.kafka.clients import producer

log = structlog.get_logger("mailpulse.books")

TICK_S = 60.0
LEARN_S = 3_600.0
STORED_S = 600.0
"""After this long what was told is stored, or the sink is behind, and nothing is judged."""
IDLE_S = 1.0

Ask = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]
"""A query and its parameters -> rows. Blocking; raises ``Unavailable``."""
Show = Callable[[Mapping[str, float]], None]
"""Takes the seconds that each source has been silent without an explanation."""

NEWEST = """\
SELECT source, event_type, toUnixTimestamp64Milli(max(newest)) FROM source_slots
GROUP BY source, event_type"""
CAME = """\
SELECT source, event_type, sum(toUnixTimestamp64Milli(at)) FROM (
    SELECT source, event_type, slot, max(newest) AS at FROM source_slots
    WHERE slot >= toDateTime({since:UInt32}, 'UTC') GROUP BY source, event_type, slot)
GROUP BY source, event_type"""
THROUGH = """\
SELECT toUnixTimestamp64Milli(min(caught_up_to)) FROM freshness
WHERE part = 'events' AND caught_up_to IS NOT NULL"""
SLOTS = """\
SELECT event_type, arraySort(groupUniqArray(intDiv(toUnixTimestamp(slot), 300))) FROM source_slots
WHERE source = {source:String} AND slot >= toDateTime({since:UInt32}, 'UTC')
GROUP BY event_type"""
OPEN = """\
SELECT source, event_type, state, toUnixTimestamp64Micro(silent_since),
    toUnixTimestamp64Micro(opened_at), usual_gap_s, explained_s, sequence, cause,
    toUnixTimestamp64Micro(accepted_until), toUnixTimestamp64Micro(refused_since),
    toUnixTimestamp64Micro(refused_until), refused, refusal
FROM source_incidents WHERE state != 'closed'"""
ACCEPTED = """\
SELECT source, toUnixTimestamp64Micro(max(last_at)) FROM source_requests
WHERE result = 'accepted' GROUP BY source"""
REFUSED = """\
SELECT source, result, reason, requests, toUnixTimestamp64Micro(since),
    toUnixTimestamp64Micro(until), slots, before
FROM source_refusals WHERE source != ''"""
QUERIES = (NEWEST, CAME, THROUGH, SLOTS, OPEN, ACCEPTED, REFUSED)
_HELD = (
    "source", "event_type", "state", "silent_since", "opened_at", "usual_gap_s", "explained_s",
    "sequence", *Facts._fields,
)  # fmt: skip


@dataclass(slots=True)
class _Told:
    """What was told lately: an incident that is open since, or ``None`` for one that was closed."""

    held: Held | None
    at_s: float


@dataclass(slots=True)
class Books:
    """The looks of one process. Blocking.

    Args:
        ask: queries ClickHouse.
    """

    ask: Ask
    _rhythms: dict[Key, Rhythm | None] = field(default_factory=dict)
    _resumed_us: dict[str, int] = field(default_factory=dict)
    _learned_s: float | None = None
    _told: dict[Key, _Told] = field(default_factory=dict)
    _clocks: Clocks = field(default_factory=Clocks)

    def look(self, now_s: float) -> tuple[list[Record], dict[Key, Held], int]:
        """One look; nothing of it is remembered before ``told``.

        Returns:
            Records to send, the incidents that are open then, and through which time everything
            is known, microseconds since 1970.

        Raises:
            Unavailable: ClickHouse does not answer.
        """
        now_us = int(now_s * 1e6)
        stamped = {
            Key(source, event_type): int(at_ms) * 1_000
            for source, event_type, at_ms in self.ask(NEWEST, {})
        }
        held = self._held(now_s)
        since_us = {key: one.since_us for key, one in held.items()}
        newest = self._clocks.believed(stamped, self._came, since_us, now_us)
        for key, at_us in list(newest.items()):
            whole = Key(key.source, WHOLE)
            newest[whole] = max(newest.get(whole, 0), at_us)
        [[through_ms]] = self.ask(THROUGH, {}) or [[0]]
        requests = self._requests(now_us)
        for source in requests:
            newest.setdefault(Key(source, WHOLE), 0)
        if any(newest.values()):  # else nothing can be behind, and all that is known are refusals
            now_us = min(now_us, int(through_ms or 0) * 1_000)
        if self._learned_s is None or now_s - self._learned_s >= LEARN_S:
            self._learn(sorted({key.source for key in newest}), int(now_s))
            self._learned_s = now_s
        streams = {
            key: Stream(
                self._rhythms.get(key), at, self._resumed_us.get(key.source, 0)
                if key.event_type else 0,
            )
            for key, at in newest.items()
        }  # fmt: skip
        records, after = look(streams, held, now_us, requests)
        return records, after, now_us

    @property
    def ahead(self) -> list[str]:
        """Sources of which arrivals are stamped with a time that was yet to come."""
        return self._clocks.ahead

    def _came(self, since_s: int) -> dict[Key, int]:
        return {
            Key(source, event_type): int(number)
            for source, event_type, number in self.ask(CAME, {"since": since_s})
        }

    def _requests(self, now_us: int) -> dict[str, Requests]:
        """Source -> what its requests say, where ingress tells."""
        kinds: dict[str, list[Kind]] = {}
        for source, *row in self.ask(REFUSED, {}):
            kinds.setdefault(source, []).append(Kind(*row))
        accepted = {source: int(at_us) for source, at_us in self.ask(ACCEPTED, {})}
        found = {
            source: of_requests(
                Requests(accepted.get(source, 0), tuple(kinds.get(source, ()))), now_us
            )
            for source in sorted({*kinds, *accepted})
        }
        return {source: one for source, one in found.items() if one is not None}

    def told(self, records: Sequence[Record], after: Mapping[Key, Held], now_s: float) -> None:
        """Notes that records were sent."""
        for record in records:
            key = Key(record["source"], record["event_type"])
            is_open = record["state"] != CLOSED
            if record["resumed_at"] and not key.event_type:
                self._resumed_us[key.source] = record["resumed_at"]
            self._told[key] = _Told(after[key] if is_open else None, now_s)

    def _held(self, now_s: float) -> dict[Key, Held]:
        stored = [dict(zip(_HELD, row, strict=True)) for row in self.ask(OPEN, {})]
        held = learned(stored)
        for key, told in list(self._told.items()):
            if now_s - told.at_s >= STORED_S:
                del self._told[key]
            elif told.held is None:
                held.pop(key, None)
            else:
                held[key] = told.held
        return held

    def _learn(self, sources: Sequence[str], now_s: int) -> None:
        since = max(0, now_s - WEEKS_MAX * WEEK_SLOTS * SLOT_S)
        rhythms: dict[Key, Rhythm | None] = {}
        for source in sources:
            every: set[int] = set()
            for event_type, stamped in self.ask(SLOTS, {"source": source, "since": since}):
                slots = [slot for slot in stamped if slot <= now_s // SLOT_S]
                every.update(slots)
                rhythms[Key(source, event_type)] = learn(slots)
            slots = sorted(every)
            whole = rhythms[Key(source, WHOLE)] = learn(slots)
            if whole is not None:
                last_us = resumed(whole, slots) * SLOT_US
                self._resumed_us[source] = max(last_us, self._resumed_us.get(source, 0))
        self._rhythms = rhythms


class Watch:
    """Looks and tells until it is cancelled.

    Args:
        settings: of Kafka.
        codec: with the schema ids in use.
        wall: seconds since 1970.
    """

    def __init__(self, settings: Settings, codec: Codec, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._codec = codec
        self._wall = wall

    async def run(self, ask: Ask, mine: Callable[[], bool], show: Show) -> None:
        """Runs until it is cancelled.

        Args:
            ask: queries ClickHouse.
            mine: whether this process is the one that looks (invariant 1).
            show: gets what is silent, after each look.
        """
        books = Books(ask)
        while True:
            if not mine():
                show({})
                books = Books(ask)
                await asyncio.sleep(IDLE_S)
                continue
            try:
                await self._tick(books, show)
            except (Unavailable, OSError) as error:
                log.warning("sources not looked at", error=str(error)[:300])
            await asyncio.sleep(TICK_S)

    async def _tick(self, books: Books, show: Show) -> None:
        now_s = self._wall()
        before = books.ahead
        records, after, now_us = await asyncio.to_thread(books.look, now_s)
        if books.ahead and books.ahead != before:
            log.warning("the clock of an ingress runs ahead: synchronise it", sources=books.ahead)
        if records:
            await self.tell(records)
            books.told(records, after, now_s)
        silent: dict[str, float] = {}
        for key, held in after.items():
            seconds = max(0.0, (now_us - held.since_us) / 1e6)
            silent[key.source] = max(silent.get(key.source, 0.0), seconds)
        show(silent)

    async def tell(self, records: Sequence[Record]) -> None:
        """Sends records; returns once Kafka has acknowledged them.

        Raises:
            Unavailable: Kafka does not answer.
        """
        async with producer(self._settings) as client:
            for record in records:
                identity = f"{record['incident_id']}-{record['sequence']}"
                headers = cloud_event("source_alert", BOOKS, identity, record["changed_at"])
                log.warning(
                    f"silence {record['state']}", source=record["source"],
                    event_type=record["event_type"], incident=record["incident_id"],
                )  # fmt: skip
                await client.send_and_wait(
                    SOURCE_ALERTS, self._codec.encode("source_alert", record),
                    record["source"].encode(), headers=headers,
                )  # fmt: skip
