"""The document of the deliverability page: how mailbox providers take the mail of all campaigns.

Invariants: as of ``analytics.dashboard.documents``. Figures by mailbox provider are sums of
``campaign_minutes``, as in the view ``deliverability_by_day``; bounces as in ``bounce_reasons``.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from analytics.dashboard import questions
from analytics.dashboard.asking import Asker
from analytics.dashboard.courses import by_step, trend_steps
from analytics.dashboard.figures import added, fields, vector
from analytics.dashboard.hub import View
from analytics.dashboard.period import Period

Document = dict[str, Any]
STEPS_MAX = 45
CHARTED = 6
"""Mailbox providers with a line of their own: those with the most mail, Gmail and Yahoo first."""
FIRST = ("gmail", "yahoo")
PUBLISHED_LINES = {
    "Gmail: stay below": 0.001,
    "Gmail: never reach; Yahoo: stay below": 0.003,
}
"""Complaint rates by name, as ratios: Google, «Email sender guidelines» (February 2024): below
0.10 %, never 0.30 % or more; Yahoo, «Sender best practices»: below 0.3 %."""

MAILBOXES = f"""\
SELECT
    m.mailbox_provider AS mailbox_provider,
    m.minute >= toDateTime({{start:UInt32}}, 'UTC') AS current,
        {questions.SUMS}
{questions.MINUTES}
GROUP BY mailbox_provider, current
HAVING events != 0
ORDER BY current DESC, delivered DESC, mailbox_provider
LIMIT 400"""

COURSES = f"""\
SELECT
    m.mailbox_provider AS mailbox_provider,
    roundDown(toUnixTimestamp(m.minute), {{steps:Array(UInt32)}}) AS bucket,
        {questions.SUMS}
{questions.MINUTES} AND m.mailbox_provider IN {{mailboxes:Array(String)}}
GROUP BY mailbox_provider, bucket
ORDER BY mailbox_provider, bucket"""

BOUNCES = """\
SELECT
    e.bounce_class AS bounce_class,
    e.bounce_reason AS bounce_reason,
    uniqExact(e.message_key) AS messages,
    uniqExact(e.campaign_id) AS campaigns,
    topK(3)(toString(e.mailbox_provider)) AS mailboxes,
    toUnixTimestamp64Milli(max(e.event_time)) AS last_ms,
    argMax(e.diagnostic, (e.event_time, e.event_id)) AS diagnostic
FROM events AS e FINAL
WHERE e.event_time >= toDateTime({start:UInt32}, 'UTC')
    AND e.event_time < toDateTime({until:UInt32}, 'UTC')
    AND e.event_type IN ('bounced', 'rejected', 'failed') AND e.bounce_class != 'none'
GROUP BY bounce_class, bounce_reason
ORDER BY messages DESC, bounce_class, bounce_reason
LIMIT 100"""

SUPPRESSED = """\
SELECT
    s.reason AS reason,
    if(s.since < toDateTime({begin:UInt32}, 'UTC'), 0,
        roundDown(toUnixTimestamp(s.since), {steps:Array(UInt32)})) AS bucket,
    count() AS addresses
FROM suppressions AS s FINAL
WHERE (s.until IS NULL OR s.until > now()) AND s.since < toDateTime({until:UInt32}, 'UTC')
GROUP BY reason, bucket
ORDER BY reason, bucket"""
"""Addresses that are suppressed now, by when that began; lifted ones are not among them."""


async def deliverability(
    ask: Asker,
    view: View,
    stretch: Period,
    zone: ZoneInfo,
    first_s: int,
    shown: Callable[[str], str],
) -> Document:
    """The page's own part of the document.

    Args:
        ask: queries the database.
        first_s: first minute with events in the period; 0 if there is none.
        shown: masks addresses in a text.

    Raises:
        Unavailable: the database does not answer.
    """
    step_s, begins = trend_steps(stretch, first_s, STEPS_MAX, zone)
    since = {"since": stretch.previous_s, "until": stretch.until_s, "start": stretch.start_s}
    events = {"start": stretch.start_s, "until": stretch.until_s}
    growth = {"begin": begins[0], "until": stretch.until_s, "steps": begins}
    topic = (view.period, view.zone)
    rows, bounces, suppressed = await asyncio.gather(
        ask(MAILBOXES, since, topic), ask(BOUNCES, events, topic), ask(SUPPRESSED, growth, topic)
    )
    now = [row for row in rows if row["current"]]
    before = {row["mailbox_provider"]: vector(row) for row in rows if not row["current"]}
    charted = _charted([row["mailbox_provider"] for row in now])
    course = {
        "since": stretch.start_s, "until": stretch.until_s, "steps": begins, "mailboxes": charted,
    }  # fmt: skip
    courses = await ask(COURSES, course, (*topic, *charted)) if charted else []
    return {
        "step_s": step_s,
        "steps_s": begins,
        "totals": fields(added([vector(row) for row in now])),
        "mailboxes": [
            {
                "mailbox": row["mailbox_provider"],
                "counts": fields(vector(row)),
                "before": fields(before[row["mailbox_provider"]])
                if row["mailbox_provider"] in before else None,
            }
            for row in now
        ],
        "courses": [
            {
                "mailbox": name,
                "counts": by_step(
                    [row for row in courses if row["mailbox_provider"] == name], begins
                ),
            }
            for name in charted
        ],
        "bounces": [
            {**row, "mailboxes": list(row["mailboxes"]), "diagnostic": shown(row["diagnostic"])}
            for row in bounces
        ],
        "suppressions": growth_of(suppressed, begins),
        "complaint_lines": [[line, name] for name, line in PUBLISHED_LINES.items()],
    }  # fmt: skip


def _charted(names: Sequence[str]) -> list[str]:
    """Those that are drawn, of names in the order of their mail."""
    first = [name for name in FIRST if name in names]
    return [*first, *(name for name in names if name not in FIRST)][:CHARTED]


def growth_of(rows: Sequence[Mapping[str, Any]], begins: Sequence[int]) -> list[Document]:
    """Addresses suppressed by the end of each step, for each reason.

    Args:
        rows: of ``SUPPRESSED``.
        begins: of the steps, seconds since 1970.
    """
    found: dict[str, dict[int, int]] = {}
    for row in rows:
        found.setdefault(row["reason"], {})[int(row["bucket"])] = int(row["addresses"])
    growths = []
    for reason, counts in sorted(found.items()):
        held, sums = counts.get(0, 0), []
        for begin in begins:
            held += counts.get(begin, 0)
            sums.append(held)
        growths.append({"reason": reason, "addresses": sums})
    return growths
