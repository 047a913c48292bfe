"""What a damaged part's rows can be made of again.

Invariants:
1. Pure.
2. Storing a record again changes no figure: rows are replaced by their key and version. So more is
   stored again than a part had, never less: all that Kafka holds of the table's topics.
3. Whether that is all of a part is told by the time from which Kafka has everything; what can't be
   told is not promised.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from analytics.damage import Part
from analytics.sink.rows import BUILDERS
from schemas.topics import BY_NAME, ENRICHED, HISTORY, MINUTES, RATES, RAW

_OF_EVENTS = (ENRICHED, HISTORY)
TOPICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "events": _OF_EVENTS,
        "campaign_minutes": (MINUTES,),
        "accepted": (RAW,),
        # filled by materialized views of events
        "stored": _OF_EVENTS, "stored_ids": _OF_EVENTS, "source_newest": _OF_EVENTS,
        "source_slots": _OF_EVENTS,
        **{table: (topic,) for topic, tables in BUILDERS.items() for table, _ in tables},
    }
)  # fmt: skip
"""Table -> topics that its rows are made of."""
_ONLY_NEWEST = {"campaign_rates_history": RATES}
"""Tables that have more of a compacted topic than it still holds."""


def topics_of(part: Part) -> tuple[str, ...]:
    """Topics that a part's rows are made of; none: only a backup has them."""
    return TOPICS.get(table_of(part), ())


def table_of(part: Part) -> str:
    """The table of a part, without its database."""
    return part.table.rpartition(".")[2]


def begins_at(part: Part) -> float | None:
    """When the time span of a part's partition begins, seconds since 1970; ``None``: not known."""
    digits = part.name.removeprefix("broken-on-start_").partition("_")[0]
    for form, size in (("%Y%m", 6), ("%Y%m%d", 8)):
        if len(digits) == size and digits.isdigit():
            try:
                return datetime.strptime(digits, form).replace(tzinfo=UTC).timestamp()
            except ValueError:
                return None
    return None


def is_whole(part: Part, complete_since: Mapping[str, float]) -> bool:
    """Whether Kafka still has everything that a part's rows are made of.

    Args:
        complete_since: topic -> seconds since 1970 from which on it has everything; 0: always.
    """
    needed = topics_of(part)
    if not needed or table_of(part) in _ONLY_NEWEST:
        return False
    begin = begins_at(part)
    return all(
        BY_NAME[topic].compacted
        or complete_since[topic] == 0
        or (begin is not None and complete_since[topic] <= begin)
        for topic in needed
    )


def removal(part: Part) -> str:
    """The statement after which a part no longer fails queries; empty: it does not any more."""
    name = part.name.replace("'", "")
    return "" if part.aside else f"ALTER TABLE `{table_of(part)}` DETACH PART '{name}'"


def disposal(part: Part) -> str:
    """The statement that deletes a detached part."""
    name = part.name.replace("'", "")
    return (
        f"ALTER TABLE `{table_of(part)}` DROP DETACHED PART '{name}'"
        " SETTINGS allow_drop_detached = 1"
    )  # fmt: skip


def tables_of(parts: Sequence[Part]) -> list[str]:
    """The tables of some parts, each once."""
    return list(dict.fromkeys(map(table_of, parts)))
