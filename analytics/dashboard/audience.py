"""The document of the audience page: when people open and click, where, and with what.

Invariants: as of ``analytics.dashboard.documents``. The hours' figures are sums of
``campaign_minutes``; devices, clients and countries are those of the events.
"""

import asyncio
from typing import Any
from zoneinfo import ZoneInfo

from analytics.dashboard import questions
from analytics.dashboard.asking import Asker
from analytics.dashboard.figures import fields, vector
from analytics.dashboard.hub import View
from analytics.dashboard.period import DAY_S, Period
from analytics.dashboard.steps import clock_changes

Document = dict[str, Any]
DIMENSIONS = ("device", "client", "os", "country")

HOURS = f"""\
WITH
    toInt64(toUnixTimestamp(m.minute)) AS at,
    transform(
        roundDown(at, {{changes:Array(Int64)}}), {{changes:Array(Int64)}},
        {{ahead:Array(Int64)}}, toInt64(0)
    ) AS ahead_s
SELECT
    (intDiv(at + ahead_s, 86400) + 3) % 7 + 1 AS weekday,
    intDiv((at + ahead_s) % 86400, 3600) AS hour,
        {questions.SUMS}
{questions.MINUTES} AND ({{everything:UInt8}} OR m.campaign_id = {{campaign:String}})
GROUP BY weekday, hour
ORDER BY weekday, hour"""
"""By the clock of a zone that is ``ahead`` of UTC by so many seconds from each of ``changes`` on:
the door takes no zone as a parameter."""

_MESSAGES = ",\n    ".join(
    f"uniqExactIf(e.message_key, e.event_type = '{kind}' AND e.actor IN ({actors}))"
    f" AS {kind}{ending}"
    for kind in ("opened", "clicked")
    for ending, actors in (
        ("", "'human'"), ("_unknown", "'unknown'"), ("_machine", "'machine', 'scanner'"),
    )
)  # fmt: skip
_WITH = ",\n    ".join(f"('{name}', toString(e.{name}))" for name in DIMENSIONS)

WITH_WHAT = f"""\
SELECT
    one.1 AS dimension,
    one.2 AS value,
    {_MESSAGES}
FROM events AS e FINAL
ARRAY JOIN [
    {_WITH},
    ('all', '')
] AS one
WHERE e.event_time >= toDateTime({{start:UInt32}}, 'UTC')
    AND e.event_time < toDateTime({{until:UInt32}}, 'UTC')
    AND ({{everything:UInt8}} OR e.campaign_id = {{campaign:String}})
    AND e.event_type IN ('opened', 'clicked') AND NOT e.unsubscribe_link
GROUP BY dimension, value
ORDER BY dimension, opened + clicked DESC, opened_unknown + opened_machine DESC, value
LIMIT 40 BY dimension"""
"""Messages that were opened or clicked with each device and so on; «all»: with whatever."""


async def audience(
    ask: Asker, view: View, stretch: Period, zone: ZoneInfo, first_s: int
) -> Document:
    """The page's own part of the document.

    Args:
        ask: queries the database.
        view: ``chosen``: one campaign, or none for all of them.
        first_s: first minute with events in the period; 0 if there is none.

    Raises:
        Unavailable: the database does not answer.
    """
    campaign = view.chosen[0] if view.chosen else ""
    of: dict[str, Any] = {"campaign": campaign, "everything": 0 if view.chosen else 1}
    minutes = {"since": stretch.start_s, "until": stretch.until_s, **of}
    begin_s, end_s = first_s or stretch.start_s, min(stretch.until_s, int(stretch.end_s) + DAY_S)
    changes = clock_changes(begin_s, end_s, zone)
    minutes |= {"changes": [at for at, _ in changes], "ahead": [ahead for _, ahead in changes]}
    events = {"start": stretch.start_s, "until": stretch.until_s, **of}
    topic = (view.period, view.zone, *view.chosen)
    hours, with_what = await asyncio.gather(
        ask(HOURS, minutes, topic), ask(WITH_WHAT, events, topic)
    )
    everything = [row for row in with_what if row["dimension"] == "all"]
    return {
        "campaign_id": campaign if view.chosen else None,
        "hours": [
            {
                "weekday": int(row["weekday"]), "hour": int(row["hour"]),
                "counts": fields(vector(row)),
            }
            for row in hours
        ],
        "with_what": [row for row in with_what if row["dimension"] != "all"],
        "everything": everything[0] if everything else None,
    }  # fmt: skip
