"""What the demo shows: a live picture on a terminal, plain lines elsewhere.

Invariants:
1. Nothing is computed here; the figures are passed as a ``View``.
2. A figure that is not known yet is shown as a dash, never as zero.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.simulation.ledger import Ledger
from streams.terminal.visible import visible

OPENING = """\
Simulated mail providers post signed webhooks to the real ingress. Faust agents deduplicate, enrich
and count the events; ClickHouse serves the figures. What to look at:
  - the funnel grows; one request in ten is sent twice or more, and nothing is counted twice
  - trade-fair-contacts exceeds 5 % hard bounces, which opens an incident after a minute
  - winter-collection is mostly opened by Apple's prefetch: nobody can know how much of it was read
  - dead addresses go to the suppressions topic, first human clicks to the engagement topic
  - a CRM on this machine gets each of these clicks within seconds, as a signed webhook
  - forged requests are refused, and the answer tells an attacker nothing
"""


@dataclass(slots=True)
class View:
    """The figures at one moment.

    Attributes:
        ledger: what was sent.
        campaigns: rows of ``campaign_summary``.
        suppressed: addresses that must not be mailed any more.
        follow_ups: first human clicks.
        crm: the newest lines of the customer system that gets the clicks.
        crm_got: clicks that it got.
        fresh_p50_s: median time from the answer 200 until a query returns the row, seconds.
    """

    ledger: Ledger
    seconds: float = 0.0
    stored: int = 0
    suppressed: int = 0
    follow_ups: int = 0
    fresh_p50_s: float | None = None
    fresh_p99_s: float | None = None
    campaigns: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    crm: list[str] = field(default_factory=list)
    crm_got: int = 0
    dashboard_url: str = ""
    trouble: dict[str, int] = field(default_factory=dict)


def percent(value: float | None) -> str:
    """A rate for people."""
    return "–" if value is None else f"{100 * value:.2f} %"


def seconds(value: float | None) -> str:
    """A duration for people."""
    return "–" if value is None else f"{value:.2f} s"


QUERY = 'mailpulse query "SELECT campaign_id, bounce_rate, click_rate FROM campaign_summary"'
"""An example to paste into another terminal."""


def picture(view: View) -> Group:
    """The whole screen."""
    funnel = Table.grid(padding=(0, 3))
    delivered = sum(int(row["delivered"]) for row in view.campaigns)
    sent = sum(int(row["sent"]) for row in view.campaigns)
    for name, value in (
        ("events accepted", f"{len(view.ledger.accepted):,}"),
        ("in ClickHouse", f"{view.stored:,}"),
        ("messages attempted", f"{sent:,}"),
        ("messages delivered", f"{delivered:,}"),
        ("duplicates dropped", f"{view.ledger.duplicates_sent:,}"),
        ("forgeries refused", f"{view.ledger.forged_refused:,}"),
        ("dead letters", f"{view.ledger.malformed_accepted:,}"),
        ("addresses suppressed", f"{view.suppressed:,}"),
        ("first human clicks to follow up", f"{view.follow_ups:,}"),
        ("visible after (p50, p99)", f"{seconds(view.fresh_p50_s)}, {seconds(view.fresh_p99_s)}"),
    ):
        funnel.add_row(name, Text(value, style="bold"))
    parts: list[Any] = [
        Panel(funnel, title=f"mailpulse demo, {view.seconds:.0f} s", title_align="left"),
        _campaigns(view),
    ]
    if view.incidents:
        told = "\n".join(map(incident_line, view.incidents[:4]))
        parts.append(Panel(Text(told), title="Incidents"))
    if view.crm:
        told = "\n".join(map(visible, view.crm))
        parts.append(Panel(Text(told), title=f"A CRM gets signed webhooks ({view.crm_got:,})"))
    if view.refusal:
        parts.append(Panel(Text(visible(view.refusal)), title="A forged request was refused"))
    lines = [f"In another terminal:  {QUERY}"]
    if view.dashboard_url:
        lines.append(f"In a browser:         {view.dashboard_url}")
    lines += [f"note: {visible(what)} ({number}×)" for what, number in view.trouble.items()]
    parts.append(Text("\n".join([*lines, "Ctrl-C stops it."])))
    return Group(*parts)


def _campaigns(view: View) -> Table:
    # without edges, names are whole on a terminal of 80 columns
    table = Table(
        title="Campaigns, since their first event", title_justify="left", show_edge=False,
        pad_edge=False,
    )  # fmt: skip
    table.add_column("campaign", overflow="fold")
    for name in ("sent", "hard\nbounces", "all\nbounces", "opened", "at most", "clicked"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in view.campaigns:
        hard = row["hard_bounce_rate"]
        table.add_row(
            Text(visible(str(row["campaign_id"]))),
            f"{int(row['sent']):,}",
            Text(percent(hard), style="bold red" if hard is not None and hard > 0.05 else ""),
            percent(row["bounce_rate"]),
            percent(row["open_rate"]),
            percent(row["open_rate_at_most"]),
            percent(row["click_rate"]),
        )
    return table


def incident_line(one: dict[str, Any]) -> str:
    """An incident in words."""
    where = f" at {one['mailbox_provider']}" if one.get("mailbox_provider") else ""
    return visible(
        f"{one['campaign_id']}{where}: {one['rate']}, {one['level']}, {one['state']}"
        f" ({percent(one['value'])}: {one['numerator']} of {one['denominator']})"
    )


def plain_lines(view: View, told: set[str]) -> list[str]:
    """The figures, and new messages, for a log or a pipe; ``told`` holds the messages so far."""
    ledger = view.ledger
    lines = [
        f"{view.seconds:5.0f} s  accepted {len(ledger.accepted):,}  in ClickHouse {view.stored:,}"
        f"  duplicates dropped {ledger.duplicates_sent:,}"
        f"  forgeries refused {ledger.forged_refused}"
        f"  suppressed {view.suppressed:,}  to follow up {view.follow_ups:,}"
        f"  visible after {seconds(view.fresh_p50_s)} (p50)"
    ]
    once = [f"incident: {incident_line(one)}" for one in view.incidents]
    if view.refusal:
        once.append(f"refused: {view.refusal}")
    once += [f"note: {what}" for what in view.trouble]
    if view.crm:
        lines.append(f"{visible(view.crm[-1])}  ({view.crm_got:,} so far)")
    for line in once:
        key = line.split(" (")[0]
        if key not in told:
            told.add(key)
            lines.append(line)
    return lines


def closing(view: View) -> Group:
    """The final output, which stays on the terminal."""
    return Group(_campaigns(view), Text(QUERY))


def show_opening(console: Console, dashboard_url: str) -> None:
    """Prints the introduction."""
    page = f"  - {dashboard_url} shows the same in a browser\n" if dashboard_url else ""
    console.print(Text(OPENING + page), soft_wrap=True)
