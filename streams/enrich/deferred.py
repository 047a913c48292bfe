"""Reprocessing one partition: what its state keeps, and what it defers, until the run is over.

Invariants:
1. Pure. A run begins at an offset, with the state that the earlier rules had there. Every record
   from there on is folded again by the new rules, and written with its coordinates.
2. A run that live events wait for writes events as they are folded, and those from before the
   beginning that may still be corrected once more, since the earlier rules may have corrected them
   otherwise. A run beside live events defers events too: at its end those are written that the new
   rules judge otherwise (``streams.enrich.changes``).
3. Counts are deferred until the run reaches the offset that the earlier rules had reached, so that
   no figure dips meanwhile. Then they are published for every key that either rules changed since
   the beginning; a key that only the earlier rules had becomes zero.
4. Consumers that act on records get none twice. During the run no suppressions and no engagement
   are published: suppressions do not depend on the rules of opens and clicks. Published engagement
   that no longer holds is withdrawn at the end. Engagement that only the new rules find is not
   published, since it would be late. A later event may still withdraw it; consumers then find
   nothing to undo.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from schemas.versions import COUNTS_OFFSET_BITS
from streams.enrich.changes import CHANGED, CHANGED_END, NOTES, NOTES_END, Changes
from streams.enrich.epochs import Span
from streams.enrich.minute_counts import Key, Load, Scan, pack_key, unpack_key
from streams.enrich.telling import Told

HELD, HELD_END = b"h", b"i"
TOLD, TOLD_END = b"e", b"f"
KEPT = ((HELD, HELD_END), (TOLD, TOLD_END), (NOTES, NOTES_END), (CHANGED, CHANGED_END))
"""Ranges of keys that are removed when a run is over."""
_OFFSET = (1 << COUNTS_OFFSET_BITS) - 1
_SENTINEL = HELD
"""Stored until the counts are released, even if none is deferred."""


class Audible(Protocol):
    """The effects that others act upon; a part of ``streams.enrich.effects.Completed``."""

    suppressions: list[Told]
    engagement: list[tuple[str, dict[str, Any]]]
    dead_letters: list[dict[str, Any]]


class Deferred:
    """What a shard keeps besides its state until reprocessing of ``span`` is over.

    Attributes:
        span: what is reprocessed.
        changes: the events that are to be written at its end.
    """

    def __init__(self, span: Span, changes: Changes) -> None:
        self.span = span
        self.changes = changes
        self._told: dict[str, bool] = {}

    def is_over(self, applied: int) -> bool:
        """Whether the fold has reached the offset that the earlier rules had reached."""
        return applied + 1 >= self.span.until

    def goal(self, committed: int) -> int:
        """How far state is restored, when ``committed`` says how far it must be.

        At a switch the last record alone is not committed. It was folded by the earlier rules, so
        the enriched topic has it, and with it everything deferred can be released.
        """
        return self.span.until if committed == self.span.until - 1 else committed

    def is_past(self, offset: int) -> bool:
        """Whether a record is new: the earlier rules have not seen it."""
        return offset >= self.span.until

    def silence(self, effects: Audible) -> None:
        """Removes what was published already, and notes the engagement that the new rules find."""
        for _, record in effects.engagement:
            self._told[record["event_id"]] = not record["withdrawn"]
        effects.suppressions.clear()
        effects.engagement.clear()
        effects.dead_letters.clear()

    def seen(self, load: Load, ids: list[str]) -> list[bool | None]:
        """Whether each event is engagement by the new rules; ``None``: they have not judged it."""
        stored = load([TOLD + event_id.encode() for event_id in ids])
        return [
            self._told.get(event_id, None if value is None else value == b"\1")
            for event_id, value in zip(ids, stored, strict=True)
        ]

    def writes(self, applied: int, dirty: Iterable[Key]) -> Iterator[tuple[bytes, bytes | None]]:
        """What a checkpoint must store: deferred counts and events, and engagement found."""
        yield _SENTINEL, b""
        if applied >= self.span.begin:
            for key in dirty:
                yield HELD + pack_key(key), b""
        for event_id, told in self._told.items():
            yield TOLD + event_id.encode(), b"\1" if told else b"\0"
        yield from self.changes.writes()

    def saved(self) -> None:
        """What ``writes`` gave is stored."""
        self._told.clear()
        self.changes.saved()


def is_stored(scan: Scan) -> bool:
    """Whether reprocessing was under way when state was stored."""
    return next(scan(HELD, HELD_END), None) is not None


def held_keys(scan: Scan) -> Iterator[Key]:
    """The keys whose counts are deferred, as stored."""
    for key, _ in scan(HELD, HELD_END):
        if key != _SENTINEL:
            yield unpack_key(key[1:])


def is_stale(version: int, epoch: int, begin: int) -> bool:
    """Whether an earlier epoch wrote this version of a count as of an offset from ``begin`` on."""
    return version >> COUNTS_OFFSET_BITS < epoch and version & _OFFSET >= begin


class Withdrawals:
    """Engagement that earlier rules published and that does not hold by the new ones.

    Args:
        log_id, partition: where the engagement comes from.
        span: what was reprocessed.
        seen: as ``Deferred.seen``.
    """

    def __init__(
        self,
        log_id: str,
        partition: int,
        span: Span,
        seen: Callable[[list[str]], Sequence[bool | None]],
    ) -> None:
        self._place = (log_id, partition)
        self._span = span
        self._seen = seen
        self._wrong: dict[str, Mapping[str, Any]] = {}

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Takes engagement records in the order in which they were published."""
        mine = [
            record
            for record in records
            if (record["log_id"], record["partition"]) == self._place
            and record["offset"] < self._span.until
        ]
        seen = self._seen([record["event_id"] for record in mine])
        for record, holds in zip(mine, seen, strict=True):
            if record["withdrawn"]:
                self._wrong.pop(record["event_id"], None)
            elif holds is False or (holds is None and record["offset"] >= self._span.begin):
                self._wrong[record["event_id"]] = record

    def records(self) -> list[dict[str, Any]]:
        """The records to publish: each once more, as withdrawn."""
        return [
            {**record, "withdrawn": True, "offset": self._span.until - 1}
            for record in self._wrong.values()
        ]
