"""Decides which open connection is closed when there are too many.

Invariants:
1. Pure, and every step takes constant time.
2. A connection *waits* while the next move is its client's: idle, or with a request or an answer
   half-way through. A new connection over a limit displaces the one that has waited longest among
   those that never carried a proven request, else among the others.
3. A connection whose complete request is worked on is never displaced. If no connection waits, the
   new one is refused.
4. A client over its own limit displaces its own connections only.
"""

from collections import Counter
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Full(Exception):
    """A limit is reached, and no connection waits."""


Waiting = dict[Member, None]
"""Waiting connections, longest first: a dictionary keeps the order of insertion."""


class _Line(Generic[Member]):
    """The order in which waiting connections, of one client or of all, are displaced."""

    def __init__(self) -> None:
        self.strangers: Waiting[Member] = {}
        self.known: Waiting[Member] = {}

    def first(self) -> Member | None:
        """See invariant 2."""
        for those in (self.strangers, self.known):
            for member in those:
                return member
        return None


class _Place(Generic[Member]):
    """The state of one connection."""

    __slots__ = ("client", "lines", "queues", "waiting")

    def __init__(self, client: str, lines: "tuple[_Line[Member], ...]") -> None:
        self.client = client
        self.lines = lines
        self.queues = tuple([line.strangers for line in lines])
        """Where it is entered when it waits."""
        self.waiting: tuple[Waiting[Member], ...] = ()
        """Where it is entered now."""


class Crowd(Generic[Member]):
    """Open connections.

    Args:
        members_max: connections.
        per_client_max: connections of one client.
    """

    def __init__(self, members_max: int, per_client_max: int) -> None:
        self._members_max = members_max
        self._per_client_max = per_client_max
        self._line: _Line[Member] = _Line()
        self._places: dict[Member, _Place[Member]] = {}
        self._clients: dict[str, _Line[Member]] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, member: Member, client: str) -> Member | None:
        """Admits a connection; it waits from now on.

        Args:
            client: its client; empty for one without a limit of its own (a trusted proxy).

        Returns:
            The connection that was displaced, which the caller has to close.

        Raises:
            Full: it was not admitted.
        """
        line = None
        if self._counts[client] >= self._per_client_max and client:
            line = self._clients[client]
        elif len(self._places) >= self._members_max:
            line = self._line
        displaced = None
        if line is not None:
            displaced = line.first()
            if displaced is None:
                raise Full
            self.leave(displaced)
        lines: tuple[_Line[Member], ...] = (self._line,)
        if client:
            self._counts[client] += 1
            lines = (self._line, self._clients.setdefault(client, _Line()))
        self._places[member] = _Place(client, lines)
        self.waits(member)
        return displaced

    def waits(self, member: Member) -> None:
        """From now on the next move is its client's."""
        place = self._places.get(member)
        if place is None:  # it was displaced
            return
        for those in place.waiting:
            del those[member]
        place.waiting = place.queues
        for those in place.waiting:
            those[member] = None

    def works(self, member: Member) -> None:
        """It has a complete request that is not answered."""
        place = self._places.get(member)
        if place is not None:
            for those in place.waiting:
                del those[member]
            place.waiting = ()

    def knows(self, member: Member) -> None:
        """It carried a proven request; this has an effect once it waits again."""
        place = self._places.get(member)
        if place is not None:
            place.queues = tuple([line.known for line in place.lines])

    def leave(self, member: Member) -> None:
        """It is closed. Idempotent."""
        self.works(member)
        place = self._places.pop(member, None)
        if place is not None and place.client:
            self._counts[place.client] -= 1
            if not self._counts[place.client]:
                del self._counts[place.client], self._clients[place.client]
