"""``mailpulse suppressions``: who must not be mailed; entries and lifts by operators.

Invariants:
1. Entries go into the raw topic as events of their own: state stays a fold of that log, and they
   are told on the topics of suppressions like any other.
2. Everything is checked before anything is written. A command that was killed in between can be
   repeated: what was written already changes nothing.
"""

import asyncio
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.providers import addresses
from schemas.cloudevents import CLI, cloud_event
from schemas.errors import BadInput, ConfigError
from schemas.event import Event, message_key
from schemas.identity import address_identity
from schemas.recipient_hash import is_keyed_hash, keyed_hash
from schemas.settings import Settings
from schemas.topics import RAW
from streams.cli.clickhouse import table_of
from streams.cli.context import FAILED, Json, codec_of, emit, now, say, settings_of
from streams.cli.figures import Raw, write_answer
from streams.cli.suppression_entries import (
    LINE_CHARS_MAX,
    NO_TIME,
    BadLine,
    Entry,
    Operation,
    event_of,
    problem_of,
    problem_of_address,
    problem_of_time,
    read_entries,
)
from streams.cli.tail import moment

group = typer.Typer(help="Addresses that must not be mailed.", no_args_is_help=True)

ENTRIES_MAX = 5_000_000
"""Most entries of one file: they are held in memory until all are checked."""
SHOWN_MAX = 20
"""Bad lines, or lists and groups, that are shown; the others are counted."""
READ_AT_ONCE = 100_000
"""Lines that are read before the next sign of progress."""
AT_ONCE = 10_000
"""Entries that are sent before the next are made."""
STANDS = "until IS NULL OR until > now64(3)"
"""Condition of what holds now, in both tables."""
OF_THEM = "recipient IN ({address:String}, {hashed:String})"
"""Whose it is: also as a keyed hash, which ``mailpulse forget`` may have left."""

Scope = Annotated[
    str, typer.Option(help="Only this list or group of --source, such as group:1234.")
]
FromSource = Annotated[str, typer.Option("--source", help="Source that --scope belongs to.")]
When = Annotated[
    str | None, typer.Option("--at", help="When it happened: 2h, 3d or an ISO 8601 time.")
]


@group.command("export")
def export(
    fmt: Annotated[str, typer.Option("--format", help="csv, parquet or jsonl.")] = "csv",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File.")] = None,
    scoped: Annotated[
        bool, typer.Option("--scoped", help="Those of lists and groups instead.")
    ] = False,
    raw: Raw = False,
) -> None:
    """Writes all addresses that must not be mailed now."""
    name = "scoped_suppressions" if scoped else "suppressions"
    write_answer(f"SELECT * FROM {name} FINAL WHERE {STANDS}", {}, fmt, output, raw=raw)


@group.command("check")
def check(address: str, source: FromSource = "", scope: Scope = "", json: Json = False) -> None:
    """Says whether an address is suppressed: exit code 1 if it must not be mailed.

    Suppressions of lists and groups are named too, but only that of --source and --scope counts
    for the exit code. If addresses are stored as keyed hashes, ADDRESS is hashed with the same key.
    A text that is not one address is refused: nobody can say that it may be mailed.

    Example: mailpulse suppressions check ada@example.com && send …
    """
    settings = settings_of()
    if bool(source) != bool(scope):
        raise typer.BadParameter("--source and --scope belong together")
    kept = as_kept(settings, address)
    asked = {"address": kept, "hashed": _hash_of(settings, kept)}
    columns, rows = table_of(
        settings,
        "SELECT reason, since, until, evidence_event_id, campaign_id, provider FROM suppressions"
        f" FINAL WHERE {OF_THEM} AND ({STANDS})",
        asked,
    )
    names, some = table_of(
        settings,
        "SELECT source, scope, reason, since, evidence_event_id FROM scoped_suppressions"
        f" FINAL WHERE {OF_THEM} AND ({STANDS}) ORDER BY source, scope",
        asked,
    )
    scopes = [dict(zip(names, row, strict=True)) for row in some]
    meant = [one for one in scopes if (one["source"], one["scope"]) == (source, scope)]
    scopes.sort(key=lambda one: one not in meant)
    suppressed = bool(rows or meant)
    if not (suppressed or _is_stored_hash(settings, address)):
        _must_be_one(address)
    if json:
        whole = dict(zip(columns, rows[0], strict=True)) if rows else {}
        emit({"suppressed": suppressed, **whole, "scopes": scopes})
    else:
        _say(rows, scopes, suppressed)
    if suppressed:
        raise typer.Exit(FAILED)


def _must_be_one(address: str) -> None:
    if problem := problem_of_address(address):
        raise BadInput("bad_entry", problem)


def _say(rows: list[Any], scopes: list[dict[str, Any]], suppressed: bool) -> None:
    if rows:
        say(f"suppressed: {rows[0][0]} since {rows[0][1]} (event {rows[0][3] or 'unknown'})")
    elif not suppressed:
        say("not suppressed")
    for one in scopes[:SHOWN_MAX]:
        where = f"{one['scope']} of {one['source']}"
        say(f"suppressed for {where}: {one['reason']} since {one['since']}")
    if len(scopes) > SHOWN_MAX:
        say(f"and for {len(scopes) - SHOWN_MAX:,} more lists and groups: --json shows all")


def as_kept(settings: Settings, address: str) -> str:
    """An address as suppressions store it: plain, or its keyed hash; a hash is not hashed again.

    Args:
        address: in any spelling, also with a name beside it.

    Raises:
        ConfigError: addresses are not stored.
    """
    if settings.recipients == "dropped":
        raise ConfigError(["MAILPULSE_RECIPIENTS: addresses are not stored, so none is found"])
    if _is_stored_hash(settings, address):
        return address
    plain = addresses.address(address)[0] or ""
    if settings.recipients == "plain":
        return address_identity(plain)
    return keyed_hash(plain, settings.recipient_hash_key.get_secret_value().encode())


def _hash_of(settings: Settings, kept: str) -> str:
    """The keyed hash of an address that may be kept beside it; else what is kept."""
    key = settings.recipient_hash_key.get_secret_value().encode()
    return keyed_hash(kept, key) if key and not is_keyed_hash(kept) else kept


def _is_stored_hash(settings: Settings, address: str) -> bool:
    return settings.recipients == "hashed" and is_keyed_hash(address)


@group.command("add")
def add(
    addresses: Annotated[list[str], typer.Argument(help="One or more.")],
    reason: Annotated[
        str, typer.Option(help="manual, unsubscribe, complaint or hard_bounce.")
    ] = "manual",
    source: FromSource = "",
    scope: Scope = "",
    at: When = None,
    json: Json = False,
) -> None:
    """Enters addresses that must not be mailed.

    Workers tell it on the topics of suppressions as soon as they have read it.

    Example: mailpulse suppressions add ada@example.com --reason unsubscribe
    """
    _enter("add", _given(addresses, reason, source, scope, at, "add"), json=json)


@group.command("lift")
def lift(
    addresses: Annotated[list[str], typer.Argument(help="One or more.")],
    reason: Annotated[
        str, typer.Option(help="all, or only: manual, unsubscribe, complaint, hard_bounce.")
    ] = "all",
    source: FromSource = "",
    scope: Scope = "",
    at: When = None,
    json: Json = False,
) -> None:
    """Lifts suppressions of addresses; what happens later suppresses anew.

    Example: mailpulse suppressions lift ada@example.com
    """
    _enter("lift", _given(addresses, reason, source, scope, at, "lift"), json=json)


@group.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV or one address per line; - for stdin.")],
    reason: Annotated[str, typer.Option(help="Of lines that name none.")] = "manual",
    at: Annotated[
        str | None,
        typer.Option(help="As of when lines without a time hold: 2h, 3d or an ISO 8601 time."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Enter the good lines although there are bad ones.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Column not to read; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Enters a whole list, such as another system's export.

    The first line may name columns: address (or email, recipient), and reason, at (or since,
    created_at), source and scope where there are any. Between columns is a comma, a semicolon or
    a tab. Nothing is entered if a line is bad. What an export calls otherwise than here, such as
    SendGrid's reason, which is the server's answer, is left out by --ignore reason: each line then
    has that of --reason.

    What was lifted later than a line's time stays lifted, so a list can be imported again. A list
    without times needs --at: when it was made.

    Example: mailpulse suppressions import unsubscribed.csv --reason unsubscribe --at 2026-11-20
    """
    at_us = None if at is None else _at_us(at)
    good, bad = _checked(file, reason, at_us, ignore or (), skip_bad=skip_bad)
    _enter("add", good, json=json, skipped=bad)
    say("what was lifted since the times of these entries stays lifted")


def _checked(
    file: Path, reason: str, at_us: int | None, ignored: Sequence[str], *, skip_bad: bool
) -> tuple[list[Entry], int]:
    """The entries of a file, and how many lines are bad.

    Raises:
        BadInput: there are bad ones that may not be skipped, or ones without a time.
    """
    good: list[Entry] = []
    bad = timeless = 0
    now_us = int(now() * 1_000_000)
    for number, one in read_entries(lines_of_file(file), "add", reason, at_us, now_us, ignored):
        if number % READ_AT_ONCE == 0:
            say(f"{number:,} lines read")
        if not isinstance(one, BadLine):
            good.append(one)
        elif one.problem == NO_TIME:
            timeless += 1
        elif (bad := bad + 1) <= SHOWN_MAX:
            say(f"line {one.number}: {one.problem}")
        if len(good) + bad + timeless > ENTRIES_MAX:
            raise BadInput("too_many_entries", f"more than {ENTRIES_MAX:,} lines: split the file")
    if bad > SHOWN_MAX:
        say(f"and {bad - SHOWN_MAX:,} more bad lines")
    if bad and not skip_bad:
        raise BadInput("bad_lines", f"{bad:,} lines are bad, so nothing was entered; mend them, or "
                       "enter the others with --skip-bad")  # fmt: skip
    if timeless:
        raise BadInput("no_times", f"{timeless:,} lines have no time, so nothing was entered; say"
                       f" as of when the list holds{_example(file)}")  # fmt: skip
    return good, bad


def _example(file: Path) -> str:
    """A time to offer, in UTC: when the file was written. For stdin none: now would undo lifts."""
    if str(file) == "-":
        return ", with --at"
    with suppress(OSError):
        written = datetime.fromtimestamp(int(file.stat().st_mtime), UTC)
        return f", such as --at {written:%Y-%m-%dT%H:%M:%SZ}"
    return ", with --at"


def _at_us(text: str | None) -> int:
    """The time of ``--at``, microseconds since 1970; without one, now.

    Raises:
        BadInput: it is in the future, or before 2000.
    """
    moment_now = now()
    at_us = int((moment_now if text is None else moment(text, moment_now)) * 1_000_000)
    if problem := problem_of_time(at_us, int(moment_now * 1_000_000)):
        raise BadInput("bad_time", f"--at {text}: {problem}")
    return at_us


def lines_of_file(file: Path) -> Iterator[str]:
    """The lines of a file, or of stdin, one by one: it may be larger than memory."""
    try:
        opened = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with io.TextIOWrapper(opened, encoding="utf-8") as text:
            while line := text.readline(LINE_CHARS_MAX + 1):
                yield line
                while len(line) > LINE_CHARS_MAX and not line.endswith("\n"):
                    line = text.readline(LINE_CHARS_MAX + 1)  # the rest of a line that is too long
    except OSError as error:
        raise BadInput("not_readable", f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(
            "not_utf8", f"{file}: not UTF-8 text; convert it, such as with iconv, and import that"
        ) from None


def _given(
    addresses: list[str], reason: str, source: str, scope: str, at: str | None,
    operation: Operation,
) -> list[Entry]:  # fmt: skip
    """The entries of a command line.

    Raises:
        BadInput: one of them is none.
    """
    at_us = _at_us(at)
    entries = [Entry(address, reason, at_us, source, scope) for address in addresses]
    for entry in entries:
        if problem := problem_of(entry, operation):
            raise BadInput("bad_entry", problem)
    return entries


def _enter(operation: Operation, entries: list[Entry], *, json: bool, skipped: int = 0) -> None:
    settings = settings_of()
    as_kept(settings, "a@b.example")  # says at once if addresses are not stored
    asyncio.run(_send(settings, operation, entries))
    done = "entered" if operation == "add" else "lifted"
    if json:
        emit({done: len(entries), "bad_lines": skipped})
    else:
        say(f"{len(entries):,} {done}" + (f", {skipped:,} bad lines left out" if skipped else ""))


async def _send(settings: Settings, operation: Operation, entries: list[Entry]) -> None:
    """Sends the entries and waits for every acknowledgement.

    Raises:
        Unavailable: one was not acknowledged; entering again is safe (invariant 2).
    """
    from ingest.privacy import Privacy
    from streams.kafka.clients import producer

    codec, now_us = codec_of(settings), int(now() * 1_000_000)
    privacy = Privacy(settings.recipients, settings.recipient_hash_key.get_secret_value().encode())

    def record(entry: Entry) -> Event:
        return event_of(entry, operation, now_us, privacy.apply)

    async with producer(settings) as client:
        for begin in range(0, len(entries), AT_ONCE):
            waiting = []
            for event in map(record, entries[begin : begin + AT_ONCE]):
                headers = cloud_event("raw_event", CLI, event["event_id"], event["occurred_at"])
                value = codec.encode("raw_event", event)
                waiting.append(await client.send(RAW, value, message_key(event), headers=headers))
            for one in waiting:
                await one
            if begin + AT_ONCE < len(entries):
                say(f"{begin + AT_ONCE:,} of {len(entries):,}")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="suppressions", rich_help_panel="Figures")
