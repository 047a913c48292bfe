"""Which messages each rate is judged over, and their sums per campaign.

A bounce in-band is compared with what was sent: each message counts once, in the minute in which
its first attempt ended, and 24 hours are judged. So a bounce after a day of deferrals belongs to
the send that it was part of. Complaints, late bounces and unsubscriptions come days later, so
they are compared with what was delivered: each counts in the minute of its message's delivery, and
7 days are judged. Either way the messages above and below the line are the same.

Invariants:
1. Pure. Sums change by the difference between a partial count and the one it replaces, so they are
   a function of the newest partials, whatever came before.
2. Bounded: the judged hours and days alone, at most ``BYTES_MAX`` per campaign.
3. What belongs to an hour or a day before the window changes nothing: old news is no incident. Nor
   is what is counted in the present only because it was told so late (``STALE`` of the glossary).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.glossary import COUNTER_INDEX
from schemas.primitives import integers, read_integer, text

HOURS = 24
DAYS = 7
MAILBOXES_STORED_MAX = 64
"""Mailbox providers of a campaign whose sums are kept apart; more are summed up as ``REST``."""
REST = "other"
BYTES_MAX = MAILBOXES_STORED_MAX * ((2 * HOURS + 2) * 5 + (DAYS + 3) * 4) * 6
"""Of one campaign in the state at most, without names: some 110 KB at 64 mailbox providers that all
have mail in every hour, and in each of the 24 hours to come that a clock ahead may date it in; some
8 KB at the 12 that are known by name, some 200 bytes for a single send."""


class Span(NamedTuple):
    """Hours or days: how a window is divided, and how much of it is judged.

    Attributes:
        minutes: length of one bucket.
        buckets: how many are judged, the running one among them.
        counters: what is summed, in the order of its sums: messages judged first, then those that
            are bad, by kind. What of a counter is stale is left out.
        name: of the whole window, for people.
    """

    minutes: int
    buckets: int
    counters: tuple[str, ...]
    name: str

    @property
    def per_day(self) -> int:
        """Buckets in a day."""
        return 1440 // self.minutes


SENT = Span(
    60, HOURS,
    (
        "attempt_sent", "attempt_bounced_hard", "attempt_bounced_soft", "attempt_bounced_block",
        "attempt_bounced_undetermined",
    ),
    "24h",
)  # fmt: skip
DELIVERED = Span(
    1440, DAYS,
    ("delivered", "cohort_complained", "cohort_bounced_late", "cohort_unsubscribed"), "7d",
)  # fmt: skip
SPANS = (SENT, DELIVERED)
_INDEXES = tuple(tuple(COUNTER_INDEX[name] for name in span.counters) for span in SPANS)
_STALE = tuple(
    (place, COUNTER_INDEX[f"{name}_stale"])
    for place, name in enumerate(DELIVERED.counters)
    if f"{name}_stale" in COUNTER_INDEX
)
"""Places in the sums of ``DELIVERED``, and the counters to be left out of each."""
_BOUNCES = SENT.counters[1:]


@dataclass(frozen=True, slots=True)
class Measure:
    """How a rate is judged: counters above the line, over which span."""

    span: Span
    above: tuple[str, ...]

    def figures(self, sums: Sequence[int]) -> tuple[int, int]:
        """Numerator and denominator of sums in the order of the span's counters."""
        at = self.span.counters.index
        return sum([sums[at(name)] for name in self.above]), sums[0]


MEASURES: Mapping[str, Measure] = {
    "hard_bounce_rate": Measure(SENT, ("attempt_bounced_hard",)),
    "soft_bounce_rate": Measure(SENT, ("attempt_bounced_soft",)),
    "block_bounce_rate": Measure(SENT, ("attempt_bounced_block",)),
    "bounce_rate": Measure(SENT, _BOUNCES),
    "late_bounce_rate": Measure(DELIVERED, ("cohort_bounced_late",)),
    "complaint_rate": Measure(DELIVERED, ("cohort_complained",)),
    "unsubscribe_rate": Measure(DELIVERED, ("cohort_unsubscribed",)),
}
"""Rates that can have lines."""

Sums = dict[str, list[int]]
"""Mailbox provider -> sums in the order of a span's counters."""


def _add(sums: Sums, mailbox: str, values: list[int]) -> None:
    held = sums.get(mailbox)
    sums[mailbox] = values if held is None else [a + b for a, b in zip(held, values, strict=True)]


class Judged:
    """The sums of one campaign by hour and by day.

    Attributes:
        first_minute: of the campaign's oldest count; 0 without any.
        grown: counters that grew since the last look at them; not stored.
    """

    __slots__ = ("_windows", "buckets", "first_minute", "grown")

    def __init__(self) -> None:
        self.first_minute = 0
        self.grown: set[str] = set()
        self.buckets: tuple[dict[int, Sums], ...] = tuple({} for _ in SPANS)
        self._windows: list[tuple[int, Sums]] = [(-1, {}) for _ in SPANS]
        """Per span: the newest bucket of the window that was last asked for, and its sums."""

    def add(self, mailbox: str, minute: int, delta: Sequence[int]) -> bool:
        """Adds what a partial count changes.

        Returns:
            Whether that matters for any rate.
        """
        changed = False
        for place, (span, indexes) in enumerate(zip(SPANS, _INDEXES, strict=True)):
            values = [delta[index] for index in indexes]
            if span is DELIVERED:
                for position, index in _STALE:
                    values[position] -= delta[index]
            if not any(values):
                continue
            changed = True
            self.grown.update(
                name for name, value in zip(span.counters, values, strict=True) if value > 0
            )
            number = minute // span.minutes
            sums = self.buckets[place].setdefault(number, {})
            full = mailbox not in sums and len(sums) >= MAILBOXES_STORED_MAX
            _add(sums, REST if full else mailbox, values)
            last, window = self._windows[place]
            if last - span.buckets < number <= last:
                _add(window, REST if full else mailbox, values)
        if changed:
            self.first_minute = min(self.first_minute or minute, minute)
        return changed

    def window(self, span: Span, minute: int) -> Sums:
        """Sums by mailbox provider over the window that ends with the running ``minute``; not to be
        changed, and valid until the next ``add``."""
        place, number = SPANS.index(span), minute // span.minutes
        last, out = self._windows[place]
        if last == number:
            return out
        out = {}
        self._windows[place] = (number, out)
        for _, sums in self.inside(span, minute):
            for mailbox, values in sums.items():
                _add(out, mailbox, values)
        return out

    def inside(self, span: Span, minute: int) -> Iterable[tuple[int, Sums]]:
        """The buckets of a window, oldest first; each with its number since 1970."""
        last = minute // span.minutes
        buckets = self.buckets[SPANS.index(span)]
        return [
            (number, buckets[number])
            for number in sorted(buckets)
            if last - span.buckets < number <= last
        ]

    def first_day(self, span: Span, minute: int) -> int:
        """Days from the campaign's first to the one in which the window begins; at least 0."""
        begins = (minute // span.minutes - span.buckets + 1) * span.minutes
        return max(0, -(-(begins - self.first_minute) // 1440))

    def news(self) -> set[str]:
        """Counters that grew since the last call."""
        grown, self.grown = self.grown, set()
        return grown

    def forget(self, minute: int) -> None:
        """Drops what lies before every window that ends with ``minute`` or later."""
        for span, buckets in zip(SPANS, self.buckets, strict=True):
            floor = minute // span.minutes - span.buckets
            for number in [number for number in buckets if number <= floor]:
                del buckets[number]

    def pack(self) -> bytes:
        """The bytes that ``unpack`` reads."""
        out = [integers([self.first_minute])]
        for buckets in self.buckets:
            out.append(integers([len(buckets)]))
            for number, sums in buckets.items():
                out.append(integers([number, len(sums)]))
                out += [text(mailbox) + integers(values) for mailbox, values in sums.items()]
        return b"".join(out)

    @classmethod
    def unpack(cls, data: bytes) -> "Judged":
        """The sums of ``pack``'s bytes."""
        one = cls()
        integer, name = _reader(data)
        one.first_minute = integer()
        for span, buckets in zip(SPANS, one.buckets, strict=True):
            for _ in range(integer()):
                sums: Sums = {}
                buckets[integer()] = sums
                for _ in range(integer()):
                    mailbox = name()
                    sums[mailbox] = [integer() for _ in span.counters]
        return one


class _Reading(NamedTuple):
    integer: Callable[[], int]
    text: Callable[[], str]


def _reader(data: bytes) -> _Reading:
    at = 0

    def integer() -> int:
        nonlocal at
        value, at = read_integer(data, at)
        return value

    def text_of() -> str:
        nonlocal at
        size = integer()
        at += size
        return data[at - size : at].decode("utf-8", "surrogatepass")

    return _Reading(integer, text_of)
