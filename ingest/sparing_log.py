"""Rate-limited logging of what outside callers can cause: one line of each kind a minute.

Invariants:
1. The first line of a kind is written at once. Lines within ``pause_s`` after it are counted; the
   next one written gives their number (``suppressed``) and the pause (``period_s``).
2. No count is lost: it is written at most two pauses later, or on ``close``.
3. The caller decides which lines are of one kind, by fields from a bounded set of values.
"""

import asyncio
from collections.abc import Callable, Mapping

import orjson
import structlog

from schemas.serving.sparing import OTHER, PAUSE_S, Sparing


class SparingLog:
    """A log for events that outside callers cause.

    Args:
        name: of the logger.
        clock: monotonic seconds.
        pause_s: shortest time between two lines of one kind.
    """

    def __init__(self, name: str, clock: Callable[[], float], pause_s: float = PAUSE_S) -> None:
        self._log = structlog.get_logger(name).bind()  # once, not per line
        self._clock = clock
        self._pause_s = pause_s
        self._sparing = Sparing(pause_s)
        self._timer: asyncio.TimerHandle | None = None
        self._withheld = False

    def say(self, level: str, event: str, kind: Mapping[str, str], **more: object) -> None:
        """Writes a line, or counts it.

        Args:
            level: ``info``, ``warning`` or ``error``.
            kind: fields that define its kind.
            more: fields of this line only.
        """
        key = orjson.dumps([level, event, kind], option=orjson.OPT_SORT_KEYS).decode()
        count = self._sparing.happened(key, self._clock())
        if count is None:
            self._withheld = True
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._pause_s, self._tell)
            return
        line = {**kind, **more}
        if count > 1:
            line |= {"suppressed": count - 1, "period_s": self._pause_s}
        self._write(level, event, line)

    def close(self) -> None:
        """Writes the counts of suppressed lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_due(float("inf"))

    def _tell(self) -> None:
        self._timer = None
        told = self._tell_due(self._clock())
        if told or self._withheld:  # lines may have been suppressed within the last pause
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._tell)
        self._withheld = False

    def _tell_due(self, now: float) -> bool:
        due = self._sparing.due(now)
        for key, count in due:
            level, event, kind = ("info", OTHER, {}) if key == OTHER else orjson.loads(key)
            self._write(level, event, {**kind, "suppressed": count, "period_s": self._pause_s})
        return bool(due)

    def _write(self, level: str, event: str, line: Mapping[str, object]) -> None:
        getattr(self._log, level)(event, **line)
