"""Which records are about people who were forgotten since, and are not sent any more.

Invariants:
1. Pure; the rule is that of ``schemas.erasure``. An erasure's tombstone lifts nothing, and an event
   that no longer says whose it is tells a receiver nothing.
2. What happened after an erasure is sent.
"""

from typing import Any

from schemas.codec import AvroRecord
from schemas.erasure import ERASED_KEY, Erasures, is_erasing
from schemas.topics import ENGAGEMENT, ENRICHED, SCOPED_SUPPRESSIONS, SUPPRESSIONS

_TIME = {ENGAGEMENT: "occurred_at", SUPPRESSIONS: "since", SCOPED_SUPPRESSIONS: "since"}
"""Topic keyed by person -> field with the time of the evidence, microseconds since 1970."""


def is_forgotten(record: Any, decoded: AvroRecord | None, erasures: Erasures) -> bool:
    """Whether a consumed record is not to be sent.

    Args:
        decoded: its value; ``None``: a tombstone.
    """
    if decoded is None:
        return is_erasing(record.headers) or record.timestamp * 1_000 < erasures.at_of_scope(
            record.key
        )
    if record.topic == ENRICHED:
        return record.key == ERASED_KEY or (bool(erasures) and erasures.covers(decoded["event"]))
    if record.topic in _TIME:
        return bool(decoded[_TIME[record.topic]] < erasures.at_of_scope(record.key))
    return False
