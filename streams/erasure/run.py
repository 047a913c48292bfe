"""Carries erasures out, in an order in which every step may be interrupted and repeated.

Invariants:
1. First the order is on its topic, with all that the certificate needs; only then anything is
   erased. An order still has the names of its person until it is carried out, so a command that was
   killed is continued by repeating it, and gives the same certificate.
2. Tombstones are written when the workers obey (``SETTLED_S``), so none of them publishes an older
   suppression afterwards.
3. An order loses its names when the tables no longer have them. What a sink stored at the same
   moment is found by looking again; then the order is given again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from schemas.codec import AvroRecord, Codec
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import ERASURES
from streams.erasure import suppressed
from streams.erasure.certificate import Found, Keeping, Terms, facts, obeyed_until
from streams.erasure.person import Person
from streams.erasure.suppressed import Held, before
from streams.erasure.topic import STALE_S, ErasureLog
from streams.kafka import admin
from streams.kafka.clients import producer

SETTLED_S = 3 * STALE_S
"""After so long whoever reads the topic of erasures obeys it."""
POLL_S = 0.25
TRIES = 5
"""Of the sink's, before what it leaves is told as a fault."""

Left = Callable[[Sequence[str], int], Awaitable[int]]
"""How many rows of the tables name these people, for what happened before a time in µs."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A person to be forgotten.

    Attributes:
        person: all forms of the address.
        found: what is known.
        scopes: lists and groups that they may have been told for.
        held: on the topics of suppressions.
    """

    person: Person
    found: Found
    scopes: frozenset[tuple[str, str]]
    held: Held


async def terms_of(settings: Settings, *, kept: bool) -> Terms:
    """What the dates of certificates follow from, as the cluster has it.

    Raises:
        Unavailable: Kafka is away.
    """
    cluster = await admin.topics_show(settings)
    keeping = {
        name: Keeping(
            int(state.config.get("retention.ms", -1)), int(state.config.get("segment.ms", 0)),
            int(state.config.get("max.compaction.lag.ms", -1)),
        )
        for name, state in cluster.topics.items()
    }  # fmt: skip
    return Terms(keeping, settings.message_ttl_hours, settings.spool_dir is not None, kept)


def order(wanted: Wanted, terms: Terms, now_us: int) -> AvroRecord:
    """The record of a new erasure, as of the next whole second: state knows seconds alone."""
    now_us = -(-now_us // 1_000_000) * 1_000_000
    return {
        "erasure_id": uuid4().hex, "at": now_us, "until": obeyed_until(now_us, terms),
        "digests": wanted.person.digests,
        "state_keys": wanted.person.state_keys(wanted.scopes | wanted.held.scopes),
        "identities": list(wanted.person.names), "certificate": facts(wanted.found, terms),
    }  # fmt: skip


def over(record: AvroRecord) -> AvroRecord:
    """The record of an erasure that nobody needs to obey any more: its certificate."""
    return {**record, "digests": [], "state_keys": [], "identities": []}


def is_ended(record: AvroRecord, terms: Terms, now_us: int) -> bool:
    """Whether an erasure need not be obeyed any more, by the retention that was and that is now."""
    if not record["digests"] or record["identities"]:
        return False
    ends = record["until"], obeyed_until(record["at"], terms)
    return 0 not in ends and max(ends) < now_us


def earlier(log: ErasureLog) -> dict[str, AvroRecord]:
    """Digest -> newest erasure of that person that is still obeyed."""
    out: dict[str, AvroRecord] = {}
    for record in sorted(log.newest.values(), key=lambda one: one["at"]):
        out.update(dict.fromkeys(record["digests"], record))
    return out


class Run:
    """One run of the command.

    Args:
        log: entered, and read to its end.
        left: see ``Left``.
        say: for progress.
        wait_s: longest wait for the sink.
        hash_key: with it, suppressions survive as keyed hashes; ``None``: they don't.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        log: ErasureLog,
        left: Left,
        say: Say,
        wait_s: float,
        hash_key: bytes | None,
    ) -> None:
        self._settings, self._codec, self._log = settings, codec, log
        self._left, self._say, self._wait_s, self._hash_key = left, say, wait_s, hash_key

    async def carry_out(self, orders: Sequence[AvroRecord], now_us: int) -> None:
        """Gives the orders and sees to it that they are carried out.

        Raises:
            Unavailable: Kafka or the sink is away; what was ordered stays so.
        """
        async with producer(self._settings) as client:
            await self._ends(client, now_us)
            for attempt in range(TRIES):
                end = await self._log.announce(client, orders)
                if attempt == 0:
                    self._say(f"ordered: {len(orders):,}; waiting for the sink and the workers")
                    await asyncio.sleep(SETTLED_S)
                    await self._tombstones(client, orders, now_us)
                await self._sink_has_read(end)
                left = await self._rows_left(orders)
                if not left:
                    break
                self._say(f"{left:,} rows were stored meanwhile: once more")
            else:
                raise Unavailable(
                    f"the tables still name them in {left:,} rows: see the sink's log"
                )
            done = [{**record, "identities": []} for record in orders]
            await self._log.announce(client, done)

    async def _tombstones(self, client: Any, orders: Sequence[AvroRecord], now_us: int) -> None:
        """Erases what the topics of suppressions hold by now (invariant 2)."""
        names = {name: number for number, one in enumerate(orders) for name in one["identities"]}
        for number, held in (await suppressed.held(self._settings, self._codec, names)).items():
            mine = before(held, orders[number]["at"])
            if self._hash_key is not None:
                await suppressed.keep_hashed(client, self._codec, mine, self._hash_key, now_us)
            await suppressed.erase(client, mine, now_us)

    async def _rows_left(self, orders: Sequence[AvroRecord]) -> int:
        by_time: dict[int, list[str]] = {}
        for one in orders:
            by_time.setdefault(one["at"], []).extend(one["identities"])
        return sum([await self._left(names, at) for at, names in by_time.items()])

    async def _ends(self, client: Any, now_us: int) -> None:
        """Ends the erasures whose last record has expired: they keep their certificate alone."""
        terms = await terms_of(self._settings, kept=False)
        ended = [over(one) for one in self._log.newest.values() if is_ended(one, terms, now_us)]
        await self._log.announce(client, ended)

    async def _sink_has_read(self, end: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_s
        group: dict[str, tuple[str, ...]] = {self._settings.sink_group: (ERASURES,)}
        while True:
            rows = await admin.lag(self._settings, group)
            committed = next((row.committed for row in rows if row.partition == 0), None)
            if committed is not None and committed >= end:
                return
            if loop.time() > until:
                raise Unavailable(
                    "the sink has not carried it out yet: the order stands, and is obeyed when it"
                    " runs; the same command again waits for it and gives the certificate"
                )
            await asyncio.sleep(POLL_S)
