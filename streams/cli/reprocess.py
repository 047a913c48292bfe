"""``mailpulse reprocess``: classifies past opens and clicks by new rules.

Invariants:
1. The command starts and watches a run; the workers do the work. Ending the command does not end
   the run; the same command again goes on watching, with «7d» counted from the run's start.
2. Everything is checked before anything is written.
"""

import asyncio
import time
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
    from streams.reprocess.plan import RunProgress

WATCH_S = 1.0


def reprocess(
    since: Annotated[
        str, typer.Option("--from", help="10m, 2h, 1d or an ISO 8601 time: arrivals since then.")
    ],
    rules: Annotated[
        Path,
        typer.Option(
            help="Rules in the form of streams/classify/tables/machines.toml, with a new version."
        ),
    ],
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Also by the rules in force, as after a release that combines events otherwise.",
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would be read, by partition.")
    ] = False,
    json: Json = False,
) -> None:
    """Classifies opens and clicks by new rules, from a time in the past on.

    Every worker reads the new rules from Kafka and processes all records from that time on again,
    in a second store. Live events go on by the earlier rules meanwhile; then each partition is
    switched. Figures are replaced, never added up. Nothing is published twice; engagement that no
    longer holds is withdrawn. Without state of its own a worker goes back instead, and live events
    wait.

    Example: mailpulse reprocess --from 2026-11-20T00:00Z --rules machines.toml --plan
    """
    text = read_text(rules)
    moment(since, now())  # an error is reported before Kafka is asked
    raise typer.Exit(asyncio.run(_reprocess(text, since, again=again, only_plan=plan, json=json)))


def since_of(given: str, at_ms: int) -> int:
    """The time that ``--from`` means if given at ``at_ms``; both in milliseconds since 1970."""
    return round(moment(given, at_ms / 1000) * 1000)


async def _reprocess(text: str, given: str, *, again: bool, only_plan: bool, json: bool) -> int:
    from streams.kafka import admin
    from streams.reprocess.plan import Planner, is_begun, iso
    from streams.reprocess.rules_topic import Rulebook
    from streams.worker.worker import look_ups_of

    settings = settings_of()
    log_id = await admin.log_id(settings)
    own = look_ups_of(settings).rules.version
    async with Rulebook(settings, codec_of(settings)) as rulebook:
        planner = Planner(settings, rulebook, log_id, own)
        since = partial(since_of, given)
        newest = (await rulebook.refresh()).newest
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
        return await _watch(planner, json=json)


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


async def _watch(planner: Any, *, json: bool) -> int:
    """Reports the run's progress until it is over."""
    began_s, began_done = time.monotonic(), None
    while True:
        state = await planner.progress()
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
    app.command(rich_help_panel="Kafka")(reprocess)
    app.command("replay", hidden=True, deprecated=True)(reprocess)  # its name until 0.2
