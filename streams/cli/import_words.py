"""What ``mailpulse import`` says: what the files hold, and what an import came to."""

from typing import Any

from streams.cli.backfill_effects import utc
from streams.cli.context import emit, say, table
from streams.cli.import_reading import Found
from streams.history.notes import Progress

CAMPAIGNS_SHOWN = 20


def figures(found: Found, known: int, cut_us: int) -> dict[str, int]:
    """What is kept in ``Progress.counts``."""
    return {
        "events": found.events, "new": found.events - known, "known": known,
        "after_cut": found.after_cut, "empty": found.empty, "first_us": found.first_us,
        "last_us": found.last_us, "cut_us": cut_us, "rejected": sum(found.rejects.values()),
    }  # fmt: skip


def document(counts: dict[str, int]) -> dict[str, Any]:
    """Figures as plain values, times as texts."""
    times = {name: counts[name] for name in ("first_us", "last_us", "cut_us")}
    plain = {name: value for name, value in counts.items() if name not in times}
    return plain | {
        name.removesuffix("_us"): utc(value) if value else None for name, value in times.items()
    }


def say_found(
    found: Found, counts: dict[str, int], rejects: str, joins: str, *, json: bool
) -> None:
    """What a dry run has found.

    Args:
        rejects: file of what was refused.
        joins: what joining it to live events comes to, or why that can't be.
    """
    if json:
        emit({"dry_run": True, **document(counts), "kinds": dict(found.kinds),
              "campaigns": dict(found.campaigns.most_common()), "reasons": dict(found.rejects),
              "rejects": rejects if found.rejects else None, "joins": joins})  # fmt: skip
        return
    if found.events:
        table("events", ("kind", "number"), sorted(found.kinds.items()))
        most = [(name or "(none)", number)
                for name, number in found.campaigns.most_common(CAMPAIGNS_SHOWN)]  # fmt: skip
        table(f"the largest of {len(found.campaigns):,} campaigns", ("campaign", "events"), most)
    say_counts(counts)
    for reason, number in found.rejects.most_common():
        say(f"{number:,} refused, {reason}: {rejects}")
        say(f"  the first is {found.examples[reason]}")
    say(joins)
    say("Nothing was written. --write imports it.")


def say_counts(counts: dict[str, int]) -> None:
    """The figures that a dry run and an import have."""
    first, last = counts["first_us"], counts["last_us"]
    span = f" from {utc(first)} to {utc(last)}" if counts["events"] else ""
    say(f"{counts['events']:,} events{span}: {counts['new']:,} new, {counts['known']:,} stored"
        " already.")  # fmt: skip
    if counts["after_cut"]:
        say(f"{counts['after_cut']:,} left out: they are not from before the cut,"
            f" {utc(counts['cut_us'])} (--until, or when live events began).")  # fmt: skip
    if counts["empty"]:
        say(f"{counts['empty']:,} bodies have no events, such as tests of a URL.")


def say_done(done: Progress, rejects: str, *, joined: bool, json: bool) -> None:
    """What an import came to."""
    counts = done.counts
    imported = counts["new"] - done.duplicates - done.refused
    if json:
        emit({"dry_run": False, **document(counts), "imported": imported,
              "repeats": done.duplicates, "refused_by_fold": done.refused, "counts": done.minutes,
              "log_id": done.log_id, "joined": joined,
              "rejects": rejects if counts["rejected"] else None})  # fmt: skip
        return
    say_counts(counts)
    if counts["rejected"]:
        say(f"{counts['rejected']:,} bodies, rows or events refused: {rejects}")
    say(f"{imported:,} events imported, {done.duplicates:,} repeats left out, {done.minutes:,}"
        f" counts, as log {done.log_id}.")  # fmt: skip
    say("Tables have them once the sink has read them: 'mailpulse lag'.")
