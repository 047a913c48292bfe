"""``mailpulse report``: a day, week or month of email as one HTML file.

Invariant: its figures are those of the dashboard, from the same documents; addresses in wordings
are masked.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import BadInput
from streams.cli.context import lines_of, now, say, settings_of
from streams.cli.whole_files import whole_file


def report(
    to: Annotated[Path, typer.Option("--to", help="The file to write.", dir_okay=False)],
    period: Annotated[str, typer.Option(help="The last whole day, week or month.")] = "week",
    zone: Annotated[str, typer.Option(help="Whose days, as in Europe/Vienna.")] = "UTC",
) -> None:
    """Writes a report of the last day, week or month as one HTML file that prints well.

    Example: mailpulse report --period week --zone Europe/Vienna --to week.html
    """
    from analytics.dashboard import report as reports
    from analytics.dashboard.steps import zone_of

    if period not in reports.PERIODS:
        raise BadInput("bad_period", f"--period: one of {', '.join(reports.PERIODS)}")
    stretch = reports.last(period, now(), zone_of(zone))
    text = reports.report(*asyncio.run(_documents(stretch.name, zone)), now())
    with whole_file(to) as file:
        file.write(text.encode())
    say(f"Wrote {to}.")


async def _documents(period: str, zone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of the overview and of the deliverability page."""
    from analytics.client import reader
    from analytics.dashboard.asking import Asker, ClickHouseQuery
    from analytics.dashboard.documents import Documents
    from analytics.dashboard.hub import View

    settings = settings_of()
    query = ClickHouseQuery(lambda: reader(settings))

    async def no_pipeline() -> dict[str, Any]:
        return {}

    lines = lines_of(settings).levels_of
    documents = Documents(Asker(query), now, False, {}, no_pipeline, lines)
    try:
        return (
            await documents.build(View("overview", period, zone=zone)),
            await documents.build(View("deliverability", period, zone=zone)),
        )
    finally:
        query.close()


def register(app: typer.Typer) -> None:
    """Adds this command to ``app``."""
    app.command(rich_help_panel="Figures")(report)
