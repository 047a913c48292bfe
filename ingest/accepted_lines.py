"""Which accepted requests are logged: all while there are few, a sample of many.

Invariants:
1. Pure: the time is an argument.
2. The first ``LINES_PER_S`` of a source within a second are logged, and of further ones one in
   ``every``. So where little comes every request has its line, and a log of 50 MB holds days where
   much comes.
3. No count is lost: a line says how many requests and events were not logged since the one before,
   and ``rest`` has what is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass

LINES_PER_S = 10


@dataclass(slots=True)
class _OfSource:
    second: int = -1
    within: int = 0
    requests: int = 0
    events: int = 0


class AcceptedLines:
    """The sample; one per process.

    Args:
        every: of the requests beyond the first of a second, one in so many is logged.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._sources: dict[str, _OfSource] = {}

    def line(
        self, source: str, events: int, now_s: float, *, always: bool
    ) -> dict[str, int] | None:
        """What a request's line has to say of those before it; ``None``: it has no line.

        Args:
            source: one of the sources that are set up.
            events: accepted of this request.
            now_s: of any clock.
            always: something is odd about the request: it is logged.
        """
        one = self._sources.setdefault(source, _OfSource())
        if one.second != int(now_s):
            one.second, one.within = int(now_s), 0
        one.within += 1
        beyond = one.within - LINES_PER_S
        if not always and beyond > 0 and beyond % self._every:
            one.requests += 1
            one.events += events
            return None
        told = _told(one)
        one.requests = one.events = 0
        return told

    def rest(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Counts of each source that no line has told yet."""
        for source, one in self._sources.items():
            if told := _told(one):
                yield source, told


def _told(one: _OfSource) -> dict[str, int]:
    if not one.requests:
        return {}
    return {"unlogged_requests": one.requests, "unlogged_events": one.events}
