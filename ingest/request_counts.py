"""How many requests to each source were answered how: what is published of them.

Invariants:
1. Pure: time is an argument.
2. Nothing that is sent to ingress makes it grow: sources are those of ``mailpulse.toml`` and one
   for all others, results are codes of this program, and reasons are ``REASONS_MAX`` at most.
3. Counts are of an interval, which has a number; its records are the same however often they are
   asked for. Until they are ``acknowledged`` the next interval goes on, so at most two intervals
   are held, no request is missed and none is counted in two of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.codec import AvroRecord

ACCEPTED, UNREADABLE, EMPTY = "accepted", "unreadable", "empty"
REASONS_MAX = 32
"""Reasons of a source in an interval; further ones are counted as ``OTHER``. Those of a provider's
module are its own affair; none has so many."""
OTHER = "other"
REASON_CHARS_MAX = 40
_UNAUTHORIZED: Final = "unauthorized"


@dataclass(slots=True)
class _Kind:
    requests: int
    first_us: int
    last_us: int


def result_of(result: str, events: int, dead_letters: int) -> str:
    """A request's result as it is published: those that were accepted, by what was in them."""
    if result != ACCEPTED or events:
        return result
    return UNREADABLE if dead_letters else EMPTY


class RequestCounts:
    """The counts of one process.

    Args:
        ingress: names the process, 32 hexadecimal digits.
        recipients: how it stores recipients, see ``schemas.recipient_hash.mode_mark``.
        now_us: microseconds since 1970.
    """

    def __init__(self, ingress: str, recipients: str, now_us: int) -> None:
        self._ingress = ingress
        self._recipients = recipients
        self._sequence = 1
        self._began_us = now_us
        self._counts: dict[str, dict[tuple[str, str], _Kind]] = {}
        self._unacknowledged: list[AvroRecord] = []

    def add(self, source: str, result: str, reason: str, now_us: int) -> None:
        """Counts one request.

        Args:
            source: empty for one that does not exist.
            result: see ``result_of``.
            reason: of a refused proof, its code.
        """
        kinds = self._counts.get(source)
        if kinds is None:
            kinds = self._counts[source] = {}
        key = (result, reason[:REASON_CHARS_MAX] if result == _UNAUTHORIZED else "")
        found = kinds.get(key)
        if found is None and key[1] and sum(bool(one) for _, one in kinds) >= REASONS_MAX - 1:
            key = (result, OTHER)
            found = kinds.get(key)
        if found is None:
            kinds[key] = _Kind(1, now_us, now_us)
            return
        found.requests += 1
        found.first_us = min(found.first_us, now_us)  # clocks are set back
        found.last_us = max(found.last_us, now_us)

    def records(self, now_us: int) -> Sequence[AvroRecord]:
        """The ``source_requests`` records to send: those not acknowledged yet, or, if there are
        none, those of the interval that ends now."""
        if not self._unacknowledged and self._counts:
            self._unacknowledged = [
                self._record(source, kinds, now_us) for source, kinds in self._counts.items()
            ]
            self._counts = {}
            self._sequence += 1
        if not self._counts:
            self._began_us = now_us
        return self._unacknowledged

    def acknowledged(self) -> None:
        """The records are kept."""
        self._unacknowledged = []

    def _record(self, source: str, kinds: dict[tuple[str, str], _Kind], now_us: int) -> AvroRecord:
        return {
            "ingress": self._ingress,
            "sequence": self._sequence,
            "source": source,
            "began_at": min(self._began_us, now_us),
            "ended_at": now_us,
            "recipients": self._recipients,
            "results": [
                {
                    "result": result, "reason": reason, "requests": kind.requests,
                    "first_at": kind.first_us, "last_at": kind.last_us,
                }
                for (result, reason), kind in kinds.items()
            ],
        }  # fmt: skip
