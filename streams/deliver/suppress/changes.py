"""What a record of the suppression topics changes on the lists of one provider account.

Invariants:
1. Pure. A record puts its address on the lists for its reason, at every place that its scope stands
   for; a lifted suppression takes it off all lists that any reason could have put it on.
2. What is not written has a name (``LeftOut``), so that it can be counted: nothing is dropped
   without a word.
3. What the account's own source reported is left out: its provider has it already. But where
   everything may be taken off it is written: what was lifted before may be taken off late, and with
   it what the provider put there since.
4. An address that would lead a path elsewhere once a server has decoded it (``a/../b@c.example``)
   is left out.
5. A place that several scopes stand for is never taken off: whether the others still hold can't be
   told from one record.
6. ``soft_bounces`` are never written: they end by themselves, without a record that says so.
7. Of several changes of one entry the last holds (``settled``).
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from schemas.address_search import is_address

REASONS = ("hard_bounce", "complaint", "unsubscribe", "manual")
"""What can be written (invariant 6)."""


_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:$|[/\\;])")
"""Of a path (RFC 3986, 5.2.4), also where a server takes a backslash for a slash, or cuts off what
follows a semicolon."""


class LeftOut(StrEnum):
    """Why something of a record is not written."""

    OWN = "own"
    REASON = "reason"
    NOT_HELD = "not_held"
    NOT_MAPPED = "not_mapped"
    NO_ADDRESS = "no_address"
    NOT_LIFTED = "not_lifted"


@dataclass(frozen=True, slots=True)
class Target:
    """A list of an account.

    Attributes:
        list: the provider's name of it.
        place: ``KIND:ID`` in the provider's words, such as ``group:12``; empty: the whole account.
    """

    list: str
    place: str = ""

    @property
    def place_id(self) -> str:
        """The ID of the place; empty for the whole account."""
        return self.place.partition(":")[2]

    def __str__(self) -> str:
        """For people."""
        return f"{self.list} of {self.place}" if self.place else self.list


@dataclass(frozen=True, slots=True)
class Change:
    """An address that goes on a list, or comes off it.

    Attributes:
        since_us: time of the event that caused it, microseconds since 1970; 0 when it comes off.
        reason: as in the record; empty when it comes off.
        event_id: of the event that caused it; may be empty.
    """

    address: str
    target: Target
    on: bool
    since_us: int = 0
    reason: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What one record comes to: changes, or why there are none and what that is about."""

    changes: tuple[Change, ...] = ()
    left_out: LeftOut | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A record of the topics, or of the tables that hold the same.

    Attributes:
        scope: empty: all mail to the address.
        reason: empty: the suppression is lifted.
    """

    recipient: str
    source: str = ""
    scope: str = ""
    reason: str = ""
    since_us: int = 0
    event_id: str = ""


class Rules:
    """What one destination writes.

    Args:
        lists: reason -> the provider's lists for it; what it can't hold is not there.
        places: those that a suppression of the whole address stands for.
        scopes: source and scope -> place.
        reasons: those to write.
        own: source that reports of this very account; empty: none.
        lifts: whether anything is ever taken off.
        lifts_own: also what the provider put there (invariant 3).
    """

    def __init__(
        self,
        lists: Mapping[str, tuple[str, ...]],
        places: Iterable[str],
        scopes: Mapping[tuple[str, str], str],
        reasons: Iterable[str],
        own: str,
        *,
        lifts: bool,
        lifts_own: bool = False,
    ) -> None:
        self._lists = {reason: lists[reason] for reason in reasons if reason in lists}
        self._reasons = frozenset(reasons)
        self._places = tuple(places)
        self._scopes = dict(scopes)
        self._own = own
        self._lifts = lifts
        self._lifts_own = lifts_own
        all_places = [*self._places, *self._scopes.values()]
        uses = Counter(place.lower() for place in all_places)  # domains, at least, have no case
        self.shared = frozenset(place for place in all_places if uses[place.lower()] > 1)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every list that it may write to."""
        places = dict.fromkeys((*self._places, *self._scopes.values()))
        return tuple(Target(one, place) for place in places for one in self._used)

    @property
    def _used(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self._lists.values() for name in names))

    def places_of(self, record: Suppressed) -> tuple[str, ...]:
        """The places that a record concerns, written or not.

        A scope that the account's own source reported is a place in the provider's words.
        """
        if not record.scope:
            return self._places
        if record.source == self._own:
            return (record.scope,)
        mapped = self._scopes.get((record.source, record.scope))
        return () if mapped is None else (mapped,)

    def of(self, record: Suppressed) -> Told:
        """What a record comes to."""
        if not is_address(record.recipient) or leads_elsewhere(record.recipient):
            return Told((), LeftOut.NO_ADDRESS)  # a keyed hash, or what no provider would take
        if record.source and record.source == self._own and (record.scope or record.reason):
            return self._of_own(record)
        places = self._places
        if record.scope:
            mapped = self._scopes.get((record.source, record.scope))
            if mapped is None:
                return Told((), LeftOut.NOT_MAPPED, f"{record.scope} of {record.source}")
            places = (mapped,)
        return self._set(record, places) if record.reason else self._lifted(record, places)

    def _of_own(self, record: Suppressed) -> Told:
        """What the account's own source reported: written only where it may be gone since."""
        written = {*self._places, *self._scopes.values()} - self.shared
        places = tuple(place for place in self.places_of(record) if place in written)
        restored = Told()
        if self._lifts and self._lifts_own and record.reason and places:
            restored = self._set(record, places)
        return restored if restored.changes else Told((), LeftOut.OWN)

    def _set(self, record: Suppressed, places: tuple[str, ...]) -> Told:
        if record.reason not in self._reasons:
            return Told((), LeftOut.REASON, record.reason)
        names = self._lists.get(record.reason)
        if not names:
            return Told((), LeftOut.NOT_HELD, record.reason)
        return Told(
            tuple(
                Change(record.recipient, Target(name, place), True, record.since_us,
                       record.reason, record.event_id)
                for place in places
                for name in names
            )
        )  # fmt: skip

    def _lifted(self, record: Suppressed, places: tuple[str, ...]) -> Told:
        own = [place for place in places if place not in self.shared]
        if not self._lifts or not own:
            return Told((), LeftOut.NOT_LIFTED, ", ".join(filter(None, places)))
        return Told(
            tuple(
                Change(record.recipient, Target(name, place), False)
                for place in own
                for name in self._used
            )
        )


def leads_elsewhere(address: str) -> bool:
    """Whether an address has a dot segment, however often it is percent-encoded."""
    while _DOT_SEGMENT.search(address) is None:
        decoded = unquote(address)
        if decoded == address:
            return False
        address = decoded
    return True


def suppressed_of(document: Mapping[str, Any], since_us: int) -> Suppressed:
    """The record of a body of ``streams.deliver.bodies``, of a suppression set or lifted."""
    data = document["data"]
    return Suppressed(
        data["recipient"], data.get("source") or "", data.get("scope") or "",
        data.get("reason") or "", since_us, data.get("evidence_event_id") or "",
    )  # fmt: skip


def settled(changes: Iterable[Change], entry: Callable[[Target], Hashable]) -> list[Change]:
    """The last change of each entry, in order.

    Args:
        entry: what a list's entries are kept by, beside the address: equal for lists that share
            one entry.
    """
    last: dict[Hashable, Change] = {}
    for change in changes:
        key = (change.address, entry(change.target))
        last.pop(key, None)
        last[key] = change
    return list(last.values())
