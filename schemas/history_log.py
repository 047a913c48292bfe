"""Names of the logs that imports of history write, and what they say.

Invariants:
1. Pure. A log of history has one name for its whole life; no incarnation of the raw topic has such
   a name.
2. The name says the cut: the minute in which live events take over. Whoever reads counts of the log
   knows by it which minutes are history, without asking anybody.
"""

import re
from typing import Final

PREFIX: Final = "history-"
MINUTE_US: Final = 60_000_000
_NAME: Final = re.compile(r"history-([0-9]{1,10})-[0-9a-f]{8}")


def history_log_id(cut_us: int, number: int) -> str:
    """The name of a new log.

    Args:
        cut_us: all its events are earlier, microseconds since 1970.
        number: tells it from others with the same cut, below 2^32.
    """
    return f"{PREFIX}{-(-cut_us // MINUTE_US)}-{number:08x}"


def cut_minute(log_id: str) -> int | None:
    """The minute since 1970 in which live events take over; ``None``: it is no log of history."""
    if not log_id.startswith(PREFIX):
        return None
    found = _NAME.fullmatch(log_id)
    return int(found[1]) if found else None
