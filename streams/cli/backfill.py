"""``mailpulse backfill``: reads a provider's own history, which fills what its webhook missed.

Invariants:
1. Nothing is counted twice: an event of the history has the id of the webhook's, so what came
   already is dropped as a duplicate. Nor is anything lost by a kill at any moment: see
   ``streams.books.runner`` and ``streams.books.notes``.
2. Of all secrets only the key of the history's API is read, and only here.
3. A dry run writes nothing: neither records, nor how far it is.
"""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput, ConfigError, MailpulseError
from schemas.settings import Settings, Source, resolve_secret
from streams.cli.context import (
    Json,
    codec_of,
    emit,
    environ,
    now,
    put,
    read_file,
    say,
    settings_of,
    sources_of,
    stores_as_ingress,
)
from streams.cli.recipients import compare as compare_recipients
from streams.cli.tail import moment

if TYPE_CHECKING:
    from ingest.providers.history import History
    from streams.books.notes import Notes
    from streams.books.pull import Progress
    from streams.classify.actors import Rules
    from streams.cli.backfill_effects import Stored
    from streams.cli.provider_pull import ProviderPull

STOPPED = 130
"""Exit code after Ctrl-C, as in shells: 128 + SIGINT."""
_HEADER_TEXT = re.compile(r"[!-~]+")
SENT_BEFORE_S = 3 * 86_400
"""Default of ``--sent-from``, before ``--from``: most opens and clicks come within three days."""


def backfill(
    source: Annotated[
        str | None, typer.Argument(help="Source in mailpulse.toml. Default: say which can be read.")
    ] = None,
    since: Annotated[
        str, typer.Option("--from", help="10m, 2h, 3d or an ISO 8601 time: events since then.")
    ] = "",
    until: Annotated[
        str, typer.Option("--to", help="Likewise: events before. Default: 30 minutes ago.")
    ] = "",
    sent_from: Annotated[
        str,
        typer.Option(
            help="Where an API lists messages (SendGrid): those sent since then. Default: three"
            " days before --from."
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be read, and what is known.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget how far an earlier, unfinished run got.")
    ] = False,
    json: Json = False,
) -> None:
    """Reads a provider's own history, to fill what its webhook missed. Repeats are not counted.

    For Mailgun, SparkPost, SendGrid and Resend. Stopped or killed, the same command goes on where
    it was. Records older than 30 days, or than MAILPULSE_MESSAGE_TTL_HOURS, are not read.

    Example: mailpulse backfill news --from 2026-11-24T08:00 --to 2026-11-27T08:00 --dry-run
    """
    settings = settings_of()
    sources = sources_of(settings, keys=False)
    if source is None:
        from streams.cli.backfill_words import say_sources

        say_sources(sources, json=json)
        return
    if source not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise ConfigError([f"sources.{source}: no such source in {settings.config_path} ({known})"])
    stores_as_ingress(settings)  # before a key is looked for
    given = {"--from": since, "--to": until, "--sent-from": sent_from}
    job = _job(settings, sources[source], {name: text for name, text in given.items() if text})
    with ExitStack() as stack:
        earlier = None
        if not dry_run:
            stack.enter_context(job.notes.owned())
            earlier = _unfinished(job, anew=anew)
        progress = earlier or _begun(job, survey=dry_run)
        compare_recipients(settings, codec_of(settings), needed=not dry_run)
        if not dry_run:
            job.notes.write(progress)
        raise typer.Exit(asyncio.run(_run(job, progress, dry_run=dry_run, json=json)))


@dataclass(frozen=True, slots=True)
class Job:
    """A history to read.

    Attributes:
        notes: how far an unfinished run got.
        given: options of the range that were given, and their values.
    """

    settings: Settings
    source: Source
    read: "History"
    pull: "ProviderPull"
    notes: "Notes"
    given: dict[str, str]

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        return f"mailpulse backfill {self.source.name}"

    @property
    def of(self) -> str:
        """What names the history that is read, see ``Progress.of``; without the key, which may be
        rotated."""
        assert self.source.history is not None
        access = self.source.history.model_dump_json(exclude={"api_key"})
        return f"{self.source.sender} {access}"


# --- what is read ---------------------------------------------------------------------------------


def _job(settings: Settings, source: Source, given: dict[str, str]) -> Job:
    """The job of a command line.

    Raises:
        ConfigError: the source has no history that can be read, or its key can't be found.
    """
    from ingest.providers.histories import HISTORIES
    from ingest.providers.history import problems_of
    from streams.books.notes import Notes
    from streams.cli.backfill_words import example, no_history

    read = HISTORIES.get(source.sender)
    if read is None:
        raise ConfigError([f"sources.{source.name}: {no_history(source)}"])
    if source.history is None:
        for line in example(source):
            put(line)
        where = settings.config_path
        raise ConfigError(
            [f"sources.{source.name}.history: missing; add the lines above to {where}"]
        )
    if problems := problems_of(read, source):
        raise ConfigError(problems)
    notes = Notes(settings.data_dir, source.name)
    return Job(settings, source, read, _pull(settings, source, read), notes, given)


def _pull(settings: Settings, source: Source, read: "History") -> "ProviderPull":
    from ingest.intake import Intake
    from ingest.providers.history import Account
    from streams.books.window import remembered_s
    from streams.cli.provider_pull import ProviderPull

    account = Account(source, _key(source))
    remembered_us = remembered_s(settings.message_ttl_hours * 3600) * 1_000_000
    intake = Intake(settings, codec_of(settings))
    return ProviderPull(read, account, intake, _rules(settings), remembered_us)


def _key(source: Source) -> str:
    """The key of the history's API.

    Raises:
        ConfigError: the reference leads nowhere, or to what fits into no header.
    """
    assert source.history is not None
    where = f"sources.{source.name}.history.api_key"
    try:
        key = resolve_secret(source.history.api_key, environ(), read_file).strip()
    except ValueError as error:
        raise ConfigError([f"{where}: {error}"]) from None
    if _HEADER_TEXT.fullmatch(key) is None:
        raise ConfigError([f"{where}: what it refers to is no key: blanks, or not ASCII"])
    return key


def _rules(settings: Settings) -> "Rules":
    from streams.classify.actors import DEFAULT_RULES, Rules

    path = settings.machine_rules_file
    if path is None:
        return DEFAULT_RULES
    try:
        return Rules.load(read_file(path))
    except (OSError, ValueError) as error:
        raise ConfigError([f"MAILPULSE_MACHINE_RULES_FILE: {path}: {error}"]) from None


def _unfinished(job: Job, *, anew: bool) -> "Progress | None":
    """The progress to go on with; its range was checked when it began.

    Raises:
        BadInput: it is of another range or another history, or can't be read.
    """
    if anew:
        job.notes.remove()
        return None
    earlier = job.notes.read()
    if earlier is None or (job.given and not earlier.counts.requests):
        return None
    if (earlier.source, earlier.of) != (job.source.name, job.of):
        table = f"[sources.{job.source.name}.history]"
        raise BadInput("unfinished", "a run did not end, and since then the source's provider or "
                       f"{table} was changed; --anew drops it")  # fmt: skip
    given = dict(earlier.given)
    if job.given and given != job.given:
        words = " ".join(f"{name} {text}" for name, text in given.items())
        raise BadInput("unfinished", f"a run with {words} did not end: '{job.again}' goes on with "
                       "it, --anew drops it")  # fmt: skip
    say(f"Goes on with an earlier run: {earlier.counts.events:,} events were read by then.")
    return earlier


def _begun(job: Job, *, survey: bool) -> "Progress":
    """A new run of the range that was asked for.

    Raises:
        BadInput: the range may not be read.
    """
    from ingest.providers.history import SETTLED_S, Window
    from streams.books.pull import Progress
    from streams.books.window import range_of

    at_s = now()
    if "--from" not in job.given:
        raise typer.BadParameter("--from is needed: since when events are missing")
    begin_s = moment(job.given["--from"], at_s)
    until_s = moment(job.given["--to"], at_s) if "--to" in job.given else at_s
    span = range_of(
        begin_s, until_s, at_s, ttl_s=job.settings.message_ttl_hours * 3600,
        keeps_s=job.read.keeps_s, settled_s=SETTLED_S,
    )  # fmt: skip
    for note in span.notes if "--to" in job.given else ():
        say(f"note: {note}")
    begin_us, until_us = int(span.begin_s * 1e6), int(span.until_s * 1e6)
    window = Window(begin_us, until_us, _sent_us(job, at_s, begin_s))
    state = job.pull.begin(window, survey=survey)
    given = tuple(job.given.items())
    return Progress(job.source.name, given, begin_us, until_us, state, of=job.of)


def _sent_us(job: Job, at_s: float, begin_s: float) -> int:
    """For an API that lists messages: those sent since then are asked for."""
    from streams.cli.backfill_effects import utc

    asked = job.given.get("--sent-from")
    sent_s = moment(asked, at_s) if asked else begin_s - SENT_BEFORE_S
    if job.read.keeps_s is not None:
        sent_s = max(sent_s, at_s - job.read.keeps_s)
    sent_us = int(min(sent_s, begin_s) * 1e6)
    if job.read.by_message:
        say(f"note: of messages sent since {utc(sent_us)}; --sent-from asks for earlier ones")
    return sent_us


# --- the run --------------------------------------------------------------------------------------


async def _run(job: Job, progress: "Progress", *, dry_run: bool, json: bool) -> int:
    """Reads the rest of the history; returns the exit code."""
    from streams.books.runner import run
    from streams.cli.backfill_effects import Stored, World
    from streams.cli.backfill_words import document, say_done, say_job
    from streams.kafka.clients import producer

    stopping = _stops(job, dry_run=dry_run)
    say_job(job, progress, dry_run=dry_run)
    stored = Stored(job.settings)
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(_client(job))
            kafka = None
            if not dry_run:
                kafka = await stack.enter_async_context(producer(job.settings, **_large(job)))
            world = World(client, kafka, stored, job.notes, say)
            done = await run(job.pull, progress, world)
        if not dry_run:
            job.notes.remove()
    except asyncio.CancelledError:
        if not stopping:
            raise
        return STOPPED
    except MailpulseError:
        if not dry_run:
            say(f"Not finished; '{job.again}' goes on from here.")
        raise
    held = await _held(job, stored, done) if dry_run else None
    if json:
        emit({"dry_run": dry_run, **document(done, held)})
    else:
        say_done(job, done, stored, held, dry_run=dry_run)
    return 0


def _stops(job: Job, *, dry_run: bool) -> list[int]:
    """Makes signals stop the running task, the second one at once; returns those that came."""
    came: list[int] = []
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        came.append(number)
        if len(came) > 1:
            os._exit(STOPPED)  # a broker that is away may delay an orderly end; none is needed
        after = "nothing was written" if dry_run else f"'{job.again}' goes on from here"
        say(f"Stopped: {after}.")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    return came


def _client(job: Job) -> Any:
    from streams.books.client import Client

    assert job.source.history is not None
    access = job.source.history
    return Client(access.url or job.read.origins[access.region])


def _large(job: Job) -> dict[str, int]:
    """Options of a producer that takes the largest record which ingress writes."""
    return {"max_request_size": max(1 << 20, job.settings.record_bytes_max)}


async def _held(job: Job, stored: "Stored", done: "Progress") -> int | None:
    """Of a survey that only counted: how many events of the source are stored in the range."""
    if not job.read.lists:
        return None
    return await stored.in_range(job.source.name, done.begin_us, done.until_us)


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command(rich_help_panel="Set-up")(backfill)
