"""Reports what a pipeline that was stopped has not stored yet.

Invariant: what is unknown is reported as unknown, never as nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.kafka.admin import Lag


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
