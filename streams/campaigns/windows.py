"""Rolling windows per campaign, merged from absolute partial counts.

Invariants:
1. Pure: the clock is the argument ``minute`` or ``as_of``; stored partials are read through
   ``Partials``.
2. A partial gives the counts of a campaign, mailbox provider, minute, log and partition as of an
   offset. The one with the highest offset is valid; merging one twice, or an older one late,
   changes nothing.
3. A window of n minutes is the n whole minutes before the running one, so it has ended when it is
   published. Sums change by the difference between a partial and the one it replaces, and by whole
   minutes entering or leaving.
4. Sums are integers; rates are computed when they are needed, never stored.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import sub
from typing import NamedTuple, Protocol

from schemas.glossary import WINDOWS_S
from streams.enrich.vectors import WIDTH

LONGEST_MIN = max(seconds // 60 for seconds in WINDOWS_S.values() if seconds is not None)


class Span(NamedTuple):
    """Minutes from ``before`` minutes before the running one up to but without ``end`` after it."""

    before: int
    end: int


SPANS: Mapping[str, Span] = {
    **{name: Span(seconds // 60, 0) for name, seconds in WINDOWS_S.items() if seconds is not None},
}
"""Rolling sums by name: the windows without ``total``."""
_PLACES = {name: place for place, name in enumerate(SPANS)}
LATENESS_MIN = 24 * 60
"""A minute is settled once it is older than this."""
_Z95 = 1.959963984540054


class PartialKey(NamedTuple):
    """Identity of a partial."""

    campaign: str
    mailbox: str
    minute: int
    log_id: str
    partition: int


class Partial(NamedTuple):
    """Absolute counts as of an offset."""

    key: PartialKey
    offset: int
    counts: tuple[int, ...]


CountKey = tuple[str, str, int]
"""Campaign, mailbox provider and minute: what the partials of all input partitions add up to."""
Stored = tuple[int, tuple[int, ...]]
"""Offset and counts of a stored partial."""


class Partials(Protocol):
    """Stored partials, together with those that were put since the last checkpoint."""

    def get_many(self, keys: Sequence[PartialKey]) -> list[Stored | None]:
        """The newest of each key."""

    def put(self, key: PartialKey, value: Stored) -> None:
        """Replaces the partial of ``key``."""

    def of_minute(self, minute: int) -> Iterator[tuple[PartialKey, Stored]]:
        """All partials of a minute."""

    def campaigns_of(self, begin: int, end: int) -> set[str]:
        """Campaigns that have partials in the minutes from ``begin`` up to but without ``end``."""

    def series_of(self, campaign: str) -> dict[str, "Series"]:
        """Stored sums of a campaign by mailbox provider, without rolling windows."""


class Series:
    """Sums of one campaign and mailbox provider: the total, and one per rolling span."""

    __slots__ = ("first_minute", "last_minute", "total", "windows")

    def __init__(self) -> None:
        self.total = [0] * WIDTH
        self.windows: list[list[int] | None] = [None] * len(SPANS)
        self.first_minute = 0
        self.last_minute = 0


class _Change(NamedTuple):
    """Counts of partials, and of those that they replace."""

    after: list[Sequence[int]]
    before: list[Sequence[int]]

    def delta(self) -> list[int]:
        """What they add together."""
        after = map(sum, zip(*self.after, strict=True))
        if not self.before:
            return list(after)
        return list(map(sub, after, map(sum, zip(*self.before, strict=True))))


class Windows:
    """Rolling sums of every campaign that one partition of the minutes topic holds.

    Args:
        partials: stores the partials.
        minute: the running minute (since 1970) to begin with.
        also: is told what the newer partials of a campaign, mailbox provider and minute change.
    """

    def __init__(
        self,
        partials: Partials,
        minute: int,
        also: Callable[[str, str, int, Sequence[int]], None] | None = None,
    ) -> None:
        self._partials = partials
        self._also = also
        self.minute = minute
        self.series: dict[str, dict[str, Series]] = {}
        self.changed: set[str] = set()
        self.touched: set[tuple[str, str]] = set()

    def fill(self, known: int = 0) -> None:
        """Computes the rolling sums from what is stored, after a start.

        Args:
            known: minute of the newest partials that were merged, 0 for none. Campaigns that were
                in a window then and are in none now count as changed.
        """
        begin = self.minute - LONGEST_MIN
        if 0 < known < self.minute:
            self.changed |= self._partials.campaigns_of(max(0, known - LONGEST_MIN), begin)
        for minute in range(begin, self.minute + 1):
            self._move(minute, self._around(minute), 1)

    def _around(self, minute: int) -> list[int]:
        """Places of the spans that a minute lies in now."""
        distance = minute - self.minute
        return [
            place
            for place, span in enumerate(SPANS.values())
            if -span.before <= distance < span.end
        ]

    def apply(self, partials: Sequence[Partial]) -> int:
        """Merges partials in order.

        Returns:
            How many were newer than what was known.
        """
        keys = list({partial.key for partial in partials})
        stored = zip(keys, self._partials.get_many(keys), strict=True)
        newest = {key: old for key, old in stored if old is not None}
        changes: dict[CountKey, _Change] = {}
        applied = 0
        for key, offset, counts in partials:
            old = newest.get(key)
            if old is not None and offset <= old[0]:
                continue
            newest[key] = (offset, counts)
            self._partials.put(key, (offset, counts))
            # Every input partition tells of the same campaigns and minutes: one change for all.
            change = changes.get(key[:3])
            if change is None:
                change = changes[key[:3]] = _Change([], [])
            change.after.append(counts)
            if old is not None:
                change.before.append(old[1])
            applied += 1
        for place, change in changes.items():
            self._add(*place, change.delta())
        return applied

    def _add(self, campaign: str, mailbox: str, minute: int, delta: Sequence[int]) -> None:
        series = self._series(campaign, mailbox)
        series.first_minute = min(series.first_minute or minute, minute)
        series.last_minute = max(series.last_minute, minute)
        _accumulate(series.total, delta, 1)
        for place in self._around(minute):
            series.windows[place] = _moved(series.windows[place], delta, 1)
        self.changed.add(campaign)
        self.touched.add((campaign, mailbox))
        if self._also is not None:
            self._also(campaign, mailbox, minute, delta)

    def _series(self, campaign: str, mailbox: str) -> Series:
        by_mailbox = self.of_campaign(campaign)
        series = by_mailbox.get(mailbox)
        if series is None:
            series = by_mailbox[mailbox] = Series()
        return series

    def of_campaign(self, campaign: str) -> dict[str, Series]:
        """The series of a campaign by mailbox provider, read into memory if necessary."""
        by_mailbox = self.series.get(campaign)
        if by_mailbox is None:
            by_mailbox = self.series[campaign] = self._partials.series_of(campaign)
        return by_mailbox

    def forget_quiet(self) -> None:
        """Drops series without rolling sums from memory; call it right after a checkpoint."""
        for campaign in [
            campaign
            for campaign, by_mailbox in self.series.items()
            if not any(any(one.windows) for one in by_mailbox.values())
        ]:
            del self.series[campaign]

    def advance(self, minute: int) -> None:
        """Makes ``minute`` the running one and notes whose sums changed."""
        while self.minute < minute:
            before = self.minute
            self.minute += 1
            # Partials may have come before their minute, because some provider's clock is ahead.
            for entering, places in _grouped(before + span.end for span in SPANS.values()):
                self._move(entering, places, 1)
            for leaving, places in _grouped(before - span.before for span in SPANS.values()):
                self._move(leaving, places, -1)

    def _move(self, minute: int, spans: Sequence[int], sign: int) -> None:
        for key, (_, counts) in self._partials.of_minute(minute):
            series = self._series(key.campaign, key.mailbox)
            for place in spans:
                series.windows[place] = _moved(series.windows[place], counts, sign)
            self.changed.add(key.campaign)


def _grouped(minutes: Iterable[int]) -> Iterable[tuple[int, list[int]]]:
    """Each minute with the places that it stands at: a minute's partials are read once."""
    places: dict[int, list[int]] = {}
    for place, minute in enumerate(minutes):
        places.setdefault(minute, []).append(place)
    return places.items()


def _accumulate(into: list[int], counts: Sequence[int], sign: int) -> None:
    for index, value in enumerate(counts):
        if value:
            into[index] += sign * value


def _moved(sums: list[int] | None, counts: Sequence[int], sign: int) -> list[int] | None:
    """The changed sums; ``None`` when all are 0, to keep inactive campaigns small."""
    result = [0] * WIDTH if sums is None else sums
    _accumulate(result, counts, sign)
    return result if any(result) else None


def summed(series: Iterable[Series], window: str) -> list[int]:
    """Counts of several mailbox providers together, for a window or ``total``."""
    out = [0] * WIDTH
    for one in series:
        counts = one.total if window == "total" else one.windows[_PLACES[window]]
        if counts is not None:
            _accumulate(out, counts, 1)
    return out


def wilson(numerator: int, denominator: int) -> tuple[float, float] | None:
    """Wilson score interval at 95 % of a ratio; ``None`` for denominator 0.

    A flow ratio above 1 has no such interval and is treated as 1.
    Source: E. B. Wilson, «Probable Inference», JASA 22 (1927).
    """
    if denominator <= 0:
        return None
    ratio = min(1.0, max(0.0, numerator / denominator))
    z2 = _Z95 * _Z95 / denominator
    centre = ratio + z2 / 2
    spread = _Z95 * math.sqrt(ratio * (1 - ratio) / denominator + z2 / (4 * denominator))
    return max(0.0, (centre - spread) / (1 + z2)), min(1.0, (centre + spread) / (1 + z2))
