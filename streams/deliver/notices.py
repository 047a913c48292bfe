"""Tells people by one destination that another one does not work.

Invariants:
1. ``Watch`` is pure: times are arguments.
2. What lasts is told: that a destination has been failing for ``TELL_AFTER_S`` without a break,
   and, once that was told, that it works again. One that comes and goes floods nobody.
3. A destination is never told of itself. A notice has the same id on every try; each process of
   ``deliver`` tells what it sees (PagerDuty makes one alert of it, mailboxes one mail).
4. Notices are tried a few times and then given up: they are not on a topic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from streams.deliver.bodies import Body, iso, of_own
from streams.deliver.channels.messages import FAILING, WORKING
from streams.deliver.channels.tables import People
from streams.deliver.destinations import AnyDestination

TELL_AFTER_S = 60.0
TRIES_MAX = 5
RETRY_S = 15.0
"""Before the second try; each further one takes twice as long."""


@dataclass(slots=True)
class _Seen:
    since_s: float
    said: str
    told: bool = False


class Watch:
    """Which destinations are failing, and what of it was told."""

    def __init__(self) -> None:
        self._failing: dict[str, _Seen] = {}

    def look(
        self, destination: AnyDestination, failing: bool, said: str, now_s: float
    ) -> Body | None:
        """What is to be told of a destination now; ``None``: nothing.

        Args:
            failing: its breaker is open.
            said: its last answer that was no success.
            now_s: seconds since 1970.
        """
        name, seen = destination.name, self._failing.get(destination.name)
        if not failing:
            self._failing.pop(name, None)
            return self._body(WORKING, destination, seen, now_s) if seen and seen.told else None
        if seen is None:
            seen = self._failing[name] = _Seen(now_s, said)
        seen.said = said or seen.said
        if seen.told or now_s - seen.since_s < TELL_AFTER_S:
            return None
        seen.told = True
        return self._body(FAILING, destination, seen, now_s)

    def _body(self, kind: str, destination: AnyDestination, seen: _Seen, now_s: float) -> Body:
        since_us = int(seen.since_s * 1e6)
        data = {
            "destination": destination.name, "host": destination.host, "said": seen.said,
            "since": iso(since_us),
        }  # fmt: skip
        identity = sha256(f"{kind} {destination.name} {since_us}".encode()).hexdigest()[:32]
        return of_own(identity, kind, int(now_s * 1e6), data)


def tellers(destinations: Mapping[str, AnyDestination], about: str) -> list[str]:
    """The destinations by which people are told of another one."""
    return [
        name
        for name, one in destinations.items()
        if isinstance(one, People) and one.troubles and name != about
    ]
