"""Waits for what a stage still has to read, and reports what one that was stopped has not stored.

Invariant: what is unknown is reported as unknown, never as nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import MailpulseError
from schemas.settings import Settings
from streams.kafka import admin
from streams.kafka.admin import Lag

PAUSE_S = 0.3
"""Between two looks at a group's offsets."""


@dataclass(frozen=True, slots=True)
class Unread:
    """What one stage had not read when it was stopped.

    Attributes:
        role: the stage.
        records: topic -> number of records; ``None``: the broker did not answer.
    """

    role: str
    records: Mapping[str, int] | None

    def __str__(self) -> str:
        if self.records is None:
            return f"an unknown number of records for the {self.role} (the broker does not answer)"
        each = ", ".join(f"{count:,} of {topic}" for topic, count in self.records.items())
        return f"{sum(self.records.values()):,} records for the {self.role} ({each})"


def by_topic(rows: Iterable[Lag]) -> dict[str, int]:
    """Topic -> lag in records, without zeros."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.lag:
            counts[row.topic] = counts.get(row.topic, 0) + row.lag
    return counts


def farewell(unread: Iterable[Unread], kept: Path) -> str:
    """One line for the operator; empty if everything was read.

    Args:
        kept: Kafka's directory.
    """
    parts = [str(one) for one in unread]
    if not parts:
        return ""
    said = "; ".join(parts)
    return f"Not yet in ClickHouse: {said}. They are kept in {kept}; the next start stores them"


async def left_to_read(
    kafka: Settings, group: str, topics: tuple[str, ...], timeout_s: float
) -> list[Lag] | None:
    """Waits until ``group`` has read everything, for ``timeout_s`` seconds at most.

    Returns:
        The partitions that it has not read to the end; ``None`` if the broker never answered.
    """
    left: list[Lag] | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while left != []:
                with suppress(MailpulseError):
                    rows = await admin.lag(kafka, {group: topics})
                    left = [row for row in rows if row.lag]
                await asyncio.sleep(0 if left == [] else PAUSE_S)
    return left
