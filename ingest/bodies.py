"""Memory for large bodies: how much of it a client may have, and who gives way when it is full.

Invariants:
1. Pure, and nothing waits: there is room at once, or none.
2. While others may want some, one client has at most half of the memory, and so have all strangers
   together: those who never proved a request. So neither one nor many take all from who did.
3. When the strangers' half is full, a stranger's body takes the place of others that are still
   arriving, of the stranger who holds most, the oldest first; as long as that one holds more than
   the newcomer then would. So a few clients that send large bodies slowly keep nobody out.
4. A body that has arrived is never given up.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable

from ingest.limits import CLIENTS_MAX


class NoRoom(Exception):
    """There is no memory for a body right now."""


class Holding:
    """What one request holds.

    Args:
        client: see ``origin.client_key``.

    Attributes:
        size: bytes.
        give_up: ends the request once its memory is another's; ``None``: it does not give way.
        given_up: whether it was.
    """

    __slots__ = ("client", "give_up", "given_up", "size")

    def __init__(self, client: str) -> None:
        self.client = client
        self.give_up: Callable[[], None] | None = None
        self.given_up = False
        self.size = 0


class Bodies:
    """The memory that all requests share.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._clients: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._of_strangers = 0
        self._arriving: dict[str, dict[Holding, None]] = {}
        """Client -> its bodies that may be given up, the oldest first."""

    def knows(self, client: str) -> None:
        """Notes that the client proved a request; forgotten once ``CLIENTS_MAX`` others have."""
        if client in self._known:
            return
        self._of_strangers -= self._clients.get(client, 0)
        self._known[client] = None
        if len(self._known) > CLIENTS_MAX:
            forgotten, _ = self._known.popitem(last=False)
            self._of_strangers += self._clients.get(forgotten, 0)

    def take(self, amount: int, holding: Holding) -> bool:
        """Takes ``amount`` more for a request if it can be had. A request of its own always gets
        through when nothing else is under way, however large (other limits hold it)."""
        client = holding.client
        strange = client not in self._known
        own = self._clients.get(client, 0) + amount
        if self.used:
            if not strange and (own > self.most // 2 or self.used + amount > self.most):
                return False
            if strange and not self._make_room(amount, client, own):
                return False
        if strange:
            self._of_strangers += amount
        self.used += amount
        self._clients[client] += amount
        holding.size += amount
        if holding.give_up is not None:
            self._arriving.setdefault(client, {})[holding] = None
        return True

    def arrived(self, holding: Holding) -> None:
        """The body is whole, or nothing more of it is read: see invariant 4."""
        holding.give_up = None
        arriving = self._arriving.get(holding.client, {})
        if holding in arriving:
            del arriving[holding]
            if not arriving:
                del self._arriving[holding.client]

    def give_back(self, holding: Holding) -> None:
        """Returns what a request holds. Once more does no harm."""
        self.arrived(holding)
        client, amount = holding.client, holding.size
        holding.size = 0
        if client not in self._known:
            self._of_strangers -= amount
        self.used -= amount
        self._clients[client] -= amount
        if not self._clients[client]:
            del self._clients[client]

    def _make_room(self, amount: int, client: str, own: int) -> bool:
        """Whether strangers have room for one that would hold ``own`` bytes (invariant 3)."""
        missing = max(self._of_strangers - self.most // 2, self.used - self.most) + amount
        if missing <= 0:
            return True
        held = {
            one: self._clients[one]
            for one in self._arriving
            if one != client and one not in self._known
        }
        left = {one: iter(self._arriving[one]) for one in held}
        chosen: list[Holding] = []
        while missing > 0:
            most = max(held, key=held.__getitem__, default=None)
            if most is None or held[most] <= own:
                return False
            holding = next(left[most], None)
            if holding is None:
                del held[most]
                continue
            chosen.append(holding)
            held[most] -= holding.size
            missing -= holding.size
        for holding in chosen:
            give_up = holding.give_up
            self.give_back(holding)
            holding.given_up = True
            if give_up is not None:
                give_up()
        return True
