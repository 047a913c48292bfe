"""The document of the compare page: campaigns side by side at equal age, and variants of campaigns.

Invariants: as of ``analytics.dashboard.documents``; and as of ``ages`` and ``significance``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analytics.dashboard import ages
from analytics.dashboard.ages import AGES_S, ENGAGED, KINDS, PLACES, STEPS, Curve
from analytics.dashboard.asking import Asker
from analytics.dashboard.hub import View
from analytics.dashboard.significance import Share, compared, interval

Document = dict[str, Any]
CHOSEN_MAX = 6
CHOSEN_AT_FIRST = 3
CANDIDATES_MAX = 500
WHO_SHOWN = ("human", "unknown", "any")

CANDIDATES = """\
SELECT
    m.campaign_id AS campaign_id,
    sum(m.delivered) AS delivered,
    toUnixTimestamp(maxIf(m.minute, m.delivered > 0)) AS last_s
FROM campaign_minutes AS m FINAL
WHERE m.campaign_id != ''
GROUP BY m.campaign_id
HAVING delivered > 0
ORDER BY last_s DESC, campaign_id
LIMIT 500"""

KEYS = """\
SELECT
    key,
    uniqExact(value) AS variants,
    uniqExact(e.message_key) AS messages
FROM events AS e FINAL
ARRAY JOIN mapKeys(e.metadata) AS key, mapValues(e.metadata) AS value
WHERE e.campaign_id IN {campaigns:Array(String)} AND e.event_type = 'delivered'
GROUP BY key
HAVING variants BETWEEN 2 AND 6
ORDER BY messages DESC, key
LIMIT 20"""
"""Keys of metadata that tell few groups of messages apart."""

VARIANTS = f"""\
SELECT
    m.variant AS campaign_id,
    one.1 AS event_type,
    one.2 AS who,
    one.3 AS step,
    m.lived AS lived,
    count() AS messages
FROM
(
    SELECT
        max(e.metadata[{{key:String}}]) AS variant,
        toUnixTimestamp(minIf(e.event_time, e.event_type = 'delivered')) AS begun,
        arrayCount(
            a -> a <= toInt64({{now:UInt32}}) - intDiv(begun, 60) * 60 - 60,
            {{ages:Array(UInt32)}}
        ) AS lived,
        {STEPS}
    FROM events AS e FINAL
    WHERE e.campaign_id IN {{campaigns:Array(String)}}
        AND (e.event_type = 'delivered' OR {ENGAGED})
    GROUP BY e.message_key
    HAVING countIf(e.event_type = 'delivered') > 0 AND variant != ''
) AS m
ARRAY JOIN [
    ('delivered', 'any', 0),
    {PLACES}
] AS one
WHERE step < length({{ages:Array(UInt32)}})
GROUP BY campaign_id, event_type, who, step, lived"""
"""As ``ages.DELIVERED`` and ``ages.RESPONSES``, for the values of a key of metadata."""


async def comparison(
    ask: Asker, view: View, now_s: int, known: Mapping[str, Mapping[str, Any]]
) -> Document:
    """The page's own part of the document.

    Args:
        ask: queries the database.
        view: ``chosen``: campaigns; ``age_s``: at which age, 0: the greatest that all have reached;
            ``key``: of metadata, or empty.
        now_s: through when opens and clicks are known, seconds since 1970.
        known: campaign id -> its name.

    Raises:
        Unavailable: the database does not answer.
    """
    candidates = await ask(CANDIDATES, {}, ())
    chosen = list(view.chosen) or [row["campaign_id"] for row in candidates[:CHOSEN_AT_FIRST]]

    def name(campaign: str) -> str:
        return str(known.get(campaign, {}).get("name", "")) or campaign

    everything = (0, 2**32 - 60)
    curves = await ages.asked_curves(ask, chosen, now_s, everything, ("all",)) if chosen else {}
    keys = await ask(KEYS, {"campaigns": chosen}, tuple(chosen)) if chosen else []
    variants: dict[str, Curve] = {}
    if chosen and view.key:
        given = {"campaigns": chosen, "ages": list(AGES_S), "now": now_s, "key": view.key}
        rows = await ask(VARIANTS, given, (*chosen, view.key))
        delivered = [row for row in rows if row["event_type"] == "delivered"]
        variants = ages.curves(delivered, [row for row in rows if row["event_type"] != "delivered"])
        largest = sorted(variants, key=lambda one: -max([0, *variants[one]["delivered"]]))
        variants = {one: variants[one] for one in largest[:CHOSEN_MAX]}
    side = side_by_side({one: curves[one] for one in chosen if one in curves}, view.age_s)
    return {
        "candidates": [
            {
                "id": row["campaign_id"], "name": name(row["campaign_id"]),
                "delivered": int(row["delivered"]), "last_ms": int(row["last_s"]) * 1000,
            }
            for row in candidates
        ],
        "chosen": chosen,
        "campaigns": side | {"names": {one: name(one) for one in chosen}},
        "keys": keys,
        "key": view.key,
        "variants": {
            **side_by_side(variants, side["age_s"]), "names": {one: one for one in variants},
        },
    }  # fmt: skip


def side_by_side(curves: Mapping[str, Curve], age_s: int) -> Document:
    """Campaigns, or variants, at equal age.

    Args:
        curves: of each, in order.
        age_s: at which age; 0, or one that not all have reached: the greatest that they have.

    Returns:
        ``ages_s``: those that all have reached; ``age_s``: the one of the rows; ``rows``: of each
        its curve, and for each kind and actor numerator, interval and doubt; ``differences``: by
        kind and actor, every pair.
    """
    reached = [set(curve["ages_s"]) for curve in curves.values()]
    common = sorted(set.intersection(*reached)) if reached else []
    age = age_s if age_s in common else max(common, default=0)
    at = {name: curve["ages_s"].index(age) for name, curve in curves.items()} if common else {}
    rows = [_row(name, curve, at.get(name)) for name, curve in curves.items()]
    return {
        "ages_s": common,
        "age_s": age,
        "rows": rows,
        "differences": {
            kind: {who: _differences(rows, kind, who) for who in WHO_SHOWN} for kind in KINDS
        } if common else {},
    }  # fmt: skip


def _row(name: str, curve: Curve, index: int | None) -> Document:
    if index is None:
        return {"id": name, "curve": curve, "delivered": 0, "rates": {}}
    below = curve["delivered"][index]
    rates: Document = {}
    for kind in KINDS:
        rates[kind] = {}
        for who in WHO_SHOWN:
            above = curve[kind][who][index]
            most = max(above, curve[kind]["at_most"][index]) if who != "any" else above
            low, high = interval(above, below)
            rates[kind][who] = {"above": above, "most": most, "low": low, "high": high}
    return {"id": name, "curve": curve, "delivered": below, "rates": rates}


def _differences(rows: Sequence[Document], kind: str, who: str) -> list[Document]:
    shares = [
        Share(row["rates"][kind][who]["above"], row["rates"][kind][who]["most"], row["delivered"])
        for row in rows
    ]
    return [asdict(one) for one in compared(shares)]
