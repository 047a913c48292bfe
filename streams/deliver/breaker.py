"""The circuit breaker of one destination.

Invariants:
1. Pure: the time and the dice are arguments.
2. It opens when ``FAILURES`` different requests have failed without a success between them: one
   record that a destination refuses again and again does not open it.
3. While it is open, one request at a time probes. Any success closes it.
"""

from collections.abc import Callable, Hashable

FAILURES = 5
PROBE_FIRST_S = 1.0
PROBE_S_MAX = 300.0

Dice = Callable[[], float]
"""A number from 0 up to, but not including, 1."""


def backoff_s(failures: int, first_s: float, most_s: float, dice: Dice) -> float:
    """The pause after the given number of failures in a row (1 or more), seconds.

    It doubles each time. The second half of it is random, so that senders do not return at once.
    """
    ceiling = min(most_s, first_s * 2 ** min(failures - 1, 32))
    return float(ceiling * (1 + dice()) / 2)


class Breaker:
    """Open or closed.

    Attributes:
        is_open: nothing but probes may be sent.
        probe_at: when the next probe may be sent; only while open.
        failures: in a row, each request counted once.
    """

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._failed: set[Hashable] = set()
        self._probes = 0
        self.is_open = False
        self.probe_at = 0.0

    @property
    def failures(self) -> int:
        """Different requests that failed since the last success."""
        return len(self._failed)

    def succeeded(self) -> None:
        """A request was delivered."""
        self.is_open = False
        self._failed.clear()
        self._probes = 0

    def failed(self, request: Hashable, now: float, *, probe: bool, gone: bool) -> None:
        """A request was not delivered.

        Args:
            request: what it was, the same for each try.
            probe: it was sent as a probe.
            gone: the destination wants no more: open at once, and probe as rarely as possible.
        """
        if self.is_open:
            if probe:
                self._probe_later(now, gone)
            return
        self._failed.add(request)
        if gone or len(self._failed) >= FAILURES:
            self.is_open = True
            self._probe_later(now, gone)

    def _probe_later(self, now: float, gone: bool) -> None:
        self._probes += 1
        first = PROBE_S_MAX if gone else PROBE_FIRST_S
        self.probe_at = now + backoff_s(self._probes, first, PROBE_S_MAX, self._dice)
