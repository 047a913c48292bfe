"""Rate limiting of log lines, by kind.

Invariants:
1. Pure: the time comes in as an argument.
2. The first of a kind is logged at once; those within ``pause_s`` after it are counted, and the
   count is logged with the next one, or by ``due``. No count is lost.
3. At most ``KINDS_MAX`` kinds are distinguished; all others share one.
"""

from dataclasses import dataclass

KINDS_MAX = 200
OTHER = "other"
PAUSE_S = 60.0


@dataclass(slots=True)
class _Kind:
    said_s: float
    withheld: int = 0


class Sparing:
    """When each kind was last logged.

    Args:
        pause_s: shortest time between two lines of one kind, in seconds.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._kinds: dict[str, _Kind] = {}

    def happened(self, kind: str, now_s: float) -> int | None:
        """Counts one. If it is to be logged now: how many it stands for, itself included."""
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            kind = OTHER
        held = self._kinds.get(kind)
        if held is None:
            self._kinds[kind] = _Kind(now_s)
            return 1
        if now_s - held.said_s < self._pause_s:
            held.withheld += 1
            return None
        count = held.withheld + 1
        held.said_s, held.withheld = now_s, 0
        return count

    def due(self, now_s: float) -> list[tuple[str, int]]:
        """Kinds and counts that were suppressed for ``pause_s``; the caller has to log them."""
        found = []
        for kind, held in list(self._kinds.items()):
            if now_s - held.said_s < self._pause_s:
                continue
            if held.withheld:
                found.append((kind, held.withheld))
                held.said_s, held.withheld = now_s, 0
            else:
                del self._kinds[kind]
        return found
