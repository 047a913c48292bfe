"""``mailpulse import``: events from before mailpulse, from captured webhook bodies or CSV.

They become a log of their own, on a topic of their own, whose clock is their time
(``streams.history``). That log ends at a cut, where live events begin. Then an epoch joins it: the
workers count live events again behind it, beside live (``streams.worker.second_store``).

Invariants:
1. Without ``--write`` nothing is written but the file of what was refused.
2. Killed at any moment, the same command goes on: nothing is lost or doubled
   (``streams.history.fold``, ``streams.history.notes``).
3. What is refused is counted, told with file and line, and kept; the rest goes on.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput, ConfigError
from schemas.settings import Settings, Source
from streams.cli.context import (
    Json,
    codec_of,
    now,
    say,
    settings_of,
    sources_of,
    stores_as_ingress,
)
from streams.cli.recipients import compare as compare_recipients
from streams.cli.tail import moment

if TYPE_CHECKING:
    from schemas.codec import Codec
    from streams.cli.import_reading import Found, Reading
    from streams.history.notes import Notes, Progress

Until = Annotated[
    str,
    typer.Option(
        help="10m, 2h, 3d or an ISO 8601 time: events before. Default: when the source's first"
        " live event came, or now."
    ),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        help="Also write who must not be mailed by then, for 'mailpulse suppressions import'."
    ),
]


def import_history(
    source: Annotated[str, typer.Argument(help="Source in mailpulse.toml that they belong to.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Bodies: .jsonl, one a line; .tar; folders; other files are one body each. Rows:"
            " .csv, .tsv. Also .gz."
        ),
    ],
    write: Annotated[
        bool, typer.Option("--write", help="Import. Default: only say what would be.")
    ] = False,
    until: Until = "",
    mapping: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="For rows: the source whose mapping reads the columns. Default: SOURCE.",
        ),
    ] = "",
    suppressions: ListFile = None,
    apart: Annotated[
        bool,
        typer.Option("--apart", help="Don't join it to live events, which stay as they are."),
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget how far an import got that did not end.")
    ] = False,
    json: Json = False,
) -> None:
    """Imports events from before mailpulse: captured webhook bodies, or CSV by a mapping.

    First it only says what the files hold; --write imports it. Stopped or killed, the same command
    goes on where it was. What can't be read is kept in a file, with place and reason. Events that
    are stored already are left out. Nobody is told of history: no webhooks, no alerts.

    Example: mailpulse import news archive/ --until 2026-11-01T00:00 --write
    """
    from streams.history.files import files_of

    settings = settings_of()
    stores_as_ingress(settings)
    if suppressions is not None and settings.recipients != "plain":
        raise typer.BadParameter("--suppressions needs addresses, and they are not stored here")
    sources = sources_of(settings, keys=False)
    if until:
        moment(until, now())  # an error is told before anything is asked
    files_of(files)
    its, mapped = _named(settings, sources, source), _named(settings, sources, mapping or source)
    given = (
        source, mapping, until, "apart" if apart else "",
        os.path.abspath(suppressions) if suppressions else "", *map(os.path.abspath, files),
    )  # fmt: skip
    codec = codec_of(settings)
    compare_recipients(settings, codec, needed=write)
    job = Job(settings, codec, its, mapped, tuple(files), given, until=until,
              apart=apart, suppressions=suppressions)  # fmt: skip
    try:
        if write:
            asyncio.run(_import(job, anew=anew, json=json))
        else:
            asyncio.run(_survey(job, json=json))
    except OSError as error:
        where = error.filename or settings.data_dir
        raise BadInput("disk", f"{where}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Job:
    """What is imported.

    Attributes:
        source: that the events belong to; ``mapped``: whose mapping reads rows.
        given: the command's words.
        until, apart, suppressions: options of the command.
    """

    settings: Settings
    codec: "Codec"
    source: Source
    mapped: Source
    files: tuple[Path, ...]
    given: tuple[str, ...]
    until: str
    apart: bool
    suppressions: Path | None

    @property
    def rejects(self) -> Path:
        """The file of what is refused."""
        return self.settings.data_dir / f"import-rejects-{self.source.name}.jsonl"

    @property
    def notes(self) -> "Notes":
        """How far it is."""
        from streams.history.notes import Notes

        return Notes(self.settings.data_dir)


def _named(settings: Settings, sources: dict[str, Source], name: str) -> Source:
    from ingest.providers import REGISTRY

    if name not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise ConfigError([f"sources.{name}: no such source in {settings.config_path} ({known})"])
    if sources[name].provider not in REGISTRY:
        raise ConfigError([f"sources.{name}.provider: no provider {sources[name].provider!r}"])
    return sources[name]


# --- reading --------------------------------------------------------------------------------------


def _reading(job: Job, partitions: int) -> "Reading":
    """How the files are read.

    Raises:
        BadInput: ``--until`` is after live events began.
        Unavailable: ClickHouse does not answer.
    """
    from streams.cli.backfill_effects import utc
    from streams.cli.import_effects import live_since_us
    from streams.cli.import_reading import Reading

    now_us = int(now() * 1_000_000)
    since_us = live_since_us(job.settings, job.source.name)
    cut_us = now_us if since_us is None else since_us
    if job.until:
        asked_us = int(moment(job.until, now()) * 1_000_000)
        if asked_us > cut_us:
            raise BadInput("live", f"events of {job.source.name} come live since {utc(cut_us)}: "
                           "--until must not be later; 'mailpulse backfill' fills later gaps"
                           )  # fmt: skip
        cut_us = asked_us
    mapping, no_rows = _mapping(job)
    return Reading(job.settings, job.codec, job.source, job.mapped, mapping, no_rows, cut_us,
                   now_us, partitions)  # fmt: skip


def _mapping(job: Job) -> "tuple[Mapping[str, Any] | None, str]":
    """The mapping of rows, or why there is none."""
    from ingest.providers import REGISTRY
    from ingest.providers.generic import Generic, mapping_problems

    provider, name = REGISTRY[job.mapped.provider], job.mapped.name
    if not isinstance(provider, Generic):
        return None, f"rows need a mapping, and source {name} has none: see --mapping"
    if problems := mapping_problems(job.mapped):
        raise ConfigError(problems)
    return provider.mapping_of(job.mapped), ""


def _read(reading: "Reading", files: "list[Path]", rejects: Path, keep: Any) -> "Found":
    """Reads the files, in several processes if they are large."""
    from streams.cli.import_processes import readers, wanted
    from streams.cli.import_reading import Rejects

    number = wanted(sum(path.stat().st_size for path in files))
    if number == 1:
        return reading.run(files, Rejects(rejects), keep, say)
    with readers(reading, number) as started:
        return reading.run(files, Rejects(rejects), keep, say, started.parts)


async def _survey(job: Job, *, json: bool) -> None:
    from streams.cli.import_effects import known, partitions_of, plan_of, planner_of
    from streams.cli.import_words import figures, say_found
    from streams.history.files import files_of

    reading = _reading(job, await partitions_of(job.settings))
    found = _read(reading, files_of(job.files), job.rejects, lambda _: None)
    stored = 0
    if found.events:
        old = known(job.settings, job.source.sender, found.first_us, found.last_us)
        stored = sum(identity in old for identity in found.identities) if len(old) else 0
    joins = "It is imported apart: live events stay as they are."
    if not job.apart:
        async with planner_of(job.settings, job.codec) as (planner, rulebook):
            text = await _rules(job, rulebook)
            try:
                epoch, _ = await plan_of(planner, text, int(now() * 1_000))
            except BadInput as error:
                joins = f"It can't be joined to live events now: {error.detail}."
            else:
                live = sum(span.until - span.begin for span in epoch.spans)
                joins = f"Joining it counts {live:,} live records again, beside live events."
    counts = figures(found, stored, reading.cut_us)
    say_found(found, counts, str(job.rejects), joins, json=json)


async def _rules(job: Job, rulebook: Any) -> str:
    """The rules in force."""
    from streams.cli.rules import own_text

    newest = (await rulebook.refresh()).newest
    return newest.text if newest is not None else own_text(job.settings)


# --- importing ------------------------------------------------------------------------------------


async def _import(job: Job, *, anew: bool, json: bool) -> None:
    from streams.cli.import_effects import ends_of, join, planner_of, ruling_of
    from streams.cli.import_folding import FoldWork, fold_all
    from streams.cli.import_words import say_done
    from streams.cli.reprocess import watch

    notes, settings = job.notes, job.settings
    with ExitStack() as owned:
        owned.enter_context(notes.owned())
        async with AsyncExitStack() as stack:
            planner, rulebook = await stack.enter_async_context(planner_of(settings, job.codec))
            progress = await _unfinished(job, notes, anew=anew) or await _sorted(
                job, notes, planner, rulebook
            )
            if not progress.counts["new"]:
                notes.clear()
                say_done(progress, str(job.rejects), joined=False, json=json)
                return
            ruling = await ruling_of(settings, rulebook)
            work = FoldWork(
                settings, job.codec, settings.data_dir, rulebook.history, progress,
                keep_suppressions=job.suppressions is not None, apart=job.apart,
            )  # fmt: skip
            progress = await fold_all(work, notes, say)
            if not job.apart:
                ends = await ends_of(settings, len(progress.records))
                text = await _rules(job, rulebook)
                await join(planner, rulebook, ruling, text, progress.log_id, ends,
                           int(now() * 1_000))  # fmt: skip
            if job.suppressions is not None:
                _list(job.suppressions, progress)
            notes.clear()
            say_done(progress, str(job.rejects), joined=not job.apart, json=json)
        if not job.apart and not json:
            async with planner_of(settings, job.codec) as (planner, rulebook):
                say("Live events are counted again behind it ('mailpulse reprocess status'):")
                await rulebook.refresh()
                await watch(planner, rulebook, json=False)


async def _unfinished(job: Job, notes: "Notes", *, anew: bool) -> "Progress | None":
    """The import to go on with.

    Raises:
        BadInput: ``unfinished``: another one did not end, or has written something: its events
            would be known from then on, and never counted.
    """
    from streams.cli.import_effects import ends_of

    progress = notes.read()
    if progress is not None and anew:
        if progress.begins != await ends_of(job.settings, len(progress.begins)):
            raise BadInput("written", f"the import for {progress.given[0]} has written something: "
                           "finish it by the same command, without --anew")  # fmt: skip
        progress = None
    if progress is None:
        notes.clear()
        return None
    if progress.given != job.given:
        raise BadInput("unfinished", f"an import for {progress.given[0]} with other words did not "
                       "end; the same command goes on with it, --anew drops it")  # fmt: skip
    done = sum(progress.records[partition] for partition in progress.done)
    say(f"Goes on with an import that did not end: {done:,} of {sum(progress.records):,} written.")
    return progress


async def _sorted(job: Job, notes: "Notes", planner: Any, rulebook: Any) -> "Progress":
    """Reads and sorts the files; everything is checked before."""
    from schemas.history_log import history_log_id
    from streams.cli.import_effects import (
        check_stored,
        ends_of,
        known,
        partitions_of,
        plan_of,
        wait_for_live,
    )
    from streams.cli.import_words import figures
    from streams.history.files import files_of
    from streams.history.notes import Progress
    from streams.history.sorting import Runs

    files = files_of(job.files)
    partitions = await partitions_of(job.settings)
    await check_stored(job.settings)
    if job.apart:
        await wait_for_live(job.settings)
    else:
        await plan_of(planner, await _rules(job, rulebook), int(now() * 1_000))
    reading = _reading(job, partitions)
    runs = Runs(notes.folder)
    found = _read(reading, files, job.rejects, runs.add)
    stored, records = 0, [0] * partitions
    if found.events:
        old = known(job.settings, job.source.sender, found.first_us, found.last_us)
        stored, records = _partitioned(notes, runs, old, partitions)
    stamp_ms = int(now() * 1_000)
    progress = Progress(
        job.given, history_log_id(reading.cut_us, stamp_ms & 0xFFFF_FFFF), stamp_ms,
        reading.cut_us, tuple(records), await ends_of(job.settings, partitions),
        figures(found, stored, reading.cut_us),
    )  # fmt: skip
    if progress.counts["new"]:
        notes.write(progress)
    return progress


def _partitioned(notes: "Notes", runs: Any, old: Any, partitions: int) -> tuple[int, list[int]]:
    """Writes the sorted records, one file for each partition.

    Returns:
        How many are stored already, and how many records each partition has.
    """
    from streams.history.sorting import write

    known, records = 0, [0] * partitions
    paths = [notes.sorted_path(partition) for partition in range(partitions)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for record in runs.merged():
            if record.identity in old:
                known += 1
                continue
            records[record.partition] += 1
            write(files[record.partition], record)
    for path in paths:
        notes.sync(path)
    return known, records


def _list(path: Path, progress: "Progress") -> None:
    """Writes standing suppressions in the form that ``suppressions import`` reads."""
    import csv
    import io

    from streams.cli.backfill_effects import utc
    from streams.cli.suppression_entries import SOFT_BOUNCES
    from streams.cli.whole_files import whole_file

    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("address", "reason", "at", "source", "scope"))
    kept = [one for one in progress.suppressed if one["reason"] != SOFT_BOUNCES]
    for one in kept:
        at = utc(int(str(one["since"])))
        rows.writerow((one["recipient"], one["reason"], at, one["source"] if one["scope"] else "",
                       one["scope"] or ""))  # fmt: skip
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
    say(f"{len(kept):,} suppressions: 'mailpulse suppressions import {path}' enters them.")


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("import", rich_help_panel="Set-up")(import_history)
