"""Commands for Kafka: topics, lag."""

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import BadInput
from schemas.topics import TOPICS
from streams.cli.context import (
    Json,
    codec_of,
    destinations_of,
    emit,
    put,
    say,
    settings_of,
    table,
    table_or_json,
)
from streams.terminal.output import clear

if TYPE_CHECKING:
    from streams.kafka.admin import Lag

group = typer.Typer(help="Kafka topics: create and show them.", no_args_is_help=True)


@group.command("apply")
def apply(json: Json = False) -> None:
    """Creates missing topics; refuses changes that would lose records or move keys.

    With MAILPULSE_SCHEMA_REGISTRY_URL set it also registers the schemas, each subject with the
    compatibility that its topic promises.

    Example: MAILPULSE_PARTITIONS=24 mailpulse topics apply
    """
    from streams.kafka import admin

    settings = settings_of()
    report = asyncio.run(admin.topics_apply(settings))
    codec_of(settings)
    if json:
        emit({"created": report.created, "kept": report.kept, "warnings": report.warnings})
        return
    for name in report.created:
        say(f"made  {name}")
    for name in report.kept:
        say(f"there {name}")
    for line in report.warnings:
        say(f"note: {line}")


@group.command("show")
def show(json: Json = False) -> None:
    """Shows each topic: partitions, replicas, retention, key."""
    from streams.kafka import admin

    cluster = asyncio.run(admin.topics_show(settings_of()))
    rows: list[tuple[object, ...]] = []
    for topic in TOPICS:
        state = cluster.topics.get(topic.name)
        kept = (
            "newest of each key"
            if topic.compacted
            else f"{(topic.retention_ms or 0) // 86_400_000} days"
        )
        rows.append(
            (
                topic.name,
                state.partitions if state else None,
                state.replication if state else None,
                state.in_sync if state else None,
                kept,
                topic.key,
                state.topic_id if state else "missing: mailpulse topics apply",
            )
        )
    columns = ("topic", "partitions", "replicas", "in_sync", "kept", "key", "topic_id")
    table_or_json(json, f"{cluster.brokers} broker(s)", columns, rows)


@group.command("acls")
def acls(
    principal: Annotated[
        str, typer.Option(help="User of a role; {role} stands for its name.")
    ] = "User:mailpulse-{role}",
    bootstrap: Annotated[str, typer.Option(help="Brokers in the commands.")] = "$KAFKA",
    json: Json = False,
) -> None:
    """Prints the rights that each role needs in Kafka, as kafka-acls.sh commands.

    Example: mailpulse topics acls | sh
    """
    from streams.kafka.acl import commands, rules

    settings = settings_of()
    groups = [name for one in destinations_of(settings).values() for name in one.group_names]
    granted = rules(settings, principal, groups)
    if json:
        emit([rule.document() for rule in granted])
        return
    for line in commands(granted, bootstrap):
        put(line)


def lag(
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 2 s until Ctrl-C.")] = False,
    only: Annotated[str | None, typer.Option("--group", help="Only this consumer group.")] = None,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Each partition, not each topic.")
    ] = False,
) -> None:
    """Shows how many records each consumer group still has to read, per topic.

    --json: one object per partition.
    """
    from streams.kafka import admin

    settings = settings_of()
    while True:
        rows = [one for one in asyncio.run(admin.lag(settings)) if only in (None, one.group)]
        if only is not None and not rows:
            raise BadInput("no_such_group", f"{only}: it has committed nothing")
        if watch and not json:
            clear()
        title = f"{sum(row.lag for row in rows):,} records to read"
        columns = ("group", "topic", "partition", "committed", "end", "lag")
        if json or partitions:
            each = [(r.group, r.topic, r.partition, r.committed, r.end, r.lag) for r in rows]
            table_or_json(json, title, columns, each)
        else:
            table(title, ("group", "topic", "partitions", "most_behind", "lag"), by_topic(rows))
        if not watch:
            return
        time.sleep(2)


def by_topic(rows: "Iterable[Lag]") -> list[tuple[str, str, int, int, int]]:
    """Group, topic, its partitions, the greatest lag of one, the lag of all; the worst first."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        found.setdefault((row.group, row.topic), []).append(row.lag)
    shown = [(*key, len(each), max(each), sum(each)) for key, each in found.items()]
    return sorted(shown, key=lambda one: (-one[4], one[:2]))


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="topics", rich_help_panel="Kafka")
    app.command(rich_help_panel="Kafka")(lag)
