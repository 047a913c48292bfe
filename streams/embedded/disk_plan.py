"""What a pipeline on one machine gives up when its disk budget is used up. Pure.

Invariants:
1. Only two things ever go: raw records that no role has still to read and no correction can need,
   oldest first; then whole months of the table ``events`` that no message in workers' memory is of.
   Counts (``campaign_minutes``), suppressions, erasures, dead letters and workers' state stay.
2. Nothing goes that was not announced ``NOTICE_S`` before. A budget that fills faster is exceeded
   meanwhile, which is told.
3. No more goes than brings the use below ``AIM`` of the budget.
4. What can't be freed is told; records are taken in all the same, until the disk itself is full.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import linear_regression
from typing import Final

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
NOTICE_S: Final = DAY_S
CUT: Final = 0.95
"""Share of the budget at which something goes."""
AIM: Final = 0.9
"""Share of the budget that is left in use."""
WARN: Final = 0.8
"""From this share of the budget on what goes first is told."""
WARN_S: Final = 14 * DAY_S
"""What goes first is told, too, if at the present growth something goes within this time."""
TELL_S: Final = DAY_S
"""The same is told again after this time."""
SETTLE_S: Final = 1_200
"""From one cut to the next: ClickHouse deletes the files of parts eight minutes later, Kafka within
one."""
SAMPLE_S: Final = HOUR_S
SAMPLES_MAX: Final = 14 * 24
GROWTH_S_MIN: Final = DAY_S
"""Growth is not told from a shorter time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed file of a partition of the raw topic.

    Attributes:
        bytes: on disk.
        newest_at: when its newest record was written, seconds since 1970.
    """

    bytes: int
    newest_at: float


@dataclass(frozen=True, slots=True)
class Month:
    """A partition of ``events``.

    Attributes:
        name: ``YYYYMM``, in UTC.
        bytes: on disk.
    """

    name: str
    bytes: int

    @property
    def ends_at(self) -> float:
        """When the month ends, seconds since 1970."""
        year, month = int(self.name[:4]), int(self.name[4:])
        return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Use:
    """What takes the disk.

    Attributes:
        bytes: of the whole data directory.
        raw: closed segments of the raw topic, whether their records were read or not.
        months: of ``events``.
    """

    bytes: int
    raw: Sequence[Segment] = ()
    months: Sequence[Month] = ()


@dataclass(frozen=True, slots=True)
class Floors:
    """What always stays.

    Attributes:
        raw_hours: records of the raw topic: for as long as a message can be corrected.
        events_hours: rows of ``events``: for as long as workers remember a message.
    """

    raw_hours: int
    events_hours: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that goes.

    Attributes:
        bytes: that this frees.
        raw_before: raw records that are older go, seconds since 1970; or
        month: of ``events``, ``YYYYMM``.
    """

    bytes: int
    raw_before: float | None = None
    month: str | None = None

    def __str__(self) -> str:
        if self.month is not None:
            what = f"events of {self.month[:4]}-{self.month[4:]} in ClickHouse (counts stay)"
        else:
            before = datetime.fromtimestamp(self.raw_before or 0, UTC)
            what = f"raw records before {before:%Y-%m-%d %H:%M} UTC ('reprocess' needs them)"
        return f"{what}: {size(self.bytes)}"


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one look to the next.

    Attributes:
        samples: when (seconds since 1970) and how many bytes, oldest first.
        announced_at: since when it is told what goes first; ``None``: it is not.
        told_at: when it was told last.
        made: when and what was cut, in words, newest last.
    """

    samples: tuple[tuple[float, int], ...] = ()
    announced_at: float | None = None
    told_at: float | None = None
    made: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a budget stands.

    Attributes:
        used: bytes.
        budget: bytes.
        growth_per_day: bytes; ``None``: not known yet.
        cut_at: when something goes first, seconds since 1970; ``None``: not within ``WARN_S``.
        first: what goes then.
        short: bytes that can't be freed.
    """

    used: int
    budget: int
    growth_per_day: float | None
    cut_at: float | None
    first: tuple[Cut, ...]
    short: int

    def __str__(self) -> str:
        parts = [f"{size(self.used)} of {size(self.budget)}"]
        if self.growth_per_day is not None:
            parts.append(f"{'+' if self.growth_per_day >= 0 else '-'}"
                         f"{size(abs(self.growth_per_day))} a day")  # fmt: skip
        said = ", ".join(parts)
        if self.first and self.cut_at is not None:
            when = datetime.fromtimestamp(self.cut_at, UTC)
            said += f"; from {when:%Y-%m-%d %H:%M} UTC goes: {'; '.join(map(str, self.first))}"
        if self.short:
            said += (
                f"; {size(self.short)} too much that nothing may go for: raise"
                " MAILPULSE_DISK_BYTES_MAX, or give it a larger disk"
            )
        return said


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a look."""

    memory: Memory
    outlook: Outlook
    cuts: tuple[Cut, ...]
    tell: bool


def decide(memory: Memory, use: Use, budget: int, floors: Floors, now: float) -> Decision:
    """Looks at the disk at ``now`` (seconds since 1970); ``budget`` is in bytes."""
    memory = _sampled(memory, use.bytes, now)
    growth = _growth_per_day(memory.samples)
    due_at = _due_at(use.bytes, budget, growth, now)
    is_near = use.bytes >= WARN * budget or (due_at is not None and due_at <= now + WARN_S)
    if not is_near:
        calm = replace(memory, announced_at=None, told_at=None)
        return Decision(calm, Outlook(use.bytes, budget, growth, None, (), 0), (), tell=False)
    first, short = plan(use, max(use.bytes - AIM * budget, (CUT - AIM) * budget), floors, now)
    if use.bytes <= budget:
        short = 0
    announced_at = now if memory.announced_at is None else memory.announced_at
    # None: it does not grow, or nobody knows yet
    cut_at = None if due_at is None else max(due_at, announced_at + NOTICE_S)
    outlook = Outlook(use.bytes, budget, growth, cut_at, first, short)
    settled = not memory.made or now >= memory.made[-1][0] + SETTLE_S
    is_due = use.bytes >= CUT * budget and now >= announced_at + NOTICE_S and settled
    tell = (is_due and bool(first)) or memory.told_at is None or now >= memory.told_at + TELL_S
    told_at = now if tell else memory.told_at
    memory = replace(memory, announced_at=announced_at, told_at=told_at)
    return Decision(memory, outlook, first if is_due else (), tell)


def plan(use: Use, needed: float, floors: Floors, now: float) -> tuple[tuple[Cut, ...], int]:
    """What goes so that ``needed`` bytes are freed, and how many of them can't be."""
    cuts = []
    oldest = now - floors.raw_hours * HOUR_S
    may_go = sorted((one for one in use.raw if one.newest_at < oldest), key=lambda s: s.newest_at)
    freed = 0
    before: float | None = None
    for segment in may_go:
        if freed >= needed:
            break
        freed += segment.bytes
        before = segment.newest_at + 1
    if before is not None:
        cuts.append(Cut(freed, raw_before=before))
    for month in sorted(use.months, key=lambda one: one.name):
        if freed >= needed or month.ends_at > now - floors.events_hours * HOUR_S:
            break
        freed += month.bytes
        cuts.append(Cut(month.bytes, month=month.name))
    return tuple(cuts), max(0, round(needed) - freed)


def _sampled(memory: Memory, used: int, now: float) -> Memory:
    samples = memory.samples
    if samples and samples[-1][0] > now:  # the clock was set back
        samples = ()
    if not samples or now - samples[-1][0] >= SAMPLE_S:
        samples = (*samples, (now, used))[-SAMPLES_MAX:]
    return replace(memory, samples=samples)


def _growth_per_day(samples: Sequence[tuple[float, int]]) -> float | None:
    if len(samples) < 2 or samples[-1][0] - samples[0][0] < GROWTH_S_MIN:
        return None
    times, sizes = zip(*samples, strict=True)
    return linear_regression(times, sizes).slope * DAY_S


def _due_at(used: int, budget: int, growth: float | None, now: float) -> float | None:
    """When the use reaches ``CUT`` of the budget; ``None``: it does not grow, or not known."""
    if used >= CUT * budget:
        return now
    if growth is None or growth <= 0:
        return None
    return now + (CUT * budget - used) / growth * DAY_S


def size(count: float) -> str:
    """Bytes for people, decimal units as disks are sold."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
