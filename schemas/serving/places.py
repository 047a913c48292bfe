"""Limits of a listener, and the decisions which connections and requests stay within them.

Invariants:
1. Pure: the time is an argument, decisions are return values.
2. A new connection is always admitted. If the limit is reached, another one is closed: of the
   client with most waiting connections, the one that has kept us waiting longest (idle, with
   headers or a body half sent, or not reading its answer).
3. A request that we work on is never ended for a new one. At most ``requests_max`` are open at
   once: one more displaces one whose body or reader keeps us waiting, or is answered 503. So
   invariant 2 always finds a connection.
4. Every wait for the other side ends: for headers, for a body, for it to read an answer.
5. Where a listener can tell by the headers that a request's sender may make it (``prove``),
   unproven connections are closed first. An unproven request never ends a proven one, and an
   unproven connection never a proven one while there is another; a proven body that keeps arriving
   at ``body_bytes_per_s_min`` is never ended; and ``requests_proven`` requests are reserved for
   proven ones.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

DESCRIPTORS_RESERVED = 256
"""File descriptors reserved for the rest of the process, and for connections that are accepted but
not counted yet."""
CONNECTIONS_MIN = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a listener.

    Attributes:
        connections_max: connections at once, of all clients.
        requests_max: requests at once, from the end of the headers to the answer; less than
            ``connections_max``.
        header_timeout_s: from connecting, or a request's first byte, to the end of its headers.
        header_bytes_max: request line and headers together.
        idle_timeout_s: between an answer and the next request.
        body_timeout_s: from the end of the headers to the end of the body.
        body_bytes_max: of a request, as sent.
        body_bytes_per_s_min: slowest body that is not displaced by others (invariant 5).
        body_grace_s: how long it may lag behind that rate.
        requests_proven: of ``requests_max``, those reserved for proven requests.
        write_timeout_s: how long an answer may stay unread; extended by what is read, at
            ``write_bytes_per_s_min``.
        write_bytes_per_s_min: slowest reader.
        requests_ahead_max: requests sent ahead of the answer to the one before.
    """

    connections_max: int = 64
    requests_max: int = 48
    header_timeout_s: float = 5.0
    header_bytes_max: int = 32_768
    idle_timeout_s: float = 65.0
    body_timeout_s: float = 10.0
    body_bytes_max: int = 65_536
    body_bytes_per_s_min: int = 32_768
    body_grace_s: float = 5.0
    requests_proven: int = 0
    write_timeout_s: float = 10.0
    write_bytes_per_s_min: int = 32_768
    requests_ahead_max: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.requests_max < self.connections_max:
            raise ValueError("requests_max is at least 1 and less than connections_max")
        if not 0 <= self.requests_proven < self.requests_max:
            raise ValueError("requests_proven is less than requests_max")

    def within(self, descriptors_max: int | None) -> "Limits":
        """These limits, lowered to a process's limit of file descriptors; ``None``: no limit."""
        if descriptors_max is None:
            return self
        room = max(CONNECTIONS_MIN, descriptors_max - DESCRIPTORS_RESERVED)
        if room >= self.connections_max:
            return self
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        requests = max(1, min(self.requests_max, room * 3 // 4))
        return Limits(
            **{
                **values,
                "connections_max": room,
                "requests_max": requests,
                "requests_proven": min(self.requests_proven, requests // 2),
            }
        )


class Turn(Enum):
    """What a connection waits for: something from the other side, or our answer."""

    IDLE = "idle"
    HEAD = "headers"
    BODY = "body"
    OURS = "ours"


class Cut(Enum):
    """Why a connection is ended."""

    HEADER_TIMEOUT = "header_timeout"
    BODY_TIMEOUT = "body_timeout"
    WRITE_TIMEOUT = "write_timeout"
    MADE_ROOM = "made_room"


@dataclass(slots=True)
class _Place:
    client: str
    since_s: float
    turn: Turn = Turn.HEAD
    proven: bool = False
    body: int = 0
    unsent: int = 0
    unsent_since_s: float | None = None
    drained: int = 0

    @property
    def open(self) -> bool:
        """Whether there is a request on it that is not answered."""
        return self.turn in (Turn.BODY, Turn.OURS)

    @property
    def waited_since_s(self) -> float | None:
        """Time since which the other side keeps us waiting; ``None`` while it does not."""
        if self.unsent_since_s is not None:
            return self.unsent_since_s
        return None if self.turn is Turn.OURS else self.since_s


K = TypeVar("K", bound=Hashable)


class Places(Generic[K]):
    """The connections of a listener.

    Args:
        limits: of the listener.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._places: dict[K, _Place] = {}
        self._open = {False: 0, True: 0}  # requests, by whether they are proven

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._places))

    def arrive(self, key: K, client: str, now_s: float) -> K | None:
        """Admits a connection. Returns the one that the caller has to close for it (invariant 2).

        That is ``key`` itself if no connection keeps us waiting.
        """
        leaves = None
        if len(self) >= self.limits.connections_max:
            leaves = self._leaver(now_s, lambda place: True)
            if leaves is None:
                return key
            self.leave(leaves)
        self._places[key] = _Place(client, now_s)
        return leaves

    def prove(self, key: K, proven: bool) -> None:
        """Notes whether the headers of a connection's next request prove it."""
        place = self._places.get(key)
        if place is not None:
            self._open[place.proven] -= place.open
            place.proven = proven
            self._open[proven] += place.open

    def admit(self, key: K, now_s: float) -> tuple[bool, K | None]:
        """Whether to admit one more request (invariant 3), and the connection to close for it."""
        proven = key in self._places and self._places[key].proven
        room = self.limits.requests_max - sum(self._open.values())
        if not proven:
            unproven_max = self.limits.requests_max - self.limits.requests_proven
            room = min(room, unproven_max - self._open[False])
        if room > 0:
            return True, None
        leaves = self._leaver(now_s, lambda place: place.open and (proven or not place.proven))
        if leaves is None:
            return False, None
        self.leave(leaves)
        return True, leaves

    def _leaver(self, now_s: float, among: Callable[[_Place], bool]) -> K | None:
        """The connection to close for another; unproven ones come first (invariant 5)."""
        candidates = [(key, place) for key, place in self._places.items() if among(place)]
        unproven = [(key, place) for key, place in candidates if not place.proven]
        stalled = [
            (key, place)
            for key, place in candidates
            if place.proven and not self._keeps_coming(place, now_s)
        ]
        leaves = _longest_waited_for(unproven)
        return _longest_waited_for(stalled) if leaves is None else leaves

    def _keeps_coming(self, place: _Place, now_s: float) -> bool:
        limits = self.limits
        allowed_s = limits.body_grace_s + place.body / limits.body_bytes_per_s_min
        return place.turn is Turn.BODY and now_s - place.since_s <= allowed_s

    def leave(self, key: K) -> None:
        """Notes that a connection has ended; an unknown one is ignored."""
        place = self._places.pop(key, None)
        if place is not None:
            self._open[place.proven] -= place.open

    def turn(self, key: K, turn: Turn, now_s: float) -> None:
        """Notes whose turn it is on a connection from now on."""
        place = self._places.get(key)
        if place is None:
            return
        self._open[place.proven] -= place.open
        place.turn, place.since_s, place.body = turn, now_s, 0
        self._open[place.proven] += place.open

    def received(self, key: K, size: int) -> None:
        """Notes bytes of the body that a connection is sending."""
        place = self._places.get(key)
        if place is not None:
            place.body += size

    def unsent(self, key: K, size: int, now_s: float) -> None:
        """Notes bytes of answers that the other side has not read; called regularly."""
        place = self._places.get(key)
        if place is None:
            return
        if not size:
            place.unsent, place.unsent_since_s, place.drained = 0, None, 0
            return
        if place.unsent_since_s is None:
            place.unsent_since_s = now_s
        else:
            place.drained += max(0, place.unsent - size)
        place.unsent = size

    def overdue(self, now_s: float) -> list[tuple[K, Cut]]:
        """Connections that kept us waiting too long (invariant 4), with the reason."""
        found = []
        for key, place in self._places.items():
            reason = self._overdue(place, now_s)
            if reason is not None:
                found.append((key, reason))
        return found

    def _overdue(self, place: _Place, now_s: float) -> Cut | None:
        limits = self.limits
        if place.unsent_since_s is not None:
            allowed = limits.write_timeout_s + place.drained / limits.write_bytes_per_s_min
            if now_s - place.unsent_since_s > allowed:
                return Cut.WRITE_TIMEOUT
        waited = now_s - place.since_s
        if place.turn is Turn.HEAD and waited > limits.header_timeout_s:
            return Cut.HEADER_TIMEOUT
        if place.turn is Turn.BODY and waited > limits.body_timeout_s:
            return Cut.BODY_TIMEOUT
        return None


def _longest_waited_for(places: Iterable[tuple[K, _Place]]) -> K | None:
    """The connection waiting longest of the client with most waiting connections."""
    waiting = [
        (since_s, key, place.client)
        for key, place in places
        if (since_s := place.waited_since_s) is not None
    ]
    if not waiting:
        return None
    most = Counter(client for _, _, client in waiting)
    return min(waiting, key=lambda item: (-most[item[2]], item[0]))[1]
