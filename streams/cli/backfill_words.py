"""What ``mailpulse backfill`` says: which histories can be read, and what a run came to."""

from typing import TYPE_CHECKING, Any

from ingest.providers.histories import HISTORIES
from ingest.providers.history import History, problems_of
from schemas.settings import Source
from streams.books.pull import Progress
from streams.cli.backfill_effects import Stored, duration, utc
from streams.cli.context import emit, put, say, table

if TYPE_CHECKING:
    from streams.cli.backfill import Job

DAY_US = 86_400_000_000
CLOCK_US = 60_000_000
"""An end that the API's clock moves by less is not worth a word."""


def say_sources(sources: dict[str, Source], *, json: bool) -> None:
    """Which sources have a history that can be read, and what the others lack."""
    rows = []
    for name, source in sorted(sources.items()):
        read = HISTORIES.get(source.sender)
        problems = [no_history(source)] if read is None else problems_of(read, source)
        kept = "–" if read is None else _kept(read)
        rows.append((name, source.provider, "; ".join(problems) or "ready", kept))
    columns = ("source", "provider", "history", "kept by the provider")
    if json:
        emit([dict(zip(columns, row, strict=True)) for row in rows])
        return
    table("histories", columns, rows)
    for source in sources.values():
        if source.sender in HISTORIES and source.history is None:
            put("")
            for line in example(source):
                put(line)


def no_history(source: Source) -> str:
    """That a source's provider is none whose history is read."""
    return f"no history of {source.sender} is read; known: {', '.join(HISTORIES)}"


def _kept(read: History) -> str:
    return f"{read.keeps_s // 86_400} days" if read.keeps_s else "by plan"


def example(source: Source) -> list[str]:
    """What to put into mailpulse.toml."""
    return [f"[sources.{source.name}.history]", *HISTORIES[source.sender].table]


def say_job(job: "Job", progress: Progress, *, dry_run: bool) -> None:
    """What is going to be read."""
    reads = f"{job.source.sender}, {job.read.reads}"
    say(f"{'Counts' if dry_run else 'Reads'} events from {utc(progress.begin_us)} to "
        f"{utc(progress.until_us)} ({reads}).")  # fmt: skip


def end_us(done: Progress) -> int:
    """Up to where was read: the provider's clock may have moved the end (``History.State``)."""
    return int(min(done.until_us, done.state.get("until", done.until_us)))


def incomplete(done: Progress) -> list[str]:
    """What the API did not give of the range, one line each."""
    lines = list(done.counts.cut)
    if done.counts.gone:
        lines.append(f"{done.counts.gone:,} that were listed could not be read: they are gone")
    if end_us(done) < done.until_us - CLOCK_US:
        lines.append(f"by the API's clock, what is later than {utc(end_us(done))} may still change:"
                     " read it again from there")  # fmt: skip
    return lines


def document(done: Progress, held: int | None) -> dict[str, Any]:
    """What a run came to, as plain values.

    Args:
        held: how many events are stored already, of a survey that only lists.
    """
    counts = done.counts
    return {
        "source": done.source, "from": utc(done.begin_us), "to": utc(end_us(done)),
        "events": counts.events, "new": counts.new, "known": counts.known,
        "not_looked_up": counts.unasked, "refused": counts.refused,
        "left_out": counts.left_out, "too_old": counts.too_old, "listed": counts.listed,
        "gone": counts.gone,
        "stored_in_range": held, "kinds": dict(counts.kinds),
        "machines_by_provider_alone": dict(counts.machines),
        "incomplete": incomplete(done),
        "first": utc(counts.first_us) if counts.first_us else None,
        "last": utc(counts.last_us) if counts.last_us else None,
        "requests": counts.requests, "seconds": round(counts.seconds, 1),
    }  # fmt: skip


def say_done(
    job: "Job", done: Progress, stored: Stored, held: int | None, *, dry_run: bool
) -> None:
    """What a run came to; ``held`` as in ``document``."""
    counts = done.counts
    if dry_run and job.read.lists:
        _say_listed(job, done, stored, held)
    else:
        rows = [(kind, number) for kind, number in sorted(counts.kinds.items())]
        if rows:
            table("events", ("kind", "number"), rows)
        _say_figures(done, stored, dry_run=dry_run)
        if job.read.keeps_s is None and counts.first_us - done.begin_us > DAY_US:
            say(f"note: nothing is older than {utc(counts.first_us)}: {job.source.sender} may keep"
                " events no longer, which depends on the plan.")  # fmt: skip
    for line in incomplete(done):
        say(f"incomplete: {line}")
    for what, number in sorted(counts.machines.items()):
        say(f"{number:,} events are a machine's for {job.source.sender}, and not by our own rules:"
            f" {what}")  # fmt: skip
    say(f"{counts.requests:,} requests, {duration(counts.seconds)}.")
    if not dry_run:
        say("Figures have them once workers and sink have read them: 'mailpulse lag'.")


def _say_figures(done: Progress, stored: Stored, *, dry_run: bool) -> None:
    counts = done.counts
    span = f" from {utc(counts.first_us)} to {utc(counts.last_us)}" if counts.first_us else ""
    say(f"{counts.events:,} events {'found' if dry_run else 'pulled'}{span}: "
        + ("it is not known how many are new" if counts.new is None else f"{counts.new:,} new")
        + f", {counts.known:,} known already.")  # fmt: skip
    if counts.unasked:
        why = stored.away or "a while"
        say(f"{counts.unasked:,} could not be looked up, as ClickHouse did not answer ({why});"
            " no event is counted twice all the same.")  # fmt: skip
    if counts.refused:
        where = "" if dry_run else ": they are dead letters, 'mailpulse dlq ls' says why"
        say(f"{counts.refused:,} refused{where}.")
    if counts.left_out:
        say(f"{counts.left_out:,} left out: of other kinds, out of the range, or by now too old.")
    if counts.too_old:
        say(f"{counts.too_old:,} left out: older than what is remembered of messages.")


def _say_listed(job: "Job", done: Progress, stored: Stored, held: int | None) -> None:
    counts = done.counts
    say(f"{counts.listed:,} {job.read.lists} listed; each takes a request, which gives its events.")
    if held is None:
        say(f"How many events are known already can't be said: ClickHouse did not answer "
            f"({stored.away}).")  # fmt: skip
    else:
        say(f"{held:,} events of {job.source.name} in this range are stored already.")
