"""The last requests to each destination, for the dashboard.

Invariants:
1. Pure: times are arguments. At most ``TRIES_MAX`` of a destination are kept.
2. Addresses in what a destination answered are masked.
"""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from schemas.masking import masked_field
from streams.deliver.outcomes import Outcome

TRIES_MAX = 50


@dataclass(frozen=True, slots=True)
class Try:
    """One request.

    Attributes:
        at_ms: when it was answered, milliseconds since 1970.
        records: that it carried.
        result: as in the metric ``mailpulse_deliver_requests``; ``test`` requests too.
        said: the status and the beginning of the answer; empty if it was delivered.
        seconds: from sending to the answer.
    """

    at_ms: int
    records: int
    result: str
    said: str
    seconds: float


class Tries:
    """Of one destination.

    Attributes:
        delivered: requests since the start.
        failed: requests since the start.
        last_failure: what was said instead of a success; empty: never.
        last_success_ms: milliseconds since 1970; ``None``: none since the start.
    """

    def __init__(self) -> None:
        self._kept: deque[Try] = deque(maxlen=TRIES_MAX)
        self.delivered = 0
        self.failed = 0
        self.last_failure = ""
        self.last_success_ms: int | None = None

    def add(self, now_s: float, records: int, result: str, outcome: Outcome, took_s: float) -> None:
        """One request was answered."""
        at_ms = int(now_s * 1000)
        if outcome.delivered:
            self.delivered += 1
            self.last_success_ms = at_ms
        else:
            self.failed += 1
        said = masked_field(outcome.said)
        self.last_failure = said or self.last_failure
        self._kept.append(Try(at_ms, records, result, said, round(took_s, 3)))

    def document(self) -> list[dict[str, Any]]:
        """Newest first."""
        return [asdict(one) for one in reversed(self._kept)]
