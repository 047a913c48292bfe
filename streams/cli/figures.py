"""Commands for analysts: migrate, query, export, campaigns."""

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from schemas.cloudevents import CLI, Headers, cloud_event
from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.topics import CAMPAIGNS
from streams.cli.clickhouse import ask, table_of
from streams.cli.context import (
    Json,
    codec_of,
    emit,
    now,
    say,
    settings_of,
    table,
    table_or_json,
)
from streams.cli.whole_files import whole_file
from streams.terminal.output import pass_on, percent

campaigns = typer.Typer(help="Campaigns: figures, and facts about them.", no_args_is_help=True)

_SHOWN = (
    "campaign_id, sent, delivered, hard_bounce_rate, bounce_rate, late_bounce_rate, open_rate,"
    " open_rate_at_most, open_rate_with_machine, click_rate, click_rate_at_most, complaint_rate"
)
_HEADINGS = {
    "campaign_id": "campaign", "sent": "sent", "delivered": "delivered", "bounce_rate": "bounced",
    "open_rate": "opened", "open_rate_at_most": "at most", "click_rate": "clicked",
    "click_rate_at_most": "at most", "complaint_rate": "complaints",
}  # fmt: skip
"""Columns of the list for people, of those in ``_SHOWN``, and what heads each."""
Raw = Annotated[
    bool,
    typer.Option("--raw", help="Do not escape control characters; for pipes and files."),
]
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)
_FORMATS = {"csv": "CSVWithNames", "parquet": "Parquet", "jsonl": "JSONEachRow"}


def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be applied.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Apply it (the default).")] = False,
    json: Json = False,
) -> None:
    """Migrates ClickHouse's tables and views to this version, as the sink does when it starts."""
    from analytics import migrate as migrations
    from analytics.client import connect

    if plan and apply:
        raise typer.BadParameter("--plan or --apply, not both")
    settings = settings_of()
    client = connect(settings)
    steps = migrations.plan(client) if plan else migrations.apply(client, settings)
    if json:
        emit([{"number": step.number, "name": step.name} for step in steps])
        return
    for step in steps:
        say(f"{'would apply' if plan else 'applied'} {step.number:04} {step.name}")
    if not steps:
        say("Nothing to do: the database is at this version.")


def query(
    sql: Annotated[str, typer.Argument(help="A SELECT.")],
    fmt: Annotated[
        str | None,
        typer.Option("--format", help="Any ClickHouse format. Default: PrettyCompact, or TSV."),
    ] = None,
    raw: Raw = False,
    json: Json = False,
) -> None:
    """Queries ClickHouse and prints the answer with control characters escaped.

    Example: mailpulse query "SELECT campaign_id, bounce_rate, click_rate FROM campaign_summary"
    """
    if json:
        columns, rows = table_of(settings_of(), sql)
        emit([dict(zip(columns, row, strict=True)) for row in rows])
        return
    terminal = "PrettyCompactMonoBlock" if sys.stdout.isatty() else "TabSeparatedWithNames"
    answer = ask(settings_of(), sql, fmt or terminal, options={"output_format_pretty_color": "0"})
    pass_on(answer.format, answer.pieces, raw=raw)


def export(
    view: Annotated[str, typer.Argument(help="A view or table, such as campaign_summary.")],
    fmt: Annotated[str, typer.Option("--format", help="csv, parquet or jsonl.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File. Default: stdout.")
    ] = None,
    raw: Raw = False,
) -> None:
    """Writes a whole view to a file, which gets its name only when it is complete.

    Example: mailpulse export campaign_summary --format parquet -o campaigns.parquet
    """
    if not _NAME.fullmatch(view):
        raise typer.BadParameter(f"{view!r} is not the name of a view or table")
    # the analysts' listener accepts parameters for values only, not for names
    write_answer(f"SELECT * FROM {view}", {}, fmt, output, raw=raw)


def write_answer(
    sql: str, parameters: dict[str, str], fmt: str, output: Path | None, *, raw: bool
) -> None:
    """Writes a query's answer to a file or to stdout.

    Raises:
        BadInput: the file can't be written.
    """
    if fmt not in _FORMATS:
        raise typer.BadParameter(f"--format {fmt}: one of {', '.join(_FORMATS)}")
    # FINAL hides duplicate rows of a replay in tables; views use it themselves
    answer = ask(settings_of(), sql, _FORMATS[fmt], parameters, {"final": "1"})
    if output is None:
        pass_on(answer.format, answer.pieces, raw=raw)
        return
    written = 0
    with whole_file(output) as file:
        for piece in answer.pieces:
            written += file.write(piece)
    say(f"{output}: {written:,} bytes")


@campaigns.command("ls")
def campaigns_ls(
    json: Json = False,
    last: Annotated[int, typer.Option("--last", "-n", help="How many.", min=1)] = 50,
) -> None:
    """Lists campaigns, latest first, with their rates since their first event.

    A rate of opens or clicks by humans has its upper end beside it, «at most».
    """
    columns, rows = table_of(
        settings_of(),
        f"SELECT {_SHOWN} FROM campaign_summary ORDER BY last_minute DESC LIMIT {{last:UInt32}}",
        {"last": str(last)},
    )
    if json:
        table_or_json(json, "", columns, rows)
        return
    shown = [dict(zip(columns, row, strict=True)) for row in rows]
    table(
        "", tuple(_HEADINGS.values()), [[_cell(row, name) for name in _HEADINGS] for row in shown]
    )


def _cell(row: Mapping[str, object], name: str) -> object:
    value = row[name]
    return percent(value) if isinstance(value, float) else value


@campaigns.command("show")
def campaigns_show(campaign: str, json: Json = False) -> None:
    """Shows every figure of one campaign."""
    columns, rows = table_of(
        settings_of(),
        "SELECT * FROM campaign_summary WHERE campaign_id = {campaign:String}",
        {"campaign": campaign},
    )
    if not rows:
        raise BadInput("no_such_campaign", campaign)
    figures = dict(zip(columns, rows[0], strict=True))
    if json:
        emit(figures)
    else:
        table(campaign, ("figure", "value"), list(figures.items()))


@campaigns.command("set")
def campaigns_set(
    campaign: str,
    name: Annotated[str, typer.Option(help="Name for people.")] = "",
    owner: Annotated[str, typer.Option(help="Who is responsible for it.")] = "",
    expected: Annotated[
        int | None, typer.Option(help="Intended number of recipients.", min=0)
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag; may be repeated.")] = None,
) -> None:
    """Writes the facts about a campaign, replacing earlier ones."""
    at_us = int(now() * 1_000_000)
    facts = {
        "campaign_id": campaign, "name": name, "owner": owner, "started_at": None,
        "expected_recipients": expected, "tags": tag or [], "updated_at": at_us,
    }  # fmt: skip
    settings = settings_of()
    value = codec_of(settings).encode("campaign", facts)
    headers = cloud_event("campaign", CLI, f"{campaign}-{at_us}", at_us)
    asyncio.run(_produce(settings, campaign.encode(), value, headers))
    say(f"{campaign}: written")


async def _produce(settings: Settings, key: bytes, value: bytes, headers: Headers) -> None:
    from streams.kafka.clients import producer

    async with producer(settings) as client:
        await client.send_and_wait(CAMPAIGNS, value, key, headers=headers)


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    for command in (query, export):
        app.command(rich_help_panel="Figures")(command)
    app.add_typer(campaigns, name="campaigns", rich_help_panel="Figures")
    app.command(rich_help_panel="Set-up")(migrate)
