"""``mailpulse trace``: what happened to the messages of one recipient.

Invariants:
1. Addresses are masked unless asked for.
2. Each look-up is written to ``lookups.jsonl`` in the data directory before its answer is shown:
   who, when, and a keyed hash of what was asked for; never the address.
"""

import asyncio
import getpass
import json as json_module
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput
from schemas.settings import Settings
from streams.cli.clickhouse import dicts_of
from streams.cli.context import FAILED, Json, emit, now, put, settings_of

if TYPE_CHECKING:
    from analytics.history.answer import History
    from analytics.history.words import Words

LOG_FILE = "lookups.jsonl"
DAYS_DEFAULT, DAYS_MAX = 30, 3_650
ROWS_DEFAULT, ROWS_MAX = 500, 10_000
"""As in ``analytics.history.questions``, which is not imported before it is needed."""


def trace(
    who: Annotated[str, typer.Argument(metavar="ADDRESS|MESSAGE-ID", help="In any spelling.")],
    days: Annotated[
        int, typer.Option(help="Days to search, back from now.", min=1, max=DAYS_MAX)
    ] = DAYS_DEFAULT,
    rows: Annotated[
        int, typer.Option(help="Most events shown, the newest.", min=1, max=ROWS_MAX)
    ] = ROWS_DEFAULT,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show whole addresses.")] = False,
    json: Json = False,
) -> None:
    """Says what happened to the messages of one recipient, event by event.

    If addresses are stored as keyed hashes, ADDRESS is hashed with the same key; then, and where
    they are not stored, a MESSAGE-ID with an @ has to be in angle brackets. Each look-up is logged
    in the data directory. Exit code 1 if nothing was found.

    Example: mailpulse trace ada@example.com --days 7
    """
    from analytics.history.answer import history
    from analytics.history.questions import COLUMNS, asked
    from analytics.history.words import Words

    settings = settings_of()
    key = settings.recipient_hash_key.get_secret_value().encode()
    wanted = asked(who, settings.recipients, key)

    async def query(sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        parameters = {name: str(value) for name, value in given.items()}
        return dicts_of(settings, sql, parameters, COLUMNS[sql])

    found = asyncio.run(history(wanted, query, now(), days, rows))
    _log(settings, wanted.logged, found.events)
    words = Words(whole=unmasked)
    if json:
        emit(document(found, words))
    else:
        _say(found, words)
    if not found.messages:
        raise typer.Exit(FAILED)


def _log(settings: Settings, looked_for: str, events: int) -> None:
    """Invariant 2.

    Raises:
        BadInput: it can't be written; then nothing is shown.
    """
    path = settings.data_dir / LOG_FILE
    line = {
        "at": datetime.fromtimestamp(now(), UTC).isoformat(), "event": "looked up",
        "operator": getpass.getuser(), "how": "mailpulse trace", "identity_hash": looked_for,
        "events": events,
    }  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json_module.dumps(line) + "\n")
    except OSError as error:
        detail = f"{path}: {error.strerror}; each look-up is logged"
        raise BadInput("not_writable", detail) from None


def document(found: "History", words: "Words") -> dict[str, Any]:
    """A history as plain values."""
    return {
        "answer": words.answer(found),
        "found": bool(found.messages),
        "by": found.way.kind if found.way else None,
        "since_s": found.since_s,
        "until_s": found.until_s,
        "more": found.more,
        "messages": [
            {
                "message": words.title(message),
                "summary": words.summary(message),
                "events": [
                    {
                        "at_ms": row["at_ms"], "event_id": row["event_id"],
                        "event_type": row["event_type"], "bounce_class": row["bounce_class"],
                        "bounce_reason": row["bounce_reason"], "actor": row["actor"],
                        "actor_reason": row["actor_reason"], "says": words.sentence(row),
                        "details": words.details(row),
                    }
                    for row in message.events
                ],
            }
            for message in found.messages
        ],
    }  # fmt: skip


def _say(found: "History", words: "Words") -> None:
    from analytics.history.words import moment

    for line in words.answer(found):
        put(line)
    for message in found.messages:
        put("")
        put(f"{words.summary(message).capitalize()}: {words.title(message)}")
        for row in message.events:
            put(f"  {moment(row['at_ms'])}  {words.sentence(row)}")
            for detail in words.details(row):
                put(f"      {detail}")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Figures")(trace)
