"""What a pull of a provider's history is to the shell: requests, pages, and how far it is.

Invariants:
1. Pure. What a provider's API is asked, and what its answers say, is given by a ``Pull``.
2. ``Progress`` is everything that a pull needs to go on after a kill, as JSON. It holds no secret
   and no address.
3. Text with other values than ``to_json`` wrote is no progress: a position that is almost right
   would skip events.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from schemas.errors import BadInput
from schemas.history_api import Answer, Ask

State = dict[str, Any]
Record = tuple[str, bytes, bytes]
"""Topic, key and value."""
FORM = 2
"""Of ``Progress`` as JSON."""
CUT_MAX = 20
"""Of the things that the API did not give in full, so many are named."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer gave.

    Attributes:
        state: of the pull, after it.
        records: for Kafka: events and dead letters.
        kinds: event type -> how many events.
        event_ids: of the events.
        times_us: when the events happened, microseconds since 1970.
        refused: items that became dead letters.
        left_out: items that are not taken: of another kind, or outside the range.
        too_old: events that state may have forgotten.
        listed: what a survey counted instead of reading it.
        gone: what the API listed and then did not give.
        machines: the provider's word for a machine and our verdict -> opens and clicks that the
            provider ascribes to a machine, and we by themselves do not.
        cut: what the API did not give in full, one line each.
    """

    state: State
    records: Sequence[Record] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)
    event_ids: Sequence[str] = ()
    times_us: Sequence[int] = ()
    refused: int = 0
    left_out: int = 0
    too_old: int = 0
    listed: int = 0
    gone: int = 0
    machines: Mapping[str, int] = field(default_factory=dict)
    cut: Sequence[str] = ()


class Pull(Protocol):
    """One provider's history, read by one source's access."""

    gap_s: float
    """Least time between two requests."""

    def ask(self, state: State) -> Ask | None:
        """The next request; ``None``: everything was read."""

    def take(self, state: State, answer: Answer, received_at: int) -> Page:
        """What a good answer gives; ``received_at`` in microseconds since 1970.

        Raises:
            BadInput: the answer is not what the API documents.
        """

    def refused(self, state: State, answer: Answer) -> Page | None:
        """What to go on with after an answer that refuses; ``None``: there is no way."""

    def share(self, state: State) -> float:
        """How much of the pull is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a pull read so far.

    Attributes:
        requests: answers that were good.
        kinds: event type -> how many events.
        known: events that were stored already.
        unasked: events of which that is not known, since ClickHouse did not answer.
        refused, left_out, too_old, listed, gone, machines, cut: sums of those of the pages.
        first_us, last_us: times of the oldest and the newest event; 0: none yet.
        seconds: how long it ran.
    """

    requests: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    known: int = 0
    unasked: int = 0
    refused: int = 0
    left_out: int = 0
    too_old: int = 0
    listed: int = 0
    gone: int = 0
    machines: Mapping[str, int] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    first_us: int = 0
    last_us: int = 0
    seconds: float = 0.0

    @property
    def events(self) -> int:
        """Events that were read."""
        return sum(self.kinds.values())

    @property
    def new(self) -> int | None:
        """Events that were not stored before; ``None`` if that is not known of all."""
        return None if self.unasked else self.events - self.known

    def plus(self, page: Page, known: int | None, seconds: float) -> Self:
        """The counts with a page.

        Args:
            known: how many of its events were stored before; ``None``: not known.
            seconds: that it took.
        """
        times = [*page.times_us, *(one for one in (self.first_us, self.last_us) if one)]
        return type(self)(
            self.requests + 1, _sum(self.kinds, page.kinds), self.known + (known or 0),
            self.unasked + (len(page.event_ids) if known is None else 0),
            self.refused + page.refused, self.left_out + page.left_out,
            self.too_old + page.too_old, self.listed + page.listed, self.gone + page.gone,
            _sum(self.machines, page.machines), (*self.cut, *page.cut)[:CUT_MAX],
            min(times, default=0), max(times, default=0), self.seconds + seconds,
        )  # fmt: skip


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is.

    Attributes:
        source: its name.
        given: options of the range with their values, as they were given.
        begin_us, until_us: the range, microseconds since 1970.
        state: of the pull.
        of: what names the history that is read, with its access: a position in one means nothing
            in another.
    """

    source: str
    given: tuple[tuple[str, str], ...]
    begin_us: int
    until_us: int
    state: State
    counts: Counts = Counts()
    of: str = ""

    def after(self, page: Page, known: int | None, seconds: float) -> Self:
        """The progress once a page is kept; arguments as of ``Counts.plus``."""
        return type(self)(
            self.source, self.given, self.begin_us, self.until_us, page.state,
            self.counts.plus(page, known, seconds), self.of,
        )  # fmt: skip

    def to_json(self) -> str:
        """The progress as text."""
        values = asdict(self)
        return json.dumps({"form": FORM, "check": _check(values), **values})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The progress of ``to_json``.

        Raises:
            BadInput: ``no_progress``: it is none, or of another version.
        """
        try:
            values = json.loads(text)
            if values.pop("form") != FORM or values.pop("check") != _check(values):
                raise ValueError
            counts = values.pop("counts")
            counts["cut"] = tuple(counts["cut"])
            values["given"] = tuple((name, value) for name, value in values["given"])
            return cls(**values, counts=Counts(**counts))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise BadInput(
                "no_progress", "not the progress of a backfill of this version"
            ) from None


def _check(values: Mapping[str, Any]) -> str:
    """A checksum of a progress's values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
