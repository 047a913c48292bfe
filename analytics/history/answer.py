"""Makes a history of the rows of the queries.

Invariants:
1. Pure: the time and the function that queries are arguments.
2. Messages are in order of their newest event, newest first; events of a message in the order in
   which they happened.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analytics.history.questions import (
    EVENTS,
    KEPT,
    SUPPRESSIONS,
    SUPPRESSIONS_SHOWN_MAX,
    Asked,
    Way,
)

Row = Mapping[str, Any]
Query = Callable[[str, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]
DAY_S = 86_400
AHEAD_S = 2 * DAY_S
"""Events may be dated a day ahead."""


@dataclass(slots=True)
class Message:
    """One message and its events, in the order in which they happened."""

    key: str
    events: list[Row] = field(default_factory=list)

    def first(self, name: str) -> str:
        """The first value of a column that is not empty."""
        return next((str(row[name]) for row in self.events if row[name]), "")


@dataclass(frozen=True, slots=True)
class History:
    """The answer.

    Attributes:
        asked: what was asked for.
        way: the one that found something; none if nothing was found.
        messages: newest first.
        since_s, until_s: the range of time that was searched, seconds since 1970.
        more: whether there are older events than those that are given.
        suppressions: scope, reason, source, since and until of each that holds for the recipient:
            that of all mail first, then those of lists and groups, at most one more than
            ``SUPPRESSIONS_SHOWN_MAX``.
        stored: how recipients are stored, if an address was not found and that is in another way
            than the settings say; else empty.
    """

    asked: Asked
    way: Way | None
    messages: list[Message]
    since_s: int
    until_s: int
    more: bool
    suppressions: Sequence[Row]
    stored: str = ""

    @property
    def events(self) -> int:
        """How many events are given."""
        return sum(len(message.events) for message in self.messages)


async def history(asked: Asked, query: Query, now_s: float, days: int, rows: int) -> History:
    """Looks for what was asked, in the last ``days``.

    Args:
        rows: most events in the answer.

    Raises:
        Unavailable: the database does not answer.
        BadInput: it refuses the query.
    """
    until_s = int(now_s) + AHEAD_S
    since_s = max(0, int(now_s) - days * DAY_S)
    found: list[dict[str, Any]] = []
    used: Way | None = None
    for way in asked.ways:
        given = {"value": way.value, "since": since_s, "until": until_s, "rows": rows + 1}
        found = await query(EVENTS[way.kind], given)
        if found:
            used = way
            break
    suppressions: list[dict[str, Any]] = []
    for way in asked.ways:
        if way.kind == "address":
            given = {"value": way.value, "rows": SUPPRESSIONS_SHOWN_MAX + 1}
            suppressions = await query(SUPPRESSIONS, given)
    messages = _messages(found[:rows])
    stored = ""
    if not found and asked.is_address:
        kept = await query(KEPT, {"since": since_s, "until": until_s})
        stored = _other_than(asked.mode, kept[0]) if kept else ""
    more = len(found) > rows
    return History(asked, used, messages, since_s, int(now_s), more, suppressions, stored)


def _other_than(mode: str, kept: Row) -> str:
    """How recipients are stored, if all are stored otherwise than the settings say."""
    if kept["hashed"] and not kept["plain"] and mode != "hashed":
        return "hashed"
    return "plain" if kept["plain"] and not kept["hashed"] and mode != "plain" else ""


def _messages(rows: list[dict[str, Any]]) -> list[Message]:
    """Messages of rows that are newest first."""
    by_key: dict[str, Message] = {}
    for row in rows:
        by_key.setdefault(row["message_key"], Message(row["message_key"])).events.append(row)
    for message in by_key.values():
        message.events.reverse()
    return list(by_key.values())
