"""A report of a period as one HTML file: no script, nothing from elsewhere; it prints well.

Invariants:
1. Pure: documents of the dashboard in, text out. So its figures are those of the pages.
2. Every text put into it is escaped. Every picture has its figures as a table below it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from analytics.dashboard.advice import BOUNCES
from analytics.dashboard.figures import FIELDS, METRICS, Metric
from analytics.dashboard.period import Period
from analytics.dashboard.steps import DAY_S, begin_of

Document = Mapping[str, Any]
CAMPAIGNS_MAX = 40
PERIODS = ("day", "week", "month")
_RATES = ("delivery_rate", "bounce_rate", "open_rate", "click_rate", "complaint_rate")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 220, 56, 26
_STYLE = """\
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #16203a; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
p { margin: .3rem 0; } .soft { color: #55607a; font-size: .88rem; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.card { border: 1px solid #d9dfeb; border-radius: 10px; padding: .6rem .9rem; min-width: 8rem; }
.big { font-size: 1.5rem; font-weight: 700; }
.incident { border-left: 4px solid #b3202a; padding: .2rem .8rem; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem;
  border-bottom: 1px solid #d9dfeb; overflow-wrap: anywhere; }
th { font-size: .86rem; color: #55607a; } .number { text-align: right; white-space: nowrap; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: #55607a; }
.now { fill: none; stroke: #2456d6; stroke-width: 2; }
.before { fill: none; stroke: #55607a; stroke-width: 1.6; stroke-dasharray: 4 4; }
.grid { stroke: #d9dfeb; }
section { break-inside: avoid; } section.long { break-inside: auto; }
thead { display: table-header-group; } tr { break-inside: avoid; }
@media print { body { font-size: 9.5pt; margin: 0; max-width: none; } }
@page { margin: 15mm; }
"""


def last(name: str, now_s: float, zone: ZoneInfo) -> Period:
    """The last whole day, week (from Monday) or calendar month of a zone, before now.

    Args:
        name: one of ``PERIODS``.
        now_s: seconds since 1970.
    """
    if name != "month":
        step_s = DAY_S if name == "day" else 7 * DAY_S
        end = begin_of(int(now_s), step_s, zone)
        start = begin_of(end - 1, step_s, zone)
    else:
        today = datetime.fromtimestamp(now_s, zone)
        first = today.replace(day=1, hour=12)
        end = begin_of(int(first.timestamp()), DAY_S, zone)
        earlier = datetime.fromtimestamp(end - DAY_S, zone).replace(day=1, hour=12)
        start = begin_of(int(earlier.timestamp()), DAY_S, zone)
    return Period(f"{start}-{end}", start, end)


def title_of(overview: Document) -> str:
    """The report's title: which days it is of."""
    zone = ZoneInfo(overview["zone"])
    start, end = (
        datetime.fromtimestamp(overview["period"][name], zone) for name in ("start_s", "end_s")
    )
    until = datetime.fromtimestamp(overview["period"]["end_s"] - 1, zone)
    return f"Email, {_day(start)} to {_day(until)}" if end.date() != start.date() else "Email"


def _lead(overview: Document, now_s: float) -> str:
    zone = ZoneInfo(overview["zone"])
    start, end, made = (
        datetime.fromtimestamp(at, zone)
        for at in (overview["period"]["start_s"], overview["period"]["end_s"], now_s)
    )
    return (
        f"From {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, {zone}. Made by mailpulse on"
        f" {made:%Y-%m-%d} at {made:%H:%M}: opens and clicks that came until then count. Opens and"
        " clicks are those by people; the range after a rate is what doubtful ones leave open."
    )


def report(
    overview: Document, deliverability: Document, now_s: float, *, pictures: bool = True
) -> str:
    """The file's text.

    Args:
        overview, deliverability: documents of the same period and zone.
        now_s: when it is made, seconds since 1970.
        pictures: whether with its charts, of which mail programs keep the texts alone.
    """
    zone = ZoneInfo(overview["zone"])
    title = title_of(overview)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_lead(overview, now_s))}</p>',
        _cards(overview),
        _incidents(overview, zone),
        _trend(overview, zone) if pictures else "",
        _campaigns(overview),
        _mailboxes(deliverability),
        _bounces(deliverability),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · mailpulse</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _metric(name: str) -> Metric:
    return next(
        item for item in METRICS
        if item.name == name and item.basis in ("", "cohort") and item.who in ("", "human")
    )  # fmt: skip


def _value(counts: Sequence[int], field: str) -> int:
    return counts[FIELDS.index(field)]


def _percent(above: int, below: int) -> str:
    """As on the pages: enough digits to tell small rates apart."""
    if not below:
        return "–"
    value = 100 * above / below
    digits = 0 if not value else 3 if abs(value) < 0.1 else 2 if abs(value) < 1 else 1
    return f"{value:.{digits}f} %"


def _rate(counts: Sequence[int], name: str) -> tuple[str, str]:
    """A rate, and what it is of, with the range that doubt leaves."""
    item = _metric(name)
    above, below = _value(counts, item.numerator), _value(counts, item.denominator)
    most = _value(counts, item.most) if item.most else above
    doubt = f", {_percent(above, below)} to {_percent(most, below)}" if most != above else ""
    return _percent(above, below), f"{above:,} of {below:,}{doubt if below else ''}"


def plain(overview: Document, now_s: float) -> str:
    """The report's figures as plain text, for whoever reads mail as such.

    Args: as of ``report``.
    """
    lines = [title_of(overview), "", _lead(overview, now_s), ""]
    lines += [f"{label}: {big}{small and f' ({small})'}; {was}"
              for label, big, small, was in _totals(overview)]  # fmt: skip
    campaigns, left = _listed(overview)
    heads = ("sent", *(_metric(name).label.lower() for name in _RATES))
    lines += ["", f"Incidents: {len(overview['incidents']) or 'none'}"]
    names = {one["id"]: one["name"] or one["id"] for one in overview["campaigns"]}
    lines += [
        f"  {names.get(one['campaign_id'], one['campaign_id'])}: {one['rate'].replace('_', ' ')}"
        f" {_percent(one['numerator'], one['denominator'])}"
        f" ({one['numerator']:,} of {one['denominator']:,}). {one['advice']}"
        for one in overview["incidents"]
    ]
    lines += ["", "Campaigns"]
    for name, sent, *rates in campaigns:
        figures = (sent, *(f"{big} ({small})" for big, small in rates))
        lines += [
            "",
            name,
            *(f"  {head} {each}" for head, each in zip(heads, figures, strict=True)),
        ]
    if left:
        lines += ["", f"And {left:,} more with less mail."]
    return "\n".join(lines) + "\n"


def _totals(overview: Document) -> list[tuple[str, str, str, str]]:
    totals, before = overview["totals"], overview["totals_before"]
    sent = _value(totals, "sent")
    cards = [("Sent", f"{sent:,}", "", _change(sent, before and _value(before, "sent")))]
    for name in _RATES:
        big, small = _rate(totals, name)
        was = f"before: {_rate(before, name)[0]}" if before else "before: –"
        cards.append((_metric(name).label, big, small, was))
    return cards


def _cards(overview: Document) -> str:
    return '<div class="cards">' + "".join(
        f'<div class="card"><div class="soft">{escape(label)}</div><div class="big">{big}</div>'
        f'<div class="soft">{small}</div><div class="soft">{was}</div></div>'
        for label, big, small, was in _totals(overview)
    ) + "</div>"  # fmt: skip


def _change(now: int, before: int | None) -> str:
    return f"before: {before:,} ({100 * (now / before - 1):+.1f} %)" if before else "before: –"


def _incidents(overview: Document, zone: ZoneInfo) -> str:
    names = {one["id"]: one["name"] or one["id"] for one in overview["campaigns"]}
    rows = []
    for one in overview["incidents"]:
        opened = datetime.fromtimestamp(one["opened_ms"] / 1000, zone)
        closed = one["closed_ms"] and datetime.fromtimestamp(one["closed_ms"] / 1000, zone)
        until = f"closed {closed:%d %b %H:%M}" if closed else "still open"
        places = ", ".join(filter(None, one["places"])) or "all mailboxes"
        rows.append(
            f'<div class="incident"><b>{escape(names.get(one["campaign_id"], one["campaign_id"]))}:'
            f" {escape(one['rate'].replace('_', ' '))}"
            f" {_percent(one['numerator'], one['denominator'])}</b>"
            f" ({one['numerator']:,} of {one['denominator']:,}; {escape(one['worst_level'])};"
            f" {escape(places)}), opened {opened:%d %b %H:%M}, {until}."
            f"<br>{escape(one['advice'])}</div>"
        )
    return f"<section><h2>Incidents</h2>{''.join(rows) or '<p>None.</p>'}</section>"


def _trend(overview: Document, zone: ZoneInfo) -> str:
    trend = overview["trend"]
    if not trend["steps_s"]:
        return ""
    moments = [datetime.fromtimestamp(at, zone) for at in trend["steps_s"]]
    names = ("sent", "delivered", "bounced", "cohort_opened", "cohort_clicked")
    rows = [
        (f"{at:%a %d %b %H:%M}", *(f"{_value(counts, name):,}" for name in names))
        for at, counts in zip(moments, trend["counts"], strict=True)
    ]
    pictures = "".join(
        f"<h3>{label}</h3>{_picture(label, moments, _series(trend, name))}"
        for label, name in (("Delivered", "delivered"), ("Opened, by send time", "cohort_opened"))
    )
    heads = ("From", "Sent", "Delivered", "Bounced", "Opened", "Clicked")
    return (
        f"<section><h2>Course</h2>{pictures}"
        '<p class="soft">Dashed: the period before.</p></section>'
        f'<section class="long">{_table(heads, rows)}</section>'
    )


def _series(trend: Document, name: str) -> tuple[list[int], list[int]]:
    before = trend["before"] or []
    return [_value(row, name) for row in trend["counts"]], [_value(row, name) for row in before]


def _picture(label: str, moments: Sequence[datetime], series: tuple[list[int], list[int]]) -> str:
    """A line chart as SVG."""
    now, before = series
    top = max([1, *now, *before])
    room = _WIDTH - _LEFT - 8

    def x(place: int) -> float:
        return _LEFT + room * place / max(1, len(now) - 1)

    def y(value: int) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 12) * value / top

    def line(values: Sequence[int], name: str) -> str:
        points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(values))
        return f'<polyline class="{name}" points="{points}"/>' if values else ""

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        f'/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,}</text>'
        for value in dict.fromkeys((0, top // 2, top))
    )
    every = max(1, -(-len(moments) // 8))
    ticks = "".join(
        f'<text x="{x(place):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{at.day} {at:%b}</text>'
        for place, at in enumerate(moments)
        if place % every == 0
    )
    said = f"{label}: {sum(now):,} in this period, {sum(before):,} in the one before"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{grid}{ticks}{line(before, 'before')}{line(now, 'now')}</svg>"
    )


def _listed(overview: Document) -> tuple[list[tuple[Any, ...]], int]:
    """Campaigns with most mail first, and how many are left out."""
    listed = sorted(
        overview["campaigns"], key=lambda one: (one["id"] == "", -_value(one["counts"], "sent"))
    )
    rows = [
        (
            one["name"] or one["id"] or "(no campaign)", f"{_value(one['counts'], 'sent'):,}",
            *(_rate(one["counts"], name) for name in _RATES),
        )
        for one in listed[:CAMPAIGNS_MAX]
    ]  # fmt: skip
    return rows, len(listed) - len(rows) + overview["campaigns_left_out"]


def _campaigns(overview: Document) -> str:
    rows, left = _listed(overview)
    more = f'<p class="soft">And {left:,} more with less mail.</p>' if left else ""
    heads = ("Campaign", "Sent", *(_metric(name).label for name in _RATES))
    return f'<section class="long"><h2>Campaigns</h2>{_table(heads, rows)}{more}</section>'


def _mailboxes(deliverability: Document) -> str:
    rows = [
        (
            one["mailbox"] or "unknown", f"{_value(one['counts'], 'sent'):,}",
            *(_rate(one["counts"], name) for name in _RATES),
        )
        for one in deliverability["mailboxes"][:15]
    ]  # fmt: skip
    heads = ("Mailbox provider", "Sent", *(_metric(name).label for name in _RATES))
    return f"<section><h2>Mailbox providers</h2>{_table(heads, rows)}</section>"


def _bounces(deliverability: Document) -> str:
    rows = [
        (
            f"{one['bounce_class']}: {one['bounce_reason'].replace('_', ' ')}",
            f"{one['messages']:,}", *BOUNCES.get(one["bounce_reason"], ("", "")),
        )
        for one in deliverability["bounces"][:12]
    ]  # fmt: skip
    table = _table(("Reason", "Messages", "What it means", "What to do"), rows, numbers={1})
    return f"<section><h2>Why mail bounced</h2>{table}</section>"


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Any]],
    numbers: set[int] | None = None,
) -> str:
    """A table; all columns but the first are numbers, unless ``numbers`` says which ones. A cell is
    a text, or a text and a smaller one below it."""
    if not rows:
        return "<p>Nothing in this period.</p>"
    of_numbers = set(range(1, len(heads))) if numbers is None else numbers

    def cell(tag: str, place: int, value: Any) -> str:
        name = ' class="number"' if place in of_numbers else ""
        big, small = value if isinstance(value, tuple) else (value, "")
        below = f'<div class="soft">{escape(small)}</div>' if small else ""
        return f"<{tag}{name}>{escape(str(big))}{below}</{tag}>"

    def line(tag: str, values: Sequence[Any]) -> str:
        return f"<tr>{''.join(cell(tag, place, value) for place, value in enumerate(values))}</tr>"

    return (
        f"<table><thead>{line('th', heads)}</thead>"
        f"<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
    )
