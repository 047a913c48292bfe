"""How long records that are not delivered will still be there.

Invariant: pure. Kafka removes a segment when its newest record is older than ``retention.ms``, so a
record is there for at least that long, and for somewhat longer.
"""

WARN_S = 2 * 86_400.0
"""How long before the first record goes a warning comes."""


def seconds_left(timestamp_ms: int, retention_ms: int | None, now_s: float) -> float | None:
    """Until a record may be removed; ``None``: its topic removes none by age.

    Args:
        timestamp_ms: the record's, milliseconds since 1970.
        retention_ms: of its topic; negative: for ever.
        now_s: seconds since 1970.
    """
    if retention_ms is None or retention_ms < 0:
        return None
    return (timestamp_ms + retention_ms) / 1000.0 - now_s
