"""Builds the document behind each page from the results of queries.

Invariants:
1. A document has counts, names and times; rates are calculated from them in the browser, and by
   ``analytics.dashboard.csv_tables`` for CSV.
2. Times are in milliseconds since 1970; periods are in seconds.
3. Recipients are masked unless configured otherwise.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from analytics.dashboard import ages, period, questions, steps
from analytics.dashboard.asking import Asker
from analytics.dashboard.audience import audience
from analytics.dashboard.comparison import comparison
from analytics.dashboard.courses import by_step, course_steps, trend_steps
from analytics.dashboard.deliverability import deliverability
from analytics.dashboard.figures import added, fields, vector
from analytics.dashboard.hub import View
from analytics.dashboard.period import Life, Period
from schemas.errors import BadInput
from schemas.masking import DOTS, masked_field, masked_recipient

Document = dict[str, Any]
PipelineRead = Callable[[], Awaitable[Document]]
AlertLines = Callable[[str], Mapping[str, Sequence[float]]]
"""Campaign id -> rate -> its lines for watch, warning and critical, as ratios; those in force."""
SPARK_STEPS_MAX = 30
TREND_STEPS_MAX = 60
CAMPAIGNS_MAX = 1_000
HISTORY_S = period.DAY_S
"""The pipeline's throughput is shown for the last day of the period at most, seconds."""
HISTORY_STEPS_MAX = 120
UTC = ZoneInfo("UTC")


class Documents:
    """Builds the document of a view.

    Args:
        ask: queries the database.
        wall: returns seconds since 1970.
        show_recipients: do not mask addresses.
        sources: name -> provider of every configured source.
        pipeline: reads Kafka and the roles' metrics.
        lines: returns the alert lines of a campaign as a whole.
        samples: returns lag and latency of the last hours.
    """

    def __init__(
        self,
        ask: Asker,
        wall: Callable[[], float],
        show_recipients: bool,
        sources: Mapping[str, str],
        pipeline: PipelineRead,
        lines: AlertLines,
        samples: Callable[[], list[Document]] = list,
    ) -> None:
        self._ask = ask
        self._wall = wall
        self._show_recipients = show_recipients
        self._sources = dict(sources)
        self._pipeline = pipeline
        self._lines = lines
        self._samples = samples

    async def build(self, view: View) -> Document:
        """The document.

        Raises:
            BadInput: no such page, period or time zone.
            Unavailable: the database does not answer.
        """
        pages = {
            "overview": self._overview, "campaign": self._campaign,
            "deliverability": self._deliverability, "compare": self._compare,
            "audience": self._audience, "pipeline": self._operations,
        }  # fmt: skip
        page = pages.get(view.page)
        if page is None:
            raise BadInput("no_such_page", view.page)
        stretch, zone = period.parse(view.period, self._wall()), steps.zone_of(view.zone)
        document = await page(view, stretch, zone)
        previous = stretch.previous()
        return {
            "page": view.page,
            "period": {
                "name": stretch.name, "start_s": stretch.start_s, "end_s": stretch.end_s,
                "previous_start_s": previous.start_s,
            },
            "zone": view.zone,
            "sources": self._sources,
            **document,
        }  # fmt: skip

    async def _freshness(self) -> Document:
        rows = await self._ask(questions.NEWEST, {}, ())
        row = rows[0]
        return {
            "newest_ms": int(row["newest_ms"]) or None,
            "caught_up_ms": int(row["caught_up_ms"]) or None,
            "events_last_minute": int(row["last_minute"]),
        }

    async def _first_minute(self, stretch: Period) -> int:
        """The first minute with events in the period, where charts begin; 0 if there is none."""
        parameters = _edges(stretch.start_s, stretch.until_s)
        rows = await self._ask(questions.FIRST_MINUTE, parameters, (stretch.name,))
        first = rows[0]["first"] if rows else None
        return int(first or 0)

    async def _life(self, view: View, stretch: Period) -> Life | None:
        """When the campaign's events of the period happened; ``None`` if there are none."""
        parameters = {**_edges(stretch.start_s, stretch.until_s), "campaign": view.campaign}
        rows = await self._ask(questions.LIFE, parameters, (view.campaign, view.period))
        if not rows or not rows[0]["last"]:
            return None
        return Life(int(rows[0]["first"]), int(rows[0]["last"]), *map(int, rows[0]["shares"]))

    async def _overview(self, view: View, stretch: Period, zone: ZoneInfo) -> Document:
        first = await self._first_minute(stretch)
        sparks = trend_steps(stretch, first, SPARK_STEPS_MAX, zone)
        trend = trend_steps(stretch, first, TREND_STEPS_MAX, zone)
        length = stretch.end_s - stretch.start_s
        parameters = {
            **_edges(stretch.previous_s, stretch.until_s),
            "steps": sparks.begins, "start": stretch.start_s,
        }  # fmt: skip
        course = {**_edges(stretch.start_s, stretch.until_s), "steps": trend.begins}
        shifted = {
            **_edges(stretch.previous_s, stretch.start_s),
            "steps": [max(0, begin - length) for begin in trend.begins],
        }
        rows, now_steps, before_steps, names, incidents, silent = await asyncio.gather(
            self._ask(questions.OVERVIEW, parameters, (view.period, view.zone)),
            self._ask(questions.TREND, course, ("now", view.period, view.zone)),
            self._ask(questions.TREND, shifted, ("before", view.period, view.zone)),
            self._ask(questions.NAMES, {}, ()),
            self._ask(
                questions.INCIDENTS, _edges(stretch.start_s, stretch.until_s), ("all", view.period)
            ),
            self._ask(questions.SILENT_NOW, {}, ()),
        )
        fresh = await self._freshness()
        known = {row["campaign_id"]: row for row in names}
        now = {row["campaign_id"]: row for row in rows if row["current"] and row["events"]}
        before = {row["campaign_id"]: vector(row) for row in rows if not row["current"]}
        campaigns = [
            {
                "id": name,
                "name": str(known[name]["name"]) if name in known else "",
                "owner": str(known[name]["owner"]) if name in known else "",
                "counts": fields(vector(row)),
                "before": fields(before[name]) if name in before else None,
                "course": [list(point) for point in row["course"]],
                "last_ms": int(row["last_s"]) * 1000,
            }
            for name, row in now.items()
        ]
        # mail of no campaign comes first, so that it is never among those left out
        campaigns.sort(key=lambda item: (item["id"] != "", -item["last_ms"], item["id"]))
        return {
            "freshness": fresh,
            "step_s": sparks.length_s,
            "trend": {
                "step_s": trend.length_s,
                "steps_s": trend.begins,
                "counts": by_step(now_steps, trend.begins),
                "before": by_step(before_steps, shifted["steps"]) if before_steps else None,
            },
            "totals": fields(added([vector(row) for row in now.values()])),
            "totals_before": fields(added(list(before.values()))) if before else None,
            "campaigns": campaigns[:CAMPAIGNS_MAX],
            "campaigns_left_out": max(0, len(campaigns) - CAMPAIGNS_MAX),
            "incidents": [_incident(row) for row in incidents],
            "silent": silent,
        }

    async def _campaign(self, view: View, stretch: Period, zone: ZoneInfo) -> Document:
        topic = (view.campaign, view.period)
        campaign = {"campaign": view.campaign}
        edges = _edges(stretch.start_s, stretch.until_s)
        life = await self._life(view, stretch)
        charts, chart_end_s = course_steps(stretch, life, zone)
        whole = _edges(stretch.previous_s, stretch.until_s)
        timeline = {**whole, **campaign, "steps": charts.begins, "start": stretch.start_s}
        events = {"start": stretch.start_s, "until": stretch.until_s, **campaign}
        (
            course, mailboxes, names, progress, incidents, bounces, links, machines, rules, recent,
            clickers,
        ) = await asyncio.gather(
            self._ask(questions.TIMELINE, timeline, (*topic, view.zone)),
            self._ask(questions.MAILBOXES, {**edges, **campaign}, topic),
            self._ask(questions.NAMES, {}, ()),
            self._ask(questions.SENT_SO_FAR, campaign, (view.campaign,)),
            self._ask(questions.INCIDENTS, edges, ("all", view.period)),
            self._ask(questions.BOUNCES, events, topic),
            self._ask(questions.LINKS, events, topic),
            self._ask(questions.MACHINES, events, topic),
            self._ask(questions.RULES, events, topic),
            self._ask(questions.RECENT, events, topic),
            self._ask(questions.CLICKERS, events, topic),
        )  # fmt: skip
        fresh = await self._freshness()
        known = {row["campaign_id"]: row for row in names}
        now = [(int(row["bucket"]), vector(row)) for row in course if row["current"]]
        before = [vector(row) for row in course if not row["current"]]
        return {
            "freshness": fresh,
            "campaign": {
                **_named(view.campaign, known), "progress": progress[0] if progress else None,
            },
            "step_s": charts.length_s,
            "steps_s": charts.begins,
            "chart_end_s": chart_end_s,
            "last_s": life.last_s if life else stretch.end_s,
            **await self._by_age(view, stretch, fresh, known),
            "totals": fields(added([counts for _, counts in now])),
            "totals_before": fields(added(before)) if before else None,
            "timeline": [{"at_s": at, "counts": fields(counts)} for at, counts in now],
            "mailboxes": [
                {"mailbox": row["mailbox_provider"], "counts": fields(vector(row))}
                for row in mailboxes
            ],
            "lines": {name: list(levels) for name, levels in self._lines(view.campaign).items()},
            "incidents": [
                _incident(row) for row in incidents if row["campaign_id"] == view.campaign
            ],
            "bounces": [{**row, "diagnostic": self._shown(row["diagnostic"])} for row in bounces],
            "links": [
                {**row, "click_url_group": self._shown(row["click_url_group"])} for row in links
            ],
            "clickers": int(clickers[0]["clickers"]),
            "machines": machines,
            "rules": rules,
            "recent": [
                {**row, "recipient": self._shown_recipient(row["recipient"])} for row in recent
            ],
        }  # fmt: skip

    async def _by_age(
        self, view: View, stretch: Period, fresh: Document, known: Mapping[str, Document]
    ) -> Document:
        """Curves of the campaign, of what was delivered in the period, and of some others."""
        now_s = known_through(fresh, self._wall())
        others = await ages.newest_others(self._ask, view.campaign, now_s)
        edges = (stretch.start_s, stretch.until_s)
        topic = (view.period,)
        own = await ages.asked_curves(self._ask, [view.campaign], now_s, edges, topic)
        theirs = await ages.asked_curves(
            self._ask, others, now_s, (0, period.TIME_S_MAX), ("all",)
        ) if others else {}  # fmt: skip
        return {
            "curve": own.get(view.campaign),
            "others": [{**_named(one, known), "curve": theirs.get(one)} for one in others],
        }

    async def _deliverability(self, view: View, stretch: Period, zone: ZoneInfo) -> Document:
        first = await self._first_minute(stretch)
        own = await deliverability(self._ask, view, stretch, zone, first, self._shown)
        return {"freshness": await self._freshness(), **own}

    async def _compare(self, view: View, _stretch: Period, _zone: ZoneInfo) -> Document:
        fresh = await self._freshness()
        now_s = known_through(fresh, self._wall())
        own = await comparison(self._ask, view, now_s, await self._names())
        return {"freshness": fresh, **own}

    async def _audience(self, view: View, stretch: Period, zone: ZoneInfo) -> Document:
        first = await self._first_minute(stretch)
        own = await audience(self._ask, view, stretch, zone, first)
        known = await self._names()
        name = _named(own["campaign_id"] or "", known)["name"]
        return {"freshness": await self._freshness(), "campaign_name": name, **own}

    async def _names(self) -> dict[str, Document]:
        rows = await self._ask(questions.NAMES, {}, ())
        return {row["campaign_id"]: row for row in rows}

    async def _operations(self, view: View, stretch: Period, _zone: ZoneInfo) -> Document:
        parameters = {"start": stretch.start_s, "until": stretch.until_s}
        edges = _edges(stretch.start_s, stretch.until_s)
        since_s = max(stretch.start_s, stretch.end_s - HISTORY_S)
        day = _edges(since_s, stretch.until_s)
        found = await self._ask(questions.THROUGHPUT_SINCE, day, (view.period,))
        first_s = int(found[0]["first_s"]) or since_s
        _, begins = trend_steps(replace(stretch, start_s=since_s), first_s, HISTORY_STEPS_MAX, UTC)
        flow = {**_edges(begins[0], stretch.end_s), "steps": begins}
        letters, books, throughput, compared, fresh = await asyncio.gather(
            self._ask(questions.DEAD_LETTERS, parameters, (view.period,)),
            self._ask(questions.RECONCILIATION, {}, ()),
            self._ask(questions.THROUGHPUT, flow, (view.period,)),
            self._ask(questions.RECONCILED, {}, ()),
            self._ask(questions.FRESHNESS, {}, ()),
        )
        newest, pipeline = await asyncio.gather(self._freshness(), self._pipeline())
        silent = await self._ask(questions.SOURCE_INCIDENTS, edges, (view.period,))
        return {
            "freshness": newest,
            "dead_letters": [{**row, "sample": self._shown(row["sample"])} for row in letters],
            "reconciliation": books,
            "throughput": _throughput(throughput, begins, stretch.end_s),
            "samples": self._samples(),
            "reconciled_ms": compared[0]["reconciled_ms"],
            "silences": [{**row, "closed_ms": row["closed_ms"] or None} for row in silent],
            "parts": [{**row, "caught_up_ms": row["caught_up_ms"] or None} for row in fresh],
            **pipeline,
        }

    def _shown(self, text: str) -> str:
        return text if self._show_recipients else masked_field(text, DOTS)

    def _shown_recipient(self, text: str) -> str:
        return text if self._show_recipients else masked_recipient(text, DOTS)


def _edges(since_s: int, until_s: int) -> dict[str, Any]:
    return {"since": since_s, "until": until_s}


def known_through(fresh: Mapping[str, Any], wall_s: float) -> int:
    """Through when the data is complete, seconds since 1970; now where nobody has told that."""
    caught_up_ms = fresh["caught_up_ms"]
    return int(min(caught_up_ms / 1000, wall_s) if caught_up_ms else wall_s)


def _throughput(
    rows: Sequence[Mapping[str, Any]], begins: Sequence[int], end_s: int
) -> list[Document]:
    """Of each step: its begin, its length, and the events taken in and stored."""
    found = {int(row["bucket"]): row for row in rows}
    ends = [*begins[1:], max(end_s, begins[-1] + 1)]
    return [
        {
            "at_s": at, "seconds": end - at,
            "accepted": int(found[at]["accepted"]) if at in found else 0,
            "stored": int(found[at]["stored"]) if at in found else 0,
        }
        for at, end in zip(begins, ends, strict=True)
    ]  # fmt: skip


def _named(campaign: str, known: Mapping[str, Mapping[str, Any]]) -> Document:
    """A campaign with its name and owner; empty texts where nobody told them."""
    row = known.get(campaign, {})
    return {
        "id": campaign, "name": str(row.get("name", "")), "owner": str(row.get("owner", "")),
    }  # fmt: skip


def _incident(row: Mapping[str, Any]) -> Document:
    return {**row, "places": list(row["places"]), "closed_ms": row["closed_ms"] or None}
