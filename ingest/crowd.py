"""Which connections stay when there are too many: the ones we work for, then the known, the newest.

Invariants:
1. Pure, and every step takes constant time.
2. A connection *waits* while the next move is its client's: idle, or with a request or an answer
   half-way through. A newcomer over a limit takes the place of one that waits, the longest of those
   that never carried a proven request, else the longest of the others.
3. A connection whose complete request is worked on is never displaced. Where all are, the newcomer
   is turned away.
4. A client over its own limit displaces its own connections only.
"""

from collections import Counter
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Full(Exception):
    """There is no room, and nobody who waits."""


Waiting = dict[Member, None]
"""Those who wait, by how long: a dictionary keeps the order in which they came."""


class _Line(Generic[Member]):
    """Who is displaced next, of a client's or of all."""

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
    """A member's."""

    __slots__ = ("client", "lines", "queues", "waiting")

    def __init__(self, client: str, lines: "tuple[_Line[Member], ...]") -> None:
        self.client = client
        self.lines = lines
        self.queues = tuple([line.strangers for line in lines])
        """Where it is put when it waits."""
        self.waiting: tuple[Waiting[Member], ...] = ()
        """Where it is."""


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
        """Lets a connection in; it waits from now on.

        Args:
            client: whose it is; empty for one that no limit of its own holds (a trusted proxy).

        Returns:
            Who has left for it, and is to be closed.

        Raises:
            Full: it was not let in.
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
        """The next move is its client's, from now on."""
        place = self._places.get(member)
        if place is None:  # it was displaced
            return
        for those in place.waiting:
            del those[member]
        place.waiting = place.queues
        for those in place.waiting:
            those[member] = None

    def works(self, member: Member) -> None:
        """We are working for it: it has a complete request that is not answered."""
        place = self._places.get(member)
        if place is not None:
            for those in place.waiting:
                del those[member]
            place.waiting = ()

    def knows(self, member: Member) -> None:
        """It carried a proven request; this counts once it waits again."""
        place = self._places.get(member)
        if place is not None:
            place.queues = tuple([line.known for line in place.lines])

    def leave(self, member: Member) -> None:
        """It is closed. Once more does no harm."""
        self.works(member)
        place = self._places.pop(member, None)
        if place is not None and place.client:
            self._counts[place.client] -= 1
            if not self._counts[place.client]:
                del self._counts[place.client], self._clients[place.client]
