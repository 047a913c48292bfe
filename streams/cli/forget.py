"""``mailpulse forget``: people's past is erased.

Invariants:
1. Everything is checked before anything is written; nothing is written without a yes.
2. No output, file name or certificate repeats an address.
"""

import asyncio
import json as json_module
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analytics.batches import batches
from ingest.providers import addresses
from schemas.errors import BadInput, ConfigError
from schemas.recipient_hash import is_keyed_hash
from schemas.settings import Settings
from schemas.topics import ERASURES, SCOPED_SUPPRESSIONS, SUPPRESSIONS
from streams.cli.clickhouse import rows_of
from streams.cli.context import FAILED, Json, codec_of, emit, now, put, say, settings_of, table
from streams.cli.suppression_entries import problem_of_address
from streams.cli.suppressions import lines_of_file

if TYPE_CHECKING:
    from schemas.codec import AvroRecord
    from streams.erasure.certificate import Found, Terms
    from streams.erasure.person import Person
    from streams.erasure.run import Wanted
    from streams.erasure.verify import Promised

PEOPLE_MAX = 250_000
"""Most addresses of one file: they are held in memory, a few hundred bytes each."""
ASKED_CHARS_MAX = 6_000
"""Of the people whom ClickHouse is asked about at once."""
SHOWN_MAX = 20
TELL_EVERY = 10_000
FOLDER = "erasures"
"""Folder of certificates in the data directory."""
WAIT_S = 120.0

_AROUND = "\ufeff" + string.whitespace
"""Around an address: white space, and the mark at the beginning of a file in UTF-8."""

Who = Annotated[str, typer.Argument(metavar="ADDRESS|FILE", help="A file has one address a line.")]


def forget(
    who: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    keep_suppression: Annotated[
        bool,
        typer.Option(
            "--keep-suppression",
            help="Suppressions survive as keyed hashes (MAILPULSE_RECIPIENT_HASH_KEY).",
        ),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Forget the good lines although there are bad ones.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only look for them, in every store; reads whole topics."),
    ] = False,
    wait_s: Annotated[
        float, typer.Option(help="Longest wait for the sink, seconds.", min=1)
    ] = WAIT_S,
    json: Json = False,
) -> None:
    """Forgets a person, or everybody in a file: what is known until now is erased.

    Figures stay. What can't be changed expires, and until then nothing reads it back: no late or
    repeated webhook, no replay, no rebuild. Mail sent from now on is new data.

    A certificate is printed, and stored in the data directory and on email.erasures.v1: what was
    found where, what became of it, when the rest expires. Exit code 1 if nothing is known; with
    --verify, if a store still has what an erasure promises to be gone.

    Example: mailpulse forget ada@example.com
    """
    settings = settings_of()
    key = settings.recipient_hash_key.get_secret_value().encode()
    if keep_suppression and not key:
        raise ConfigError(["MAILPULSE_RECIPIENT_HASH_KEY: needed to keep suppressions as hashes"])
    if keep_suppression and settings.recipients != "plain":
        raise ConfigError(["MAILPULSE_RECIPIENTS: suppressions are keyed hashes already, and can't"
                           " be kept apart from the rest"])  # fmt: skip
    people = people_of(who, key, skip_bad=skip_bad, plain_only=keep_suppression)
    if verify:
        raise typer.Exit(asyncio.run(_verify(settings, people, json=json)))
    kept = key if keep_suppression else None
    raise typer.Exit(asyncio.run(_forget(settings, people, kept, wait_s, yes=yes, json=json)))


def people_of(
    who: str, key: bytes, *, skip_bad: bool = False, plain_only: bool = False
) -> "list[Person]":
    """The people of a command line, each once.

    Raises:
        BadInput: a line is no address, and bad ones may not be skipped.
    """
    from streams.erasure.person import Person, person_of

    people: dict[Person, None] = {}
    bad = 0
    for number, text in _addresses(who):
        if address := _address_in(text):
            people[person_of(address, key, plain_only=plain_only)] = None
        elif (bad := bad + 1) <= SHOWN_MAX:
            say(f"line {number}: not one address")
        if len(people) > PEOPLE_MAX:
            raise BadInput("too_many", f"more than {PEOPLE_MAX:,} addresses: split the file")
        if number % TELL_EVERY == 0:
            say(f"{number:,} lines read")
    if bad > SHOWN_MAX:
        say(f"and {bad - SHOWN_MAX:,} more bad lines")
    if bad and not skip_bad:
        detail = f"{bad:,} lines are no address, so nothing was done; mend them, or use --skip-bad"
        raise BadInput("bad_lines", detail)
    if not people:
        raise BadInput("nobody", "there is no address in it")
    return list(people)


def _address_in(text: str) -> str:
    """The address in a text that may have a name beside it, or a keyed hash; else ''."""
    if is_keyed_hash(text):
        return text
    return "" if problem_of_address(text) else addresses.address(text)[0] or ""


def _addresses(who: str) -> Iterator[tuple[int, str]]:
    """Numbered addresses of a file, or the one that was given."""
    if is_keyed_hash(who) or ("@" in who and not _is_file(who)):
        yield 1, who
        return
    for number, line in enumerate(lines_of_file(Path(who)), 1):
        text = line.strip(_AROUND)
        if text and (not text.startswith("#") or _address_in(text)):
            yield number, text


def _is_file(who: str) -> bool:
    try:
        return Path(who).is_file()
    except OSError:  # such as a text that is longer than any name
        return False


async def _forget(
    settings: Settings, people: "list[Person]", hash_key: bytes | None, wait_s: float, *,
    yes: bool, json: bool,
) -> int:  # fmt: skip
    from streams.erasure.run import Run, earlier, order, terms_of
    from streams.erasure.topic import ErasureLog

    codec, now_us = codec_of(settings), int(now() * 1_000_000)
    terms = await terms_of(settings, kept=hash_key is not None)
    async with ErasureLog(settings, codec, keeps=True) as log:
        await log.fresh(0)
        known = earlier(log)
        wanted = await _look(settings, people, terms, now_us)
        done, orders = [], []
        for one in wanted:
            before = known.get(one.person.digests[0])
            if before is not None and (before["identities"] or not one.found):
                record = before
            else:
                record = order(one, terms, now_us)
            done.append(record)
            if record["identities"]:
                orders.append(record)
        known_ones = sum(bool(one.found) or one.person.digests[0] in known for one in wanted)
        if not known_ones:
            say(
                "nothing known; ordered all the same: what is on its way to the tables, in the"
                " spool, in dead letters or in a topic that holds more than they do obeys it"
            )
        _confirm(wanted, len(orders), hash_key, yes=yes)
        if orders:

            async def left(names: Sequence[str], at_us: int) -> int:
                return sum((await asyncio.to_thread(_left, settings, names, at_us)).values())

            run = Run(settings, codec, log, left, say, wait_s, hash_key)
            await run.carry_out(orders, now_us)
    _show(settings, done, len(people) - known_ones, json=json)
    return 0 if known_ones else FAILED


def _confirm(wanted: "Sequence[Wanted]", orders: int, hash_key: bytes | None, *, yes: bool) -> None:
    events = sum(one.found.events for one in wanted)
    lists = sum(one.found.suppressions + one.found.scoped for one in wanted)
    say(f"{orders:,} to forget, of {len(wanted):,}: {events:,} events, {lists:,} suppressions")
    if lists and hash_key is None:
        say("with the suppressions it is forgotten that they must not be mailed;"
            " --keep-suppression keeps them as keyed hashes")  # fmt: skip
    if orders and not yes:
        typer.confirm("This can't be undone. Go on?", abort=True, err=True)


async def _look(
    settings: Settings, people: "list[Person]", terms: "Terms", now_us: int
) -> "list[Wanted]":
    """What is known of each."""
    from streams.erasure.run import Wanted
    from streams.erasure.suppressed import Held, held

    names = {name: number for number, one in enumerate(people) for name in one.names}
    on_topics = await held(settings, codec_of(settings), names)
    counts, scopes = await asyncio.to_thread(_stored, settings, names, terms, now_us)
    out = []
    for number, person in enumerate(people):
        mine = on_topics.get(number, Held())
        found = _found(counts.get(number), mine)
        out.append(Wanted(person, found, frozenset(scopes.get(number, ())), mine))
    return out


def _found(counts: list[int] | None, mine: Any) -> "Found":
    from streams.erasure.certificate import Found

    events, on_raw, on_enriched = counts or (0, 0, 0)
    return Found(
        events, on_raw, on_enriched, mine.count(SUPPRESSIONS), mine.count(SCOPED_SUPPRESSIONS)
    )


def _stored(
    settings: Settings, names: dict[str, int], terms: "Terms", now_us: int
) -> tuple[dict[int, list[int]], dict[int, set[tuple[str, str]]]]:
    """Counts of events, and scopes, by number of the person."""
    from analytics.history.person import COUNTS, SCOPES, array
    from schemas.topics import ENRICHED, RAW

    def since(topic: str) -> str:
        keeping = terms.keeping.get(topic)
        after_ms = keeping.gone_after_ms(False) if keeping else 0
        return str(0 if after_ms is None else max(0, now_us // 1_000_000 - after_ms // 1_000))

    counts: dict[int, list[int]] = {}
    scopes: dict[int, set[tuple[str, str]]] = {}
    asked = 0
    for some in batches(names, ASKED_CHARS_MAX, len):
        them = {"names": array(some)}
        given = {**them, "raw_since": since(RAW), "enriched_since": since(ENRICHED)}
        for name, *found in rows_of(settings, COUNTS, given, tuple[str, int, int, int]):
            mine = counts.setdefault(names[name], [0, 0, 0])
            counts[names[name]] = [a + b for a, b in zip(mine, found, strict=True)]
        for name, source, scope in rows_of(settings, SCOPES, them, tuple[str, str, str]):
            scopes.setdefault(names[name], set()).add((source, scope))
        asked += len(some)
        if asked // TELL_EVERY != (asked - len(some)) // TELL_EVERY:
            say(f"{asked:,} of {len(names):,} looked up")
    return counts, scopes


def _left(settings: Settings, names: Sequence[str], at_us: int) -> dict[str, int]:
    """Table -> rows that name one of them for what happened before a time."""
    from analytics.history.person import LEFT, array

    out: dict[str, int] = {}
    for some in batches(names, ASKED_CHARS_MAX, len):
        given = {"names": array(some), "at_ms": str(at_us // 1_000)}
        for name, count in rows_of(settings, LEFT, given, tuple[str, int]):
            out[name] = out.get(name, 0) + count
    return out


async def _verify(settings: Settings, people: "list[Person]", *, json: bool) -> int:
    """Looks for people in every store; returns the exit code."""
    from streams.erasure.verify import Seen, in_snapshots, in_spool, in_state, in_topics

    codec = codec_of(settings)
    them = await _promised(settings, people)
    tables: dict[str, int] = {}
    for at_us, names in them.by_time.items():
        for name, count in (await asyncio.to_thread(_left, settings, names, at_us)).items():
            tables[name] = tables.get(name, 0) + count
    seen = [Seen(f"ClickHouse: {name}", count, True) for name, count in tables.items()]
    seen += await in_topics(settings, codec, them.names, say)
    folder = settings.streams_state_dir / settings.consumer_group
    seen.append(in_state(folder, them.state))
    seen += in_snapshots(folder, them.state, settings.snapshot_store)
    if (spool := in_spool(settings.spool_dir, them.names)) is not None:
        seen.append(spool)
    bad = any(one.promised and one.count for one in seen)
    unseen = [one.store for one in seen if one.promised and one.count is None]
    if json:
        rows = [{"store": one.store, "count": one.count, "promised_gone": one.promised,
                 "note": one.note} for one in seen]  # fmt: skip
        emit({"gone": not bad, "not_looked_into": unseen, "stores": rows})
        return FAILED if bad else 0
    shown = [
        (one.store, "not looked into" if one.count is None else f"{one.count:,}",
         "yes" if one.promised else "expires", one.note)
        for one in seen
    ]  # fmt: skip
    table("", ("store", "count", "promised gone", ""), shown)
    if bad:
        say("a store still names them")
    elif unseen:
        say(f"gone from every store that was looked into; not from here: {', '.join(unseen)}")
    else:
        say("gone from every store that promises it now")
    return FAILED if bad else 0


async def _promised(settings: Settings, people: "list[Person]") -> "Promised":
    """What the erasures in force promise of people.

    Raises:
        BadInput: some of them are not erased.
    """
    from streams.erasure.run import earlier
    from streams.erasure.topic import ErasureLog
    from streams.erasure.verify import promised

    async with ErasureLog(settings, codec_of(settings), keeps=True) as log:
        await log.fresh(0)
        found, without = promised(people, earlier(log))
    if without:
        raise BadInput("not_erased", f"no erasure is in force for {without:,} of {len(people):,}")
    return found


def _show(settings: Settings, done: "list[AvroRecord]", unknown: int, *, json: bool) -> None:
    """Stores and prints certificates."""
    from streams.erasure.certificate import certificate_of

    folder = settings.data_dir / FOLDER
    whole = [
        {**certificate_of(record), "backups": _backups(settings, record["at"])} for record in done
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in whole:
            path = folder / f"{one['erasure_id']}.json"
            path.write_text(json_module.dumps(one, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        say(f"{folder}: {error.strerror}: certificates are on {ERASURES} alone")
    if json:
        emit({"certificates": whole, "nothing_known": unknown})
        return
    for one in whole[:SHOWN_MAX]:
        rows: list[tuple[str, ...]] = [
            (part["store"], part["how"], "" if part["count"] is None else f"{part['count']:,}",
             part["until"] or "no date")
            for part in one["stores"]
        ]  # fmt: skip
        rows += [
            (f"backup {backup['name']} in {backup['place']}", "still has what was known then", "",
             "when you delete it") for backup in one["backups"]
        ]  # fmt: skip
        title = f"erasure {one['erasure_id']} of {one['at']}"
        table(title, ("store", "what happens", "count", "gone at the latest"), rows)
    if len(whole) > SHOWN_MAX:
        put(f"and {len(whole) - SHOWN_MAX:,} more")
    if unknown:
        say(f"{unknown:,} of whom nothing is known")
    say(f"certificates: {folder}")


def _backups(settings: Settings, at_us: int) -> list[dict[str, Any]]:
    """Backups from before an erasure that were made from here, and are not known to be deleted."""
    from streams.backup.notes import BackupsMade

    return [
        {"place": one.place, "name": one.name}
        for one in BackupsMade(settings.data_dir).read()
        if one.made_at < at_us / 1_000_000
    ]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command(rich_help_panel="Figures")(forget)
