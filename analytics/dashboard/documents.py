"""Builds the document behind each page from the results of queries.

Invariants:
1. A document has counts, names and times; rates are calculated from them in the browser, and by
   ``analytics.dashboard.csv_tables`` for CSV.
2. Times are in milliseconds since 1970; periods are in seconds.
3. Recipients are masked unless configured otherwise.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from analytics.dashboard import period, questions, steps
from analytics.dashboard.asking import Asker
from analytics.dashboard.figures import added, fields, vector
from analytics.dashboard.hub import View
from analytics.dashboard.period import Period
from schemas.errors import BadInput
from schemas.masking import DOTS, masked_field, masked_recipient

Document = dict[str, Any]
PipelineRead = Callable[[], Awaitable[Document]]
AlertLines = Callable[[str], Mapping[str, Sequence[float]]]
"""Campaign id -> rate -> its lines for watch, warning and critical, as ratios; those in force."""
SPARK_STEPS_MAX = 30
COURSE_STEPS_MAX = 120
CAMPAIGNS_MAX = 1_000


class _Steps(NamedTuple):
    """Length of a chart's steps and their begins, seconds; and what queries want of them."""

    length_s: int
    begins: list[int]
    parameters: Document


class Documents:
    """Builds the document of a view.

    Args:
        ask: queries the database.
        wall: returns seconds since 1970.
        show_recipients: do not mask addresses.
        sources: name -> provider of every configured source.
        pipeline: reads Kafka and the roles' metrics.
        lines: returns the alert lines of a campaign as a whole.
    """

    def __init__(
        self,
        ask: Asker,
        wall: Callable[[], float],
        show_recipients: bool,
        sources: Mapping[str, str],
        pipeline: PipelineRead,
        lines: AlertLines,
    ) -> None:
        self._ask = ask
        self._wall = wall
        self._show_recipients = show_recipients
        self._sources = dict(sources)
        self._pipeline = pipeline
        self._lines = lines

    async def build(self, view: View) -> Document:
        """The document.

        Raises:
            BadInput: no such page, period or time zone.
            Unavailable: the database does not answer.
        """
        pages = {
            "overview": self._overview, "campaign": self._campaign, "pipeline": self._operations
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

    async def _first_minute(self, view: View, stretch: Period) -> int:
        """The first minute with events in the period, where charts begin; 0 if there is none."""
        parameters = _edges(stretch.start_s, stretch.until_s)
        sql = questions.FIRST_MINUTE
        if view.page == "campaign":
            sql += " AND campaign_id = {campaign:String}"
            parameters["campaign"] = view.campaign
        rows = await self._ask(sql, parameters, (view.campaign, stretch.name))
        first = rows[0]["first"] if rows else None
        return int(first or 0)

    async def _steps(self, view: View, stretch: Period, zone: ZoneInfo, most: int) -> _Steps:
        """The steps of the charts: about ``most``, from the first minute with events on."""
        first = await self._first_minute(view, stretch)
        step_s = stretch.step_s(first, most)
        start = max(stretch.start_s, first or stretch.end_s - step_s)
        begins = steps.steps(start, max(start + 1, stretch.end_s), step_s, zone)
        return _Steps(step_s, begins, {"steps": begins, "start": stretch.start_s})

    async def _overview(self, view: View, stretch: Period, zone: ZoneInfo) -> Document:
        charts = await self._steps(view, stretch, zone, SPARK_STEPS_MAX)
        parameters = {**_edges(stretch.previous_s, stretch.until_s), **charts.parameters}
        rows, names, incidents, silent, fresh = await asyncio.gather(
            self._ask(questions.OVERVIEW, parameters, (view.period, view.zone)),
            self._ask(questions.NAMES, {}, ()),
            self._ask(
                questions.INCIDENTS, _edges(stretch.start_s, stretch.until_s), ("all", view.period)
            ),
            self._ask(questions.SILENT_NOW, {}, ()),
            self._freshness(),
        )
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
        campaigns.sort(key=lambda item: (-item["last_ms"], item["id"]))
        return {
            "freshness": fresh,
            "step_s": charts.length_s,
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
        charts = await self._steps(view, stretch, zone, COURSE_STEPS_MAX)
        whole = _edges(stretch.previous_s, stretch.until_s)
        timeline = {**whole, **charts.parameters, **campaign}
        events = {"start": stretch.start_s, "until": stretch.until_s, **campaign}
        (
            course,
            mailboxes,
            names,
            progress,
            incidents,
            bounces,
            links,
            machines,
            recent,
        ) = await asyncio.gather(
            self._ask(questions.TIMELINE, timeline, (*topic, view.zone)),
            self._ask(questions.MAILBOXES, {**edges, **campaign}, topic),
            self._ask(questions.NAMES, {}, ()),
            self._ask(questions.SENT_SO_FAR, campaign, (view.campaign,)),
            self._ask(questions.INCIDENTS, edges, ("all", view.period)),
            self._ask(questions.BOUNCES, events, topic),
            self._ask(questions.LINKS, events, topic),
            self._ask(questions.MACHINES, events, topic),
            self._ask(questions.RECENT, events, topic),
        )
        known = {row["campaign_id"]: row for row in names}.get(view.campaign, {})
        now = [(int(row["bucket"]), vector(row)) for row in course if row["current"]]
        before = [vector(row) for row in course if not row["current"]]
        return {
            "freshness": await self._freshness(),
            "campaign": {
                "id": view.campaign,
                "name": str(known.get("name", "")),
                "owner": str(known.get("owner", "")),
                "progress": progress[0] if progress else None,
            },
            "step_s": charts.length_s,
            "steps_s": charts.begins,
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
            "machines": machines,
            "recent": [
                {**row, "recipient": self._shown_recipient(row["recipient"])} for row in recent
            ],
        }

    async def _operations(self, view: View, stretch: Period, _zone: ZoneInfo) -> Document:
        parameters = {"start": stretch.start_s, "until": stretch.until_s}
        edges = _edges(stretch.start_s, stretch.until_s)
        letters, books, compared, fresh, newest, pipeline = await asyncio.gather(
            self._ask(questions.DEAD_LETTERS, parameters, (view.period,)),
            self._ask(questions.RECONCILIATION, {}, ()),
            self._ask(questions.RECONCILED, {}, ()),
            self._ask(questions.FRESHNESS, {}, ()),
            self._freshness(),
            self._pipeline(),
        )
        silent = await self._ask(questions.SOURCE_INCIDENTS, edges, (view.period,))
        return {
            "freshness": newest,
            "dead_letters": [{**row, "sample": self._shown(row["sample"])} for row in letters],
            "reconciliation": books,
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


def _incident(row: Mapping[str, Any]) -> Document:
    return {**row, "places": list(row["places"]), "closed_ms": row["closed_ms"] or None}
