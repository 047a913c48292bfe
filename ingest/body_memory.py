"""The memory budget of large bodies: shares of clients, and which body is dropped for another.

Invariants:
1. Pure, and nothing waits: memory is reserved at once, or refused.
2. One client gets at most half of the memory. So do all unproven clients together (those that never
   proved a request), so that they can't use up the memory of proven ones.
3. When the half of unproven clients is full, a new body replaces bodies that are still arriving:
   those of the unproven client that holds most, oldest first, as long as that client holds more
   than the new one would. So a few clients that send large bodies slowly can't block the others.
4. A body that has arrived completely is never dropped.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable

from ingest.rate_limits import CLIENTS_MAX


class NoRoom(Exception):
    """The budget has no memory for a body right now."""


class Holding:
    """The memory that one request has reserved.

    Args:
        client: see ``origin.client_key``.

    Attributes:
        size: bytes.
        give_up: ends the request when its memory goes to another; ``None``: it can't be dropped.
        given_up: whether it was dropped.
    """

    __slots__ = ("client", "give_up", "given_up", "size")

    def __init__(self, client: str) -> None:
        self.client = client
        self.give_up: Callable[[], None] | None = None
        self.given_up = False
        self.size = 0


class Bodies:
    """The memory budget of all requests.

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
        """Client -> its bodies that may be dropped, oldest first."""

    def knows(self, client: str) -> None:
        """Notes that the client proved a request; the last ``CLIENTS_MAX`` of them are known."""
        if client in self._known:
            return
        self._of_strangers -= self._clients.get(client, 0)
        self._known[client] = None
        if len(self._known) > CLIENTS_MAX:
            forgotten, _ = self._known.popitem(last=False)
            self._of_strangers += self._clients.get(forgotten, 0)

    def take(self, amount: int, holding: Holding) -> bool:
        """Reserves ``amount`` more bytes for a request, and returns whether that was possible.

        The only request in progress always gets its memory (other limits bound its size).
        """
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
        """The body is complete, or no longer read (invariant 4)."""
        holding.give_up = None
        arriving = self._arriving.get(holding.client, {})
        if holding in arriving:
            del arriving[holding]
            if not arriving:
                del self._arriving[holding.client]

    def give_back(self, holding: Holding) -> None:
        """Releases a request's memory; idempotent."""
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
        """Whether an unproven client that would hold ``own`` bytes gets memory (invariant 3)."""
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
