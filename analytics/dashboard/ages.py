"""Opens and clicks by the time since the delivery of their message: how a send unfolds.

Invariants:
1. ``curves`` is pure. A point at age A has as its denominator the messages that were delivered at
   least A ago, and as its numerator those of them that were opened or clicked within A. So
   campaigns of any age can be compared at equal age, and no rate is above 1.
2. A message counts once, at its earliest open or click by such an actor; unsubscribe links never.
   Without a limit of age numerators are the ``cohort_…`` counts of ``campaign_summary`` (tested).
3. A message is as old as the minute of its delivery, once that has ended: in both parts alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analytics.dashboard.asking import Asker

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
AGES_S: tuple[int, ...] = (
    *(MINUTE_S * n for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 45)),
    *(HOUR_S * n for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18)),
    *(DAY_S * n for n in (1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30)),
)
"""Ages at which curves have points, seconds."""
WHO = ("human", "unknown", "any", "at_most")
"""Whose opens and clicks: humans'; also those of unknown actors; anybody's; and the upper end of
the interval that the doubt of verdicts leaves, all but what is surely a machine's."""
SHARE_MIN = 0.1
"""A point needs this share of the delivered messages to be that old."""
OTHERS = 5
OTHER_DELIVERED_MIN = 100
OTHER_DAYS = 90

KINDS = ("opened", "clicked")
_BY = {
    "human": "e.actor = 'human'",
    "unknown": "e.actor IN ('human', 'unknown')",
    "any": "1",
    "at_most": "e.actor IN ('human', 'unknown') OR e.actor_certainty = 'probable'",
}
_FOUND = [(kind, who) for kind in KINDS for who in WHO]
STEPS = ",\n        ".join(
    f"arrayCount(a -> a < ifNull(minIf(e.seconds_since_delivery, e.event_type = '{kind}'"
    f" AND ({_BY[who]})), 4e9), {{ages:Array(UInt32)}}) AS {kind}_{who}"
    for kind, who in _FOUND
)
"""Of a message, the number of ages that its first open or click by such an actor is older than."""
PLACES = ",\n    ".join(f"('{kind}', '{who}', m.{kind}_{who})" for kind, who in _FOUND)
"""These as rows: kind, actor, number of ages."""
ENGAGED = "(e.event_type IN ('opened', 'clicked') AND NOT e.unsubscribe_link)"

RESPONSES = f"""\
SELECT
    m.campaign_id AS campaign_id,
    one.1 AS event_type,
    one.2 AS who,
    one.3 AS step,
    m.lived AS lived,
    count() AS messages
FROM
(
    SELECT
        e.campaign_id AS campaign_id,
        min(toUnixTimestamp64Milli(e.event_time) / 1000 - e.seconds_since_delivery) AS begun,
        intDiv(toInt64(assumeNotNull(begun) + 0.01), 60) * 60 AS delivered_s,
        arrayCount(a -> a <= {{now:UInt32}} - delivered_s - 60, {{ages:Array(UInt32)}}) AS lived,
        {STEPS}
    FROM events AS e FINAL
    WHERE e.campaign_id IN {{campaigns:Array(String)}}
        AND {ENGAGED}
        AND e.seconds_since_delivery IS NOT NULL
    GROUP BY e.campaign_id, e.message_key
    HAVING delivered_s >= {{start:UInt32}} AND delivered_s < {{until:UInt32}}
) AS m
ARRAY JOIN [
    {PLACES}
] AS one
WHERE step < length({{ages:Array(UInt32)}})
GROUP BY campaign_id, event_type, who, step, lived"""
"""Messages by how many ages they have lived, and of how many their first open or click is older."""

DELIVERED = """\
SELECT
    m.campaign_id AS campaign_id,
    arrayCount(
        a -> a <= {now:UInt32} - toUnixTimestamp(m.minute) - 60, {ages:Array(UInt32)}
    ) AS lived,
    sum(m.delivered) AS messages
FROM campaign_minutes AS m FINAL
WHERE m.campaign_id IN {campaigns:Array(String)}
    AND m.minute >= toDateTime({start:UInt32}, 'UTC')
    AND m.minute < toDateTime({until:UInt32}, 'UTC')
GROUP BY campaign_id, lived"""

NEWEST_OTHERS = """\
SELECT m.campaign_id AS campaign_id
FROM campaign_minutes AS m FINAL
WHERE m.minute >= toDateTime({since:UInt32}, 'UTC')
    AND m.campaign_id != '' AND m.campaign_id != {campaign:String}
GROUP BY m.campaign_id
HAVING sum(m.delivered) >= {least:UInt32}
ORDER BY maxIf(m.minute, m.delivered > 0) DESC, m.campaign_id
LIMIT {most:UInt8}"""

Curve = dict[str, Any]


def curves(
    delivered: Iterable[Mapping[str, Any]], responses: Iterable[Mapping[str, Any]]
) -> dict[str, Curve]:
    """The curve of each campaign.

    Args:
        delivered: rows of ``DELIVERED``: messages by how many of ``AGES_S`` they have lived.
        responses: rows of ``RESPONSES``.

    Returns:
        Campaign id -> ``ages_s``, ``delivered`` (denominators), and ``opened`` and ``clicked``: by
        ``WHO``, numerators; each a list with one item per age.
    """
    lived: dict[str, list[int]] = {}
    for row in delivered:
        counts = lived.setdefault(row["campaign_id"], [0] * (len(AGES_S) + 1))
        counts[int(row["lived"])] += int(row["messages"])
    cells: dict[tuple[str, str, str], list[tuple[int, int, int]]] = {}
    for row in responses:
        key = (row["campaign_id"], row["event_type"], row["who"])
        place = (int(row["step"]), int(row["lived"]), int(row["messages"]))
        cells.setdefault(key, []).append(place)
    return {name: _curve(name, counts, cells) for name, counts in lived.items()}


def _curve(
    name: str,
    lived: Sequence[int],
    cells: Mapping[tuple[str, str, str], Sequence[tuple[int, int, int]]],
) -> Curve:
    below = [sum(lived[age + 1 :]) for age in range(len(AGES_S))]
    least = max(1.0, SHARE_MIN * sum(lived))
    ages = [age for age in range(len(AGES_S)) if below[age] >= least]

    def above(event_type: str, who: str) -> list[int]:
        found = cells.get((name, event_type, who), ())
        return [sum(n for step, old, n in found if step <= age < old) for age in ages]

    return {
        "ages_s": [AGES_S[age] for age in ages],
        "delivered": [below[age] for age in ages],
        "opened": {who: above("opened", who) for who in WHO},
        "clicked": {who: above("clicked", who) for who in WHO},
    }


async def asked_curves(
    ask: Asker, campaigns: Sequence[str], now_s: int, edges: tuple[int, int], topic: tuple[Any, ...]
) -> dict[str, Curve]:
    """The curves of campaigns, of what was delivered between two times.

    Args:
        campaigns: their ids.
        now_s: through when opens and clicks are known, seconds since 1970.
        edges: first second, and the second after the last, of deliveries.
        topic: as of ``Asker``.

    Raises:
        Unavailable: the database does not answer.
    """
    given = {
        "campaigns": list(campaigns), "ages": list(AGES_S), "now": now_s,
        "start": edges[0], "until": edges[1],
    }  # fmt: skip
    delivered = await ask(DELIVERED, given, (*topic, *campaigns))
    responses = await ask(RESPONSES, given, (*topic, *campaigns))
    return curves(delivered, responses)


async def newest_others(ask: Asker, campaign: str, now_s: int) -> list[str]:
    """Campaigns to compare one with: the last that delivered mail, in 90 days.

    Raises:
        Unavailable: the database does not answer.
    """
    given = {
        "campaign": campaign, "since": max(0, now_s - OTHER_DAYS * DAY_S), "most": OTHERS,
        "least": OTHER_DELIVERED_MIN,
    }  # fmt: skip
    rows = await ask(NEWEST_OTHERS, given, (campaign,))
    return [row["campaign_id"] for row in rows]
