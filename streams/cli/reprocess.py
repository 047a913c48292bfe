"""``mailpulse reprocess``: classifies past opens and clicks by new rules; its progress, its abort.

Invariants:
1. The command starts and watches a run; the workers do the work. Ending the command does not end
   the run; the same command again goes on watching, with «7d» counted from the run's start.
2. Everything is checked before anything is written.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput
from streams.cli.context import (
    FAILED,
    Json,
    codec_of,
    emit,
    now,
    read_text,
    say,
    settings_of,
    table,
)
from streams.cli.tail import moment

if TYPE_CHECKING:
    from streams.enrich.epochs import Epoch
    from streams.reprocess.plan import PartProgress, Planner, RunProgress
    from streams.reprocess.rules_topic import Rulebook

WATCH_S = 1.0
RATE_S = 3.0
"""Time over which ``status`` measures the rate; workers say each second how far they are."""


group = typer.Typer(invoke_without_command=True)
From = Annotated[
    str, typer.Option("--from", help="10m, 2h, 1d or an ISO 8601 time: arrivals since then.")
]
RulesFile = Annotated[
    Path | None,
    typer.Option(
        help="Rules in the form of streams/classify/tables/machines.toml, with a new version."
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        help="Also by the rules in force, as after a release that combines events otherwise; "
        "then --rules may be left out.",
    ),
]
Plan = Annotated[bool, typer.Option("--plan", help="Only show what would be read, by partition.")]


@group.callback()
def reprocess(
    context: typer.Context,
    since: From = "",
    rules: RulesFile = None,
    again: Again = False,
    plan: Plan = False,
    json: Json = False,
) -> None:
    """Classifies opens and clicks by new rules, from a time in the past on.

    Every worker reads the new rules from Kafka and processes all records from that time on again,
    in a second store. Live events go on by the earlier rules meanwhile; then each partition is
    switched, and the events that are judged otherwise are written again. Figures are replaced,
    never added up. Nothing is published twice; engagement that no longer holds is withdrawn.

    Example: mailpulse reprocess --from 2026-11-20T00:00Z --rules machines.toml --plan
    """
    if context.invoked_subcommand is not None:
        return
    if not since or (rules is None and not again):
        said = "--from and --rules are needed, or --from and --again for the rules in force"
        raise typer.BadParameter(said, context)
    text = None if rules is None else read_text(rules)
    moment(since, now())  # an error is reported before Kafka is asked
    raise typer.Exit(asyncio.run(run(text, since, again=again, only_plan=plan, json=json)))


@group.command()
def status(json: Json = False) -> None:
    """Shows how far reprocessing is, by partition: share, records a second, time left.

    Example: mailpulse reprocess status
    """
    raise typer.Exit(asyncio.run(_status(json=json)))


@group.command()
def abort() -> None:
    """Ends reprocessing as if it had not begun, until the first partition is switched.

    Example: mailpulse reprocess abort
    """
    asyncio.run(_abort())


def since_of(given: str, at_ms: int) -> int:
    """The time that ``--from`` means if given at ``at_ms``; both in milliseconds since 1970."""
    return round(moment(given, at_ms / 1000) * 1000)


@asynccontextmanager
async def _planner() -> AsyncIterator[tuple["Planner", "Rulebook"]]:
    from streams.kafka import admin
    from streams.reprocess.plan import Planner
    from streams.reprocess.rules_topic import Rulebook
    from streams.worker.worker import look_ups_of

    settings = settings_of()
    log_id = await admin.log_id(settings)
    own = look_ups_of(settings).rules.version
    async with Rulebook(settings, codec_of(settings)) as rulebook:
        yield Planner(settings, rulebook, log_id, own), rulebook


async def _abort() -> None:
    async with _planner() as (planner, _):
        epoch = await planner.abort()
    say(f"Epoch {epoch.number} is aborted: the earlier rules hold, and nothing has changed.")


async def _status(*, json: bool) -> int:
    async with _planner() as (planner, _):
        first = await planner.by_partition()
        began_s = time.monotonic()
        if first is None or all(part.state == "done" for part in first[1]):
            emit({"partitions": []}) if json else say("No run is under way.")
            return 0
        await asyncio.sleep(RATE_S)
        last = await planner.by_partition() or first
        seconds = time.monotonic() - began_s
    _show_status(first, last, seconds, json=json)
    return 0


def _show_status(
    first: "tuple[Epoch, list[PartProgress]]", last: "tuple[Epoch, list[PartProgress]]",
    seconds: float, *, json: bool,
) -> None:  # fmt: skip
    epoch, parts = last
    before = {part.partition: part.done for part in first[1]}
    rate = max(0.0, sum(part.done - before.get(part.partition, 0) for part in parts) / seconds)
    left = sum(part.until - part.done for part in parts)
    columns = ("partition", "state", "from_offset", "reached", "to_offset", "records_left")
    rows = [
        (part.partition, part.state, part.begin, part.done, part.until, part.until - part.done)
        for part in parts
    ]
    seconds_left = round(left / rate) if rate else None
    if json:
        emit({"epoch": epoch.number, "rules_version": epoch.version, "records_left": left,
              "records_per_s": round(rate), "seconds_left": seconds_left,
              "partitions": [dict(zip(columns, row, strict=True)) for row in rows]})  # fmt: skip
        return
    after = "" if seconds_left is None else f", {seconds_left:,} s left"
    title = f"epoch {epoch.number}, rules version {epoch.version}: {left:,} records left, "
    table(f"{title}{rate:,.0f} records/s{after}", columns, rows)


async def run(text: str | None, given: str, *, again: bool, only_plan: bool, json: bool) -> int:
    """Begins a run, or finds the one that was begun, and watches it; returns the exit code.

    Args:
        text: the rules; ``None``: those in force.
        given: from when on, as the option says.
        again: also by the rules in force.
        only_plan: begin nothing.

    Raises:
        BadInput: it may not begin.
        Unavailable: Kafka is away.
    """
    from streams.cli.rules import own_text
    from streams.reprocess.plan import is_begun, iso

    async with _planner() as (planner, rulebook):
        since = partial(since_of, given)
        newest = (await rulebook.refresh()).newest
        if text is None:
            text = own_text(settings_of()) if newest is None else newest.text
        if not is_begun(newest, text, since):
            epoch, bounds = await planner.plan(text, since, int(now() * 1000), again=again)
            _show(epoch, bounds, json=json and only_plan)
            if only_plan:
                return 0
            await planner.begin(epoch)
        elif only_plan:
            raise BadInput("begun", "this run has begun already")
        elif newest is not None and not json:
            say(f"Begun at {iso(newest.begun_at)}, --from {iso(newest.from_time)}: watching it.")
        return await watch(planner, rulebook, json=json)


def _show(epoch: Any, bounds: Any, *, json: bool) -> None:
    columns = ("partition", "log_start", "from_offset", "to_offset", "records")
    rows = [
        (partition, one.start, one.span.begin, one.span.until, one.span.until - one.span.begin)
        for partition, one in sorted(bounds.items())
    ]
    total = sum(row[-1] for row in rows)
    if json:
        parts = [dict(zip(columns, row, strict=True)) for row in rows]
        emit({"epoch": epoch.number, "rules_version": epoch.version, "records": total,
              "partitions": parts})  # fmt: skip
        return
    title = f"epoch {epoch.number}, rules version {epoch.version}: {total:,} records"
    table(title, columns, rows)


async def watch(planner: "Planner", rulebook: "Rulebook", *, json: bool) -> int:
    """Reports the run's progress until it is over."""
    began_s, began_done = time.monotonic(), None
    watched = rulebook.history.newest
    while True:
        state = await planner.progress()
        if watched is not None and rulebook.history.is_aborted(watched.number):
            say("The run was aborted: the earlier rules hold.")
            return FAILED
        if state is None:
            say("The raw topic was recreated: there is nothing left to reprocess.")
            return FAILED
        if began_done is None or not state.done:  # workers begin later than the command
            began_s, began_done = time.monotonic(), state.done
        seconds = time.monotonic() - began_s
        if not json:
            say(progress_line(state, (state.done - began_done) / max(1e-3, seconds)))
        if state.over:
            if json:
                emit({"records": state.records, "seconds": round(seconds, 1)})
            return 0
        await asyncio.sleep(WATCH_S)


def progress_line(state: "RunProgress", rate: float) -> str:
    """A run's progress: share, records, records per second, seconds left, waiting partitions."""
    parts = [
        f"{100 * state.done / max(1, state.records):.1f} % of {state.records:,} records",
        f"{rate:,.0f} records/s",
    ]
    if rate and not state.over:
        parts.append(f"{(state.records - state.done) / rate:,.0f} s left")
    if state.beside:
        plural = "partition is" if state.beside == 1 else "partitions are"
        parts.append(f"{state.beside} {plural} still judged by the earlier rules")
    if state.waiting:
        plural = "partition waits" if state.waiting == 1 else "partitions wait"
        parts.append(f"{state.waiting} {plural} for a worker")
    return ", ".join(parts)


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.add_typer(group, name="reprocess", rich_help_panel="Kafka")
    app.command("replay", hidden=True, deprecated=True)(reprocess)  # its name until 0.2
