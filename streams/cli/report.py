"""``mailpulse report``: a day, week or month of email, as one HTML file or by mail.

Invariant: its figures are those of the dashboard, from the same documents; addresses in wordings
are masked.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput
from streams.cli.context import destinations_of, lines_of, now, say, settings_of
from streams.cli.report_sending import Sent, mail_table
from streams.cli.report_sending import send as send_mail
from streams.cli.whole_files import whole_file

if TYPE_CHECKING:
    from streams.deliver.channels.tables import Email


def report(
    to: Annotated[
        Path | None, typer.Option("--to", help="The file to write.", dir_okay=False)
    ] = None,
    send: Annotated[
        str, typer.Option("--send", help="Mail it: a destination of kind email.", metavar="NAME")
    ] = "",
    period: Annotated[str, typer.Option(help="The last whole day, week or month.")] = "week",
    zone: Annotated[str, typer.Option(help="Whose days, as in Europe/Vienna.")] = "UTC",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --send: print the mail, send nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --send: also to those who have it.")
    ] = False,
) -> None:
    """Makes a report of the last day, week or month: as one HTML file, by mail, or both.

    Mail goes by the server of [destinations.NAME], over TLS. Whoever took the report of a period is
    not sent it again, also by a later run with the same data directory.

    Example: mailpulse report --period week --zone Europe/Vienna --send marketing
    """
    from analytics.dashboard import report as reports
    from analytics.dashboard.steps import zone_of

    if period not in reports.PERIODS:
        raise BadInput("bad_period", f"--period: one of {', '.join(reports.PERIODS)}")
    if to is None and not send:
        raise BadInput("nothing_to_do", "give --to FILE, --send NAME, or both")
    if (dry_run or again) and not send:
        raise BadInput("nothing_to_send", "--dry-run and --again are about --send NAME")
    settings = settings_of()
    table = mail_table(destinations_of(settings), send) if send else None  # before the database
    stretch = reports.last(period, now(), zone_of(zone))
    documents = asyncio.run(_documents(stretch.name, zone))
    text = reports.report(*documents, now())
    if to is not None:
        with whole_file(to) as file:
            file.write(text.encode())
        say(f"Wrote {to}.")
    if table is not None:
        key = f"{period} {stretch.name} {zone}" + (f" {now()}" if again else "")
        _mail(table, documents, text, key, dry_run)


def _mail(
    table: "Email",
    documents: tuple[dict[str, Any], dict[str, Any]],
    whole: str,
    key: str,
    dry_run: bool,
) -> None:
    from analytics.dashboard import report as reports
    from streams.deliver.channels.report_mail import report_mail

    overview, _ = documents
    title = reports.title_of(overview)
    forms = (
        reports.plain(overview, now()), reports.report(*documents, now(), pictures=False), whole
    )  # fmt: skip
    file = f"email-{overview['period']['start_s']}-{overview['period']['end_s']}.html"
    mail = report_mail(table, key, title, forms, file, now())
    if dry_run:
        for name, value in mail.items():
            say(f"{name}: {value}")
        say(f"\n{forms[0]}")
        say(f"Nothing was sent: a dry run. It would go by {table.server}:{table.port_used}.")
        return
    sent = Sent(settings_of().data_dir, table.name)
    count = asyncio.run(send_mail(table, mail, key, sent))
    if count:
        say(f"Sent {title!r} to {count} {'address' if count == 1 else 'addresses'}.")
    else:
        say(f"{title!r} was sent before to all of {table.name}; --again sends it once more.")


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
