"""``mailpulse rules``: fleets of scanners are learned, shown, and accepted by a person.

Invariants:
1. ``propose`` changes nothing: it reads, shows, and writes a file. It starts from the rules in
   force, and never from those that are shipped if others were accepted since.
2. ``accept`` is a reprocessing run (``streams.cli.reprocess``): everything is checked before
   anything is written, and the same command again watches the run that it began.
3. Recipients are masked. Addresses of fleets are shown: they are what is proposed.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analytics.verdicts import fleet_questions
from schemas.errors import BadInput
from schemas.settings import Settings
from streams.classify.actor_rules import Rules
from streams.classify.fleet_rules import fleets_in, proposal_of
from streams.cli import fleet_report as report
from streams.cli.clickhouse import dicts_of
from streams.cli.context import Json, codec_of, emit, now, put, read_file, say, settings_of
from streams.cli.fleet_effects import Effect, effects
from streams.cli.fleet_rows import Touched, seen_since, touched
from streams.cli.published_networks import compare, days_compared, note_compared
from streams.cli.reprocess import run
from streams.cli.tail import moment

if TYPE_CHECKING:
    from streams.enrich.epochs import Epoch

group = typer.Typer(
    help="Rules that tell people from machines; fleets of scanners that were learned.",
    no_args_is_help=True,
)

DAYS_DEFAULT, DAYS_MAX = 30, 396
DAY_S = 86_400
LEFT_NETWORKS = (
    f"only the networks that scan most were looked at, {fleet_questions.ROWS_MAX:,} addresses and"
    " user agents; for others choose fewer --days"
)
LEFT_CAMPAIGNS = (
    f"only {fleet_questions.EVENTS_MAX:,} events were judged again, in the order of campaigns:"
    " later campaigns may change more than is shown, or are missing; choose fewer --days"
)


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules that workers judge by.

    Attributes:
        text: of the rules file.
        says: where they are from, in words.
    """

    text: str
    rules: Rules
    says: str


@group.command("propose")
def propose(
    days: Annotated[
        int, typer.Option(help="Days of events to learn from.", min=1, max=DAYS_MAX)
    ] = DAYS_DEFAULT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Rules file to write. Default: machines-VERSION.toml"),
    ] = None,
    examples: Annotated[int, typer.Option(help="Examples of each campaign.", min=0, max=10)] = 3,
    json: Json = False,
) -> None:
    """Finds networks that click as only fleets of scanners do, and writes a rules file with them.

    It shows what would change in each campaign, with masked examples, and changes nothing: 'rules
    accept' does. A fleet's clicks are probably a machine's, so a rate's interval gets wider: it
    still reaches from humans alone to all that may be human.

    Example: mailpulse rules propose --days 60
    """
    settings, until = settings_of(), int(now()) + 60
    since = until - days * DAY_S
    in_force = asyncio.run(_in_force(settings))
    looked = seen_since(settings, since, until, fleets_in(in_force.rules))
    seen = looked.seen
    if not seen:
        raise BadInput("no_habits", f"in {days} days no network clicked often enough to learn from")
    answer: dict[str, Any] = {"from": in_force.says, "days": days, "addresses": len(seen),
                              "left_out": LEFT_NETWORKS if looked.is_cut else None}  # fmt: skip
    today = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    try:
        proposal = proposal_of(in_force.text, seen, today)
    except ValueError as error:
        raise BadInput("bad_rules", f"{in_force.says}: {error}") from None
    if proposal is None:
        answer |= {"file": None, "fleets": [], "gone": [], "campaigns": [],
                   "campaigns_left_out": None}  # fmt: skip
    else:
        made = Rules.load(proposal.text)
        file = output or Path(f"machines-{made.version}.toml")
        _check_new(file)
        rows = Touched(touched(settings, proposal.networks, since, until))
        answer |= {
            "file": str(file), "rules_version": made.version,
            "fleets": [report.fleet(one) for one in proposal.fleets],
            "gone": [report.gone(rule, said) for rule, said in proposal.gone.items()],
            "campaigns": _campaigns(settings, effects(rows, made, examples)),
        }  # fmt: skip
        answer["campaigns_left_out"] = LEFT_CAMPAIGNS if rows.is_cut else None
        _write(file, proposal.text)
    if json:
        emit(answer)
    else:
        report.say_proposal(answer)


def _campaigns(settings: Settings, found: Iterable[Effect]) -> list[dict[str, Any]]:
    """What would change in each campaign, those of which most events change first."""
    effect = sorted(found, key=lambda one: (-one.events, one.campaign))
    rows = dicts_of(settings, fleet_questions.COUNTS, {}, fleet_questions.COUNTS_COLUMNS)
    counts = {row["campaign_id"]: row for row in rows}
    nothing = dict.fromkeys(fleet_questions.COUNTS_COLUMNS, 0)
    return [report.campaign(one, counts.get(one.campaign, nothing)) for one in effect]


def _check_new(file: Path) -> None:
    """Refuses to write over a file, before the work is done.

    Raises:
        BadInput: it is there already.
    """
    if file.exists():
        raise BadInput("exists", f"{file}: remove it, or name another with --output")


def _write(file: Path, text: str) -> None:
    """Writes a new file.

    Raises:
        BadInput: it is there already, or can't be written.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise BadInput("not_written", f"{file}: {error.strerror}") from None


async def _in_force(settings: Settings) -> InForce:
    """The newest epoch's rules; without one, those that workers start with.

    Raises:
        Unavailable: Kafka is away.
        ConfigError: the settings name a rules file that can't be used.
    """
    own, epochs = await _history(settings)
    if epochs:
        rules = _rules_of(epochs[-1])
        says = f"epoch {epochs[-1].number}, version {rules.version}"
        return InForce(epochs[-1].text, rules, says)
    return InForce(own_text(settings), own, f"version {own.version}, no epoch yet")


def _rules_of(epoch: "Epoch") -> Rules:
    """An epoch's rules.

    Raises:
        BadInput: this version can't read them, as of a newer release.
    """
    try:
        return Rules.load(epoch.text)
    except ValueError as error:
        raise BadInput("bad_rules", f"epoch {epoch.number}: {error}") from None


async def _history(settings: Settings) -> "tuple[Rules, list[Epoch]]":
    """The rules that workers start with, and all epochs that were not aborted.

    Raises:
        Unavailable: Kafka is away.
        ConfigError: the settings name a rules file that can't be used.
    """
    from streams.reprocess.rules_topic import Rulebook
    from streams.worker.worker import look_ups_of

    own = look_ups_of(settings).rules
    async with Rulebook(settings, codec_of(settings)) as rulebook:
        return own, list((await rulebook.refresh()).standing)


def own_text(settings: Settings) -> str:
    """The rules that hold before any epoch."""
    if settings.machine_rules_file is not None:
        return read_file(settings.machine_rules_file)
    return files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")


@group.command("accept")
def accept(
    file: Annotated[Path, typer.Argument(help="Rules file, such as 'rules propose' writes.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Correct arrivals since then: 10m, 2h, 1d or an ISO 8601 time. Default: all that"
            " Kafka still holds.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would be read, by partition.")
    ] = False,
    json: Json = False,
) -> None:
    """Puts a rules file in force, and corrects history by it as far as Kafka holds it.

    The command says since when figures are corrected; those of earlier days stay as they are. The
    same command again watches the run that it began.

    Example: mailpulse rules accept machines-3.toml
    """
    text = _rules_file(file)
    if since is not None:
        moment(since, now())  # an error is reported before Kafka is asked
    raise typer.Exit(asyncio.run(_accept(text, since, only_plan=plan, json=json)))


def _rules_file(file: Path) -> str:
    """The text of a rules file.

    Raises:
        BadInput: it can't be read, or is none.
    """
    try:
        text = read_file(file)
        Rules.load(text)
    except OSError as error:
        raise BadInput("bad_rules", f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput("bad_rules", f"{file} is no rules file: {error}") from None
    return text


async def _accept(text: str, since: str | None, *, only_plan: bool, json: bool) -> int:
    given = since if since is not None else await _earliest(text)
    if not json:
        say(_reach(moment(given, now()), now()))
    return await run(text, given, again=False, only_plan=only_plan, json=json)


async def _earliest(text: str) -> str:
    """The earliest time that a run by these rules can begin at; of one that has begun, its own.

    Raises:
        Unavailable: Kafka is away.
    """
    from streams.kafka import admin
    from streams.reprocess.plan import Planner, iso
    from streams.reprocess.rules_topic import Rulebook

    settings = settings_of()
    log_id = await admin.log_id(settings)
    async with Rulebook(settings, codec_of(settings)) as rulebook:
        newest = (await rulebook.refresh()).newest
        if newest is not None and newest.text == text:
            return iso(newest.from_time)
        planner = Planner(settings, rulebook, log_id, 0)
        return iso(await planner.earliest(int(now() * 1000)))


def _reach(since_s: float, now_s: float) -> str:
    """How far back history is corrected."""
    if since_s <= 0:
        return "Corrects everything that ever arrived: Kafka holds all of it."
    span_s = now_s - since_s
    length = f"{span_s / DAY_S:,.1f} days" if span_s >= DAY_S else f"{span_s / 3_600:.1f} hours"
    return (
        f"Corrects the {length} since {datetime.fromtimestamp(since_s, UTC):%Y-%m-%d %H:%M} UTC;"
        " what arrived earlier keeps its verdicts."
    )


@group.command("ls")
def ls(json: Json = False) -> None:
    """Lists the rules that are and were in force: since when, with which fleets, how old.

    Example: mailpulse rules ls
    """
    settings = settings_of()
    own, epochs = asyncio.run(_history(settings))
    today = datetime.fromtimestamp(now(), UTC).date()
    rows = [report.own_row(own), *(report.epoch_row(one, _rules_of(one)) for one in epochs)]
    for row in rows:
        row["in_force"] = row is rows[-1]
    newest = _rules_of(epochs[-1]) if epochs else own
    compared = days_compared(settings.data_dir)
    answer = {
        "rules": rows,
        "fleets": [report.listed(rule) for rule in fleets_in(newest)],
        "snapshots": [
            report.snapshot(rule, today, compared.get(rule.reason))
            for rule in newest.networks
            if rule.read_on
        ],
    }
    if json:
        emit(answer)
    else:
        report.say_rules(answer)


@group.command("refresh")
def refresh(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Rules file to write. Default: machines-VERSION.toml"),
    ] = None,
    json: Json = False,
) -> None:
    """Compares copies of published networks, such as Microsoft's, with what is published now.

    It notes the day if they are the same. If not, it writes a rules file for 'rules accept'. A page
    that does not answer within 20 seconds is an error, exit code 4.
    """
    from streams.cli.addresses import fetch

    settings = settings_of()
    today = datetime.fromtimestamp(now(), UTC).date()
    in_force = asyncio.run(_in_force(settings))
    try:
        lines, same, text = compare(in_force.text, today, fetch)
    except ValueError as error:
        raise BadInput("bad_rules", f"{in_force.says}: {error}") from None
    if not (lines or text):
        lines = ["no rule in force has networks that are published somewhere"]
    file = None
    if text is not None:
        file = output or Path(f"machines-{Rules.load(text).version}.toml")
        _check_new(file)
        _write(file, text)
    note_compared(settings.data_dir, same, today)
    if json:
        emit({"file": None if file is None else str(file), "same": sorted(same), "lines": lines})
        return
    for line in lines:
        put(line)
    if file is not None:
        put(f"Written: {file}. Read it, then: mailpulse rules accept {file}")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="rules", rich_help_panel="Figures")
