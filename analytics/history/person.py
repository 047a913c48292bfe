"""Queries for all that is known of a person: to count it, to export it, to see that it is gone.

Invariants:
1. Pure. Values are bound as parameters, never put into the text.
2. People are asked for by identity, a few hundred at once, through the index of identities.
"""

from collections.abc import Sequence

_THEM = "IN {names:Array(String)}"
COUNTS = f"""\
SELECT recipient_identity, uniqExact(event_id),
    uniqExactIf(event_id, received_at >= toDateTime({{raw_since:UInt32}}, 'UTC')),
    uniqExactIf(event_id, received_at >= toDateTime({{enriched_since:UInt32}}, 'UTC'))
FROM events WHERE recipient_identity {_THEM} GROUP BY recipient_identity"""
"""Person, events, and how many of them arrived since two times: they are still on these topics."""
SCOPES = f"""\
SELECT DISTINCT recipient_identity, source, suppression_scope FROM events
WHERE recipient_identity {_THEM} AND suppression_scope != ''"""
"""Person, source and scope of every list or group that an event of theirs names."""
_BEFORE = "< {at_ms:Int64}"
_SINCE = "if(is_deleted = 1, toInt64(bitShiftRight(version, 20)), toUnixTimestamp64Milli(since))"
"""Of suppressions; of lifted ones the time is in their version (``analytics.sink.rows``)."""
LEFT = f"""\
SELECT 'events', count() FROM events WHERE recipient_identity {_THEM}
    AND toUnixTimestamp64Milli(least(occurred_at, received_at)) {_BEFORE}
UNION ALL SELECT 'suppressions', count() FROM suppressions WHERE recipient {_THEM}
    AND {_SINCE} {_BEFORE}
UNION ALL SELECT 'scoped_suppressions', count() FROM scoped_suppressions WHERE recipient {_THEM}
    AND {_SINCE} {_BEFORE}"""
"""Table and how many rows name them for what happened before a time, replaced versions included."""
EXPORTS: dict[str, str] = {
    "events": f"SELECT * FROM email_events WHERE recipient_identity {_THEM} ORDER BY event_time",
    "suppressions": f"SELECT * FROM suppressions FINAL WHERE recipient {_THEM}",
    "scoped_suppressions": f"SELECT * FROM scoped_suppressions FINAL WHERE recipient {_THEM}",
}
"""Part of an export -> its query."""


def array(names: Sequence[str]) -> str:
    """Texts as the value of a parameter of type Array(String)."""
    quoted = (name.replace("\\", "\\\\").replace("'", "\\'") for name in names)
    return "[" + ",".join(f"'{name}'" for name in quoted) + "]"
