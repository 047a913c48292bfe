"""Keeps an embedded pipeline within ``MAILPULSE_DISK_BYTES_MAX``, as ``disk_plan`` decides.

Invariants:
1. What goes of Kafka goes by Kafka's own request (DeleteRecords), and never beyond what the worker
   and the sink have committed.
2. How it stands is in ``data_dir/disk.json`` for ``mailpulse status`` and ``doctor``.
3. A look that fails is told once and made again; it ends nothing.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace

import httpx
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from schemas.addresses import clickhouse_address
from schemas.errors import MailpulseError
from schemas.groups import topics_by_group
from schemas.settings import Settings
from schemas.topics import RAW
from streams.embedded.disk_note import keep, remembered
from streams.embedded.disk_plan import Cut, Floors, Month, Outlook, decide
from streams.embedded.disk_use import measured
from streams.kafka import admin
from streams.kafka.clients import admin_client, answering, lone_consumer

log = structlog.get_logger(__name__)

LOOK_S = 300.0
"""Seconds between two looks at the disk."""
NOTED_MAX = 20
"""Cuts that are remembered."""
_MONTHS = (
    "SELECT partition, sum(bytes_on_disk) FROM system.parts WHERE active"
    " AND database = currentDatabase() AND table = 'events' GROUP BY partition FORMAT JSONCompact"
)


class DiskBudget:
    """The budget of one pipeline.

    Args:
        settings: of the whole pipeline.
        kafka: how its broker is reached.
        dsn: of its database, with all rights.
        announce: called with one line of text for the operator.
    """

    def __init__(
        self, settings: Settings, kafka: Settings, dsn: str, announce: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._clickhouse = clickhouse_address(dsn)
        self._announce = announce
        self._failed = ""

    async def run(self) -> None:
        """Looks at the disk for ever."""
        while True:
            try:
                await self.look(time.time())
                self._failed = ""
            except (MailpulseError, OSError, httpx.HTTPError, ValueError) as error:
                if str(error) != self._failed:
                    self._failed = str(error)
                    self._announce(f"disk budget: the disk could not be looked at: {error}")
            await asyncio.sleep(LOOK_S)

    async def look(self, now: float) -> Outlook:
        """Looks once, and makes what cuts are due at ``now``, seconds since 1970."""
        months = await self._months()
        use = await asyncio.to_thread(measured, self._settings.data_dir, months)
        floors = Floors(self._settings.correction_hours, self._settings.message_ttl_hours)
        memory = remembered(self._settings.data_dir)
        decision = decide(memory, use, self._settings.disk_bytes_max, floors, now)
        if decision.tell:
            self._announce(f"disk budget: {decision.outlook}")
        memory = decision.memory
        keep(self._settings.data_dir, memory, decision.outlook)
        for cut in decision.cuts:
            await self._make(cut)
            self._announce(f"disk budget: gone: {cut}")
            log.warning("disk budget: deleted", what=str(cut))
            memory = replace(memory, made=(*memory.made, (now, str(cut)))[-NOTED_MAX:])
            keep(self._settings.data_dir, memory, decision.outlook)
        return decision.outlook

    async def _months(self) -> list[Month]:
        found = json.loads(await self._asked(_MONTHS))["data"]
        return [Month(str(name), int(count)) for name, count in found]

    async def _make(self, cut: Cut) -> None:
        if cut.month is not None:
            await self._asked(f"ALTER TABLE events DROP PARTITION '{int(cut.month)}'")
        elif cut.raw_before is not None:
            await self._delete_raw(cut.raw_before)

    async def _delete_raw(self, before: float) -> None:
        """Invariant 1."""
        groups: dict[str, tuple[str, ...]] = {
            group: (RAW,) for group, topics in topics_by_group(self._kafka).items() if RAW in topics
        }
        read: dict[int, int] = {}
        for row in await admin.lag(self._kafka, groups):
            read[row.partition] = min(read.get(row.partition, row.end), row.committed or 0)
        places = {TopicPartition(RAW, number): round(before * 1000) for number in read}
        async with lone_consumer(self._kafka) as consumer:
            found = await consumer.offsets_for_times(places)
            ends = await consumer.end_offsets(list(places))
        wanted = {
            tp: RecordsToDelete(
                before_offset=min(read[tp.partition], at.offset if at is not None else ends[tp])
            )
            for tp, at in found.items()
        }
        async with admin_client(self._kafka) as client:
            with answering(self._kafka):
                await client.delete_records(
                    {tp: one for tp, one in wanted.items() if one.before_offset > 0}
                )

    async def _asked(self, sql: str) -> str:
        at = self._clickhouse
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.post(
                at.url, params={"database": at.database}, content=sql, auth=(at.user, at.password)
            )
        answer.raise_for_status()
        return answer.text
