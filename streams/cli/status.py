"""``mailpulse status``: on one screen what runs, what came in, what waits, what to look at.

Invariants:
1. A part that does not answer is named, and the others are shown all the same; exit code 4 then.
2. Nothing here judges: 'mailpulse doctor' does, and says what to do.
"""

import asyncio
import shutil
from collections.abc import Callable
from typing import Any

import typer

from schemas.addresses import clickhouse_address
from schemas.errors import BadInput, MailpulseError
from schemas.groups import group_by_role
from schemas.settings import Settings
from streams.cli.clickhouse import rows_of
from streams.cli.context import (
    UNAVAILABLE,
    Json,
    emit,
    explain,
    put,
    settings_of,
    sources_of,
    table,
)
from streams.embedded.data_dir import running
from streams.embedded.disk_note import noted
from streams.terminal.output import percent

HOURS = 1
"""What «lately» means on the screen."""
SHOWN_MAX = 5
"""Lines of a kind; the rest are counted."""

_NEWEST = (
    "SELECT source, toFloat64(now64(3)) - toFloat64(newest) FROM freshness WHERE part = 'events'"
)
_LATELY = (
    "SELECT source, toUInt32(count()) FROM events"
    f" WHERE received_at > now() - INTERVAL {HOURS} HOUR GROUP BY source"
)
_LETTERS = (
    "SELECT source, reason, toUInt32(sum(letters)) FROM dead_letter_counts"
    f" WHERE minute > now() - INTERVAL {HOURS} HOUR GROUP BY source, reason ORDER BY 3 DESC"
)
_INCIDENTS = (
    "SELECT campaign_id, mailbox_provider, rate, level, value FROM incidents"
    " WHERE state != 'closed' ORDER BY opened_at DESC"
)
_SILENT = (
    "SELECT source, event_type, toFloat64(now64(3)) - toFloat64(silent_since) FROM source_incidents"
    " WHERE state != 'closed' ORDER BY silent_since"
)


def status(json: Json = False) -> None:
    """Shows on one screen what runs, what came in, what waits, and what to look at.

    Exit code 4 if a part does not answer. What is wrong with it: mailpulse doctor.
    """
    settings = settings_of()
    found: dict[str, Any] = {"pipeline": _pipeline(settings)}
    away: dict[str, str] = {}
    parts: dict[str, Callable[[Settings], dict[str, Any]]] = {
        "sources": _sources, "kafka": _behind, "clickhouse": _stored,
    }  # fmt: skip
    for name, look in parts.items():
        try:
            found |= look(settings)
        except MailpulseError as error:
            away[name] = "; ".join(line.removeprefix("settings: ") for line in explain(error))
    found["unavailable"] = away
    if json:
        emit(found)
    else:
        _show(found)
    if "kafka" in away or "clickhouse" in away:
        raise typer.Exit(UNAVAILABLE)


def _pipeline(settings: Settings) -> dict[str, Any]:
    """Where the pipeline of this machine is; empty values if none runs here."""
    where = running(settings.data_dir)
    if where is None:
        asked = clickhouse_address(settings.clickhouse_dsn.get_secret_value())
        return {
            "running": False, "kafka": settings.kafka_bootstrap,
            "clickhouse": f"{asked.url}/{asked.database}",
        }  # fmt: skip
    return {
        "running": True, "process": where.pid, "data": str(settings.data_dir.resolve()),
        "free_bytes": shutil.disk_usage(settings.data_dir).free,
        "disk_budget": noted(settings.data_dir), "kafka": where.kafka_bootstrap,
        "webhooks": f"{where.ingest_url}/hooks/SOURCE", "dashboard": where.dashboard_url,
        "clickhouse": where.clickhouse_dsn,
    }  # fmt: skip


def _sources(settings: Settings) -> dict[str, Any]:
    sources = sources_of(settings, whole=False, keys=False)
    return {"configured": {name: source.provider for name, source in sources.items()}}


def _behind(settings: Settings) -> dict[str, Any]:
    """Records that each role has still to read."""
    from streams.kafka import admin

    roles = {group: role for role, group in group_by_role(settings).items()}
    behind: dict[str, int] = {}
    for row in asyncio.run(admin.lag(settings)):
        name = roles.get(row.group, row.group)
        behind[name] = behind.get(name, 0) + row.lag
    return {"behind": behind}


def _stored(settings: Settings) -> dict[str, Any]:
    """What ClickHouse knows of sources, dead letters and incidents."""
    try:
        newest = dict(rows_of(settings, _NEWEST, {}, tuple[str, float]))
        lately = dict(rows_of(settings, _LATELY, {}, tuple[str, int]))
        letters = rows_of(settings, _LETTERS, {}, tuple[str, str, int])
        incidents = rows_of(settings, _INCIDENTS, {}, tuple[str, str, str, str, float])
        silent = rows_of(settings, _SILENT, {}, tuple[str, str, float])
    except BadInput as error:
        raise BadInput("not_migrated", f"{error.detail}; mailpulse migrate") from None
    return {
        "newest_s": newest, "events_lately": lately,
        "dead_letters_lately": [list(row) for row in letters],
        "incidents": [list(row) for row in incidents], "silent": [list(row) for row in silent],
    }  # fmt: skip


def _show(found: dict[str, Any]) -> None:
    pipeline = found["pipeline"]
    if pipeline["running"]:
        put(f"Running here as process {pipeline['process']}, data in {pipeline['data']}"
            f" ({pipeline['free_bytes'] / (1 << 30):.0f} GB free)")  # fmt: skip
        for name in ("webhooks", "dashboard", "clickhouse"):
            put(f"  {name:<11}{pipeline[name]}")
        if budget := pipeline["disk_budget"]:
            put(f"  disk budget: {budget['outlook']}")
    else:
        asked = f"Kafka at {pipeline['kafka']} and ClickHouse at {pipeline['clickhouse']}"
        put(
            "No pipeline of 'mailpulse up' or 'demo' runs on this data directory; asked are "
            f"{asked}"
        )
    for name, why in found["unavailable"].items():
        put(f"  {name} does not answer: {why}" if name != "sources" else f"  {why}")
    _show_sources(found)
    if "behind" in found:
        each = ", ".join(f"{role} {lag:,}" for role, lag in sorted(found["behind"].items()))
        put(f"Records to read: {each or 'none yet'}")
    for line in _to_look_at(found):
        put(line)


def _show_sources(found: dict[str, Any]) -> None:
    newest, lately = found.get("newest_s", {}), found.get("events_lately", {})
    configured = found.get("configured", {})
    rows = [
        (name, configured.get(name, "–"), age(newest.get(name)), lately.get(name, 0))
        for name in dict.fromkeys((*configured, *newest))
    ]
    if rows:
        table("", ("source", "provider", "newest event", f"events in {HOURS} h"), rows)


def _to_look_at(found: dict[str, Any]) -> list[str]:
    """Dead letters, incidents and silent sources, in words."""
    letters = [
        f"Dead letters: {count:,} of {source or 'no source'} ({reason}); mailpulse dlq ls"
        for source, reason, count in found.get("dead_letters_lately", [])
    ]
    incidents = []
    for campaign, mailbox, rate, level, value in found.get("incidents", []):
        where = f" at {mailbox}" if mailbox else ""
        name = campaign or "(no campaign)"
        incidents.append(
            f"Incident: {name}{where}: {rate} {percent(value)}, {level}; mailpulse alerts ls"
        )
    silent = []
    for source, event_type, seconds in found.get("silent", []):
        what = f"no {event_type}" if event_type else "nothing"
        silent.append(f"Silent: {what} from {source}, last {age(seconds)}")
    lines = [
        *_first(letters, "reasons of dead letters"), *_first(incidents, "incidents"),
        *_first(silent, "silences"),
    ]  # fmt: skip
    if not lines and "incidents" in found:
        lines.append(f"Nothing to look at: no dead letters in {HOURS} h, no open incidents.")
    return lines


def _first(lines: list[str], what: str) -> list[str]:
    """The first lines of a kind, and how many more there are."""
    left = len(lines) - SHOWN_MAX
    return lines if left <= 0 else [*lines[:SHOWN_MAX], f"and {left:,} more {what}"]


def age(seconds: float | None) -> str:
    """How long ago, for people."""
    if seconds is None:
        return "–"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command(rich_help_panel="Start here")(status)
