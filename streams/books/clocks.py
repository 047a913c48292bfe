"""How far the clocks of ingress are believed: not beyond the clock of whoever looks.

An ingress whose clock runs ahead stamps what it takes in with a time that is yet to come. Believed,
that would hide every silence until then.

Invariants:
1. What is stamped more than ``AHEAD_US`` after a look came by that look, and is taken to have come
   then; until something else comes it is said to have come at that same time, also once the time
   of the stamp has come. While an incident is open, whoever looks for the first time believes that
   it goes on.
2. What is not ahead is believed as it is.
3. What came is told by the newest stamp of each five minutes: an arrival is missed if its five
   minutes have a later stamp already, of a clock that is further ahead.
4. Memory: a few numbers for each stream that is ahead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.books.refusals import Kind, Requests
from streams.books.silence import WHOLE, Key

AHEAD_US = 60_000_000
"""Clocks differ by so much at most where they are kept."""
BEFORE_S = 86_400
"""Arrivals are compared from so long before the first stamp that was ahead."""
Came = Callable[[int], Mapping[Key, int]]
"""Since so many seconds of 1970 -> a number for each stream that is another one whenever something
came to it."""


@dataclass(slots=True)
class _Ahead:
    came: int
    believed_us: int


@dataclass(slots=True)
class Clocks:
    """What is remembered from look to look."""

    _ahead: dict[Key, _Ahead] = field(default_factory=dict)
    _since_s: int = 0

    @property
    def ahead(self) -> list[str]:
        """Sources of which arrivals are stamped with a time that was yet to come."""
        return sorted({key.source for key in self._ahead})

    def believed(
        self, newest: Mapping[Key, int], came: Came, since_us: Mapping[Key, int], now_us: int
    ) -> dict[Key, int]:
        """When the newest event of each stream came.

        Args:
            newest: as ingress stamped it, microseconds since 1970.
            since_us: streams with an open incident -> when the last event before it came.
            now_us: by the clock of whoever looks.
        """
        found = dict(newest)
        suspects = {key for key, at in newest.items() if at > now_us + AHEAD_US} | {*self._ahead}
        if not suspects:
            return found
        if not self._ahead:
            self._since_s = now_us // 1_000_000 - BEFORE_S
        numbers = came(self._since_s)
        for key in suspects:
            at, number, held = newest.get(key), numbers.get(key, 0), self._ahead.get(key)
            if at is None:
                del self._ahead[key]
                continue
            if held is None or held.came != number:
                if at <= now_us + AHEAD_US:
                    del self._ahead[key]
                    continue
                if held is None:
                    whole = since_us.get(Key(key.source, WHOLE), now_us)
                    held = self._ahead[key] = _Ahead(number, since_us.get(key, whole))
                else:
                    held.came, held.believed_us = number, now_us
            found[key] = held.believed_us
        return found


def of_requests(requests: Requests, now_us: int) -> Requests | None:
    """Requests by the clock of whoever looks; ``None``: nothing can be said of them.

    All of a source are moved by as much as the newest of them is ahead. If none came since one that
    was accepted ahead, those that were refused since may be hidden behind it.
    """
    if not requests.kinds:
        return requests if requests.accepted_us <= now_us + AHEAD_US else None
    ahead_us = max(one.until_us for one in requests.kinds) - now_us
    if ahead_us <= AHEAD_US:
        return requests
    return Requests(max(0, requests.accepted_us - ahead_us), tuple(
        _moved(one, ahead_us) for one in requests.kinds
    ))  # fmt: skip


def _moved(one: Kind, by_us: int) -> Kind:
    return one._replace(since_us=one.since_us - by_us, until_us=one.until_us - by_us)
