"""``mailpulse export-person``: all that is known of a person.

Invariant: rows are written as they come, so memory does not depend on how many there are.
"""

import asyncio
import json as json_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput, DecodeError, Unavailable
from schemas.recipient_hash import is_keyed_hash, keyed_hash
from schemas.scopes import parts_of
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS
from streams.cli.clickhouse import ask
from streams.cli.context import FAILED, codec_of, say, settings_of
from streams.cli.forget import people_of
from streams.cli.trace import LOG_FILE
from streams.cli.whole_files import whole_file
from streams.terminal.output import for_documents

if TYPE_CHECKING:
    from streams.erasure.person import Person


def export_person(
    who: Annotated[str, typer.Argument(metavar="ADDRESS", help="In any spelling.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File.")] = None,
) -> None:
    """Writes all that is known of a person, as JSON: events, suppressions, look-ups, dead letters.

    Dead letters are named without their content, which may hold others' data: mailpulse dlq show.
    Exit code 1 if nothing is known.

    Example: mailpulse export-person ada@example.com -o ada.json
    """
    settings = settings_of()
    key = settings.recipient_hash_key.get_secret_value().encode()
    people = people_of(who, key)
    if len(people) > 1:
        raise BadInput("several_people", f"{len(people):,} people: export them one by one")
    person = people[0]
    letters = asyncio.run(_letters(settings, person))
    parts = {
        "look_ups": _look_ups(settings, person), "dead_letters": letters,
        "erasures": asyncio.run(_erasures(settings, person)),
    }  # fmt: skip
    if output is None:
        found = _write_export(settings, person, parts, for_documents())
    else:
        with whole_file(output) as file, TextIOWrapper(file, encoding="utf-8") as text:
            found = _write_export(settings, person, parts, text)
    if not found:
        say("nothing known")
        raise typer.Exit(FAILED)


def _write_export(
    settings: Settings, person: "Person", parts: dict[str, list[Any]], target: Any
) -> bool:
    """Writes the document, rows as they come; returns whether there is anything in it."""
    from analytics.history.person import EXPORTS, array

    found = any(parts.values())
    target.write('{"names": ' + json_module.dumps(list(person.names)))
    for part, sql in EXPORTS.items():
        target.write(f', "{part}": [')
        comma = ""
        rest = b""
        for piece in ask(settings, sql, "JSONEachRow", {"names": array(person.names)}).pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                target.write(comma + _printable(line))
                comma, found = ",\n", True
        if rest:
            target.write(comma + _printable(rest))
        target.write("]")
    for part, rows in parts.items():
        target.write(f', "{part}": ' + json_module.dumps(rows))
    target.write("}\n")
    return found


def _printable(line: bytes) -> str:
    """A row as JSON in ASCII: texts of others, a user agent's too, may hold what terminals obey.

    Raises:
        Unavailable: it is no row; ClickHouse tells so of an error after the first rows.
    """
    try:
        row = json_module.loads(line.decode("utf-8", "replace"), strict=False)
    except ValueError:
        raise Unavailable("ClickHouse's answer broke off: the export is not whole") from None
    return json_module.dumps(row)


def _look_ups(settings: Settings, person: "Person") -> list[Any]:
    """Lines of the log of look-ups that are about the person."""
    key = settings.recipient_hash_key.get_secret_value().encode()
    mine = {name if is_keyed_hash(name) else keyed_hash(name, key) for name in person.names}
    try:
        with (settings.data_dir / LOG_FILE).open(encoding="utf-8", errors="replace") as file:
            return [json_module.loads(line) for line in file if any(one in line for one in mine)]
    except FileNotFoundError:
        return []


async def _letters(settings: Settings, person: "Person") -> list[dict[str, Any]]:
    """Dead letters whose key or content names the person."""
    from streams.erasure.mentions import mentions
    from streams.kafka.reader import reader

    codec, out = codec_of(settings), []
    async with reader(settings, DEAD_LETTERS) as whole:
        await whole.begin()
        async for record in whole.records():
            try:
                letter = codec.decode(record.value or b"", "dead_letter")
            except DecodeError:
                continue
            whose = parts_of((letter["key"] or b"").decode("utf-8", "replace"))[0]
            if whose in person.names or mentions(letter["content"], person.names):
                shown = ("dead_letter_id", "stage", "reason", "occurred_at", "topic", "source")
                out.append({name: letter[name] for name in shown})
    return out


async def _erasures(settings: Settings, person: "Person") -> list[Any]:
    from streams.erasure.certificate import certificate_of
    from streams.erasure.topic import ErasureLog

    async with ErasureLog(settings, codec_of(settings), keeps=True) as log:
        await log.fresh(0)
        digests = set(person.digests)
        return [
            certificate_of(record)
            for record in log.newest.values()
            if digests.intersection(record["digests"])
        ]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("export-person", rich_help_panel="Figures")(export_person)
