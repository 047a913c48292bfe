"""Counts and reports the records that a stopped pipeline has left unread.

Invariants:
1. An unknown number is reported as unknown, never as zero.
2. Records are counted by reading them: the end offset that the embedded broker reports counts the
   last batch of a partition as one record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.settings import Settings
from streams.kafka.admin import Lag
from streams.kafka.stretches import stretches_of

_TO_THE_END = 1 << 62
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Unread:
    """What one stage had not read when it was stopped.

    Attributes:
        role: the stage.
        records: topic -> number of records, without zeros; ``None``: the broker did not answer.
        is_counted: whether the numbers are exact; otherwise they are lower bounds.
    """

    role: str
    records: Mapping[str, int] | None
    is_counted: bool = True

    def __str__(self) -> str:
        if self.records is None:
            return f"how much the {self.role} had left to read is unknown: the broker is silent"
        each = ", ".join(f"{count:,} of {topic}" for topic, count in self.records.items())
        least = "" if self.is_counted else "at least "
        count = f"{least}{sum(self.records.values()):,} records"
        return f"the {self.role} had {count} left to read: {each}"


def by_topic(rows: Iterable[Lag]) -> dict[str, int]:
    """Topic -> lag in records, without zeros."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.lag:
            counts[row.topic] = counts.get(row.topic, 0) + row.lag
    return counts


async def counted(settings: Settings, rows: Iterable[Lag]) -> dict[str, int]:
    """As ``by_topic``, but exact, by reading what is left (invariant 2).

    Raises:
        aiokafka.errors.KafkaError: the broker does not answer.
    """
    counts: dict[str, int] = {}
    for row in rows:
        if not row.lag:
            continue
        async with stretches_of(settings, row.topic, row.partition) as log:
            begin = max(log.begin, row.committed or 0)
            async for records, _ in log.read(begin, _TO_THE_END, _AT_ONCE):
                counts[row.topic] = counts.get(row.topic, 0) + len(records)
    return counts


def farewell(unread: Iterable[Unread]) -> str:
    """One line for the operator; empty if everything was read."""
    parts = [str(one) for one in unread]
    if not parts:
        return ""
    return (
        f"NOT STORED: {'; '.join(parts)}. The embedded broker keeps records in memory only: what"
        " was not read is lost"
    )
