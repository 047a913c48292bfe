"""Incidents of sources, for ``mailpulse alerts``: what fell silent, since when, what was usual."""

from typing import Any

from schemas.settings import Settings
from streams.cli.clickhouse import table_of
from streams.cli.context import emit, say, table

_LIST = """\
SELECT opened_at, source, event_type, level, state, cause, silent_since, refused_since, refused,
    refusal, usual_gap_s, explained_s, resumed_at, toString(incident_id) AS incident_id
FROM source_incidents
WHERE {every:String} = '1' OR state != 'closed'
ORDER BY opened_at DESC
LIMIT {last:UInt32}"""
_ONE = """\
SELECT source, event_type, level, state, cause, silent_since, accepted_until, refused_since,
    refused_until, refused, refusal, usual_gap_s, explained_s, opened_at,
    resumed_at, changed_at, as_of, toString(incident_id) AS incident_id, advice
FROM source_incidents
WHERE replaceAll(toString(incident_id), '-', '') = {id:String}"""

Table = tuple[list[str], list[list[Any]]]


def listed(settings: Settings, *, every: bool, last: int) -> Table:
    """Columns and rows of the newest incidents; ``every``: closed ones too."""
    columns, rows = table_of(settings, _LIST, {"every": "1" if every else "", "last": str(last)})
    return list(columns), [list(row) for row in rows]


def shown(settings: Settings, identity: str, *, json: bool) -> bool:
    """Shows one incident; ``False``: there is none with this id of 32 hexadecimal digits."""
    columns, rows = table_of(settings, _ONE, {"id": identity})
    if not rows:
        return False
    facts = dict(zip(columns, rows[0], strict=True))
    if json:
        emit(facts)
        return True
    advice = str(facts.pop("advice"))
    what = facts["event_type"] or "all events"
    refused = facts["cause"] == "refused"
    title = "all requests are refused" if refused else f"silence of {what}"
    table(f"{facts['source']}: {title}", ("fact", "value"), list(facts.items()))
    say(advice)
    return True
