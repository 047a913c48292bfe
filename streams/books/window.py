"""Which part of a provider's history may be pulled.

Invariants:
1. Pure.
2. An event that came by webhook is known by its message's state. So nothing is pulled from before
   what state remembers: a repeat would be counted as news there.
3. Nor from before what is counted at the time it happened (``OLD_S``): it would be counted today.
4. Nor from what the API may still change (``settled_s``).
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.errors import BadInput
from streams.enrich.minute_counts import OLD_S

MARGIN_S = 3600
"""Between the oldest event that may be pulled and what state forgets."""


@dataclass(frozen=True, slots=True)
class Range:
    """What is pulled, seconds since 1970; ``notes`` say what of it was changed, and why."""

    begin_s: float
    until_s: float
    notes: tuple[str, ...] = ()


def remembered_s(ttl_s: int) -> int:
    """How old a pulled event may be, in seconds (invariants 2 and 3)."""
    return min(ttl_s, OLD_S)


def range_of(
    begin_s: float, until_s: float, now_s: float, *, ttl_s: int, keeps_s: int | None, settled_s: int
) -> Range:
    """The range to pull.

    Args:
        begin_s, until_s: as asked for, seconds since 1970.
        ttl_s: how long state remembers a message.
        keeps_s: how long the API keeps events; ``None``: that depends on the plan.
        settled_s: age from which on the API's answers no longer change.

    Raises:
        BadInput: ``bad_range``, ``too_old``, ``not_kept`` or ``too_young``, with the reason.
    """
    if begin_s >= until_s:
        raise BadInput("bad_range", "--from is not before --to")
    oldest = now_s - remembered_s(ttl_s) + MARGIN_S
    if begin_s < oldest:
        raise BadInput("too_old", f"{_too_old(ttl_s)} --from {iso(oldest)} is the earliest")
    if keeps_s is not None and begin_s < now_s - keeps_s:
        raise BadInput(
            "not_kept",
            f"the API keeps events for {keeps_s // 86400} days: --from {iso(now_s - keeps_s)} is "
            "the earliest",
        )
    newest = now_s - settled_s
    if begin_s >= newest:
        raise BadInput(
            "too_young", f"what is younger than {settled_s // 60} minutes may still change"
        )
    if until_s > newest:
        note = f"ends at {iso(newest)}: what is younger than {settled_s // 60} minutes may change"
        return Range(begin_s, newest, (note,))
    return Range(begin_s, until_s)


def _too_old(ttl_s: int) -> str:
    if ttl_s < OLD_S:
        return (
            f"messages are remembered for {ttl_s // 3600} hours (MAILPULSE_MESSAGE_TTL_HOURS): "
            "events from before would be counted again where they came already."
        )
    return (
        f"events older than {OLD_S // 86400} days are counted by their arrival: they would be in "
        "today's figures."
    )


def iso(at_s: float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC, rounded up to whole seconds."""
    return f"{datetime.fromtimestamp(-(-at_s // 1), UTC):%Y-%m-%dT%H:%M:%SZ}"
