"""Reads the files of an import as events: counts them, sorts them, keeps what is refused.

Invariants:
1. Every body and row becomes events, is told as one without events, or is refused with its place
   and reason. What is refused goes to a file, and the rest goes on.
2. Events go through ingress's own steps: normalisation, privacy, encoding, keying.
3. Nothing is written but the file of rejects and what ``keep`` does.
"""

import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ingest.archive import Reader
from ingest.intake import Intake
from ingest.providers.base import Parsed
from schemas.codec import Codec
from schemas.event import event_hash
from schemas.partition import partition_of
from schemas.settings import Source
from streams.history.files import Item, items
from streams.history.sorting import Stamped

TELL_S = 5.0
"""Between two lines of progress."""
CONTENT_BYTES_MAX = 64 << 10
"""Of a refused body or row, in the file of rejects."""
CAMPAIGNS_MAX = 100_000
"""Campaigns that are counted by name; those beyond are counted together."""
MANY = "(others)"


@dataclass
class Found:
    """What the files hold.

    Attributes:
        events: that may be imported.
        first_us, last_us: time of the first and the last of them.
        kinds, campaigns: how many of each type, and of each campaign ('' for none).
        after_cut: events that are not from before the cut.
        empty: bodies without events, such as tests of a URL.
        rejects: how many of each reason.
        identities: hashes of the events' ids.
    """

    events: int = 0
    first_us: int = 0
    last_us: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    campaigns: Counter[str] = field(default_factory=Counter)
    after_cut: int = 0
    empty: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    identities: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, kind: str, campaign: str, at_us: int, identity: int) -> None:
        """Counts an event."""
        self.events += 1
        self.first_us = min(self.first_us or at_us, at_us)
        self.last_us = max(self.last_us, at_us)
        self.kinds[kind] += 1
        if campaign not in self.campaigns and len(self.campaigns) >= CAMPAIGNS_MAX:
            campaign = MANY
        self.campaigns[campaign] += 1
        self.identities.append(identity)


class Pace:
    """Tells how far something is, at most each ``TELL_S``.

    Args:
        total: what there is to do.
        say: shows a line.
        what: of the things that are counted.
    """

    def __init__(self, total: int, say: Callable[[str], None], what: str) -> None:
        self._total, self._say, self._what = max(1, total), say, what
        self._begun_s = time.monotonic()
        self._told_s = self._begun_s
        self.done = 0
        self.counted = 0

    def add(self, done: int = 0, counted: int = 0) -> None:
        """So much was done, and so much counted, since the last time."""
        self.done += done
        self.counted += counted
        at_s = time.monotonic()
        if at_s - self._told_s >= TELL_S:
            self._told_s = at_s
            self._say(self.line(at_s))

    def line(self, at_s: float) -> str:
        """Share, number, rate and time left."""
        seconds = max(1e-3, at_s - self._begun_s)
        share = min(1.0, self.done / self._total)
        line = (
            f"{100 * share:.1f} %, {self.counted:,} {self._what}, {self.counted / seconds:,.0f}/s"
        )
        if 0 < share < 1:
            line += f", about {seconds * (1 - share) / share:,.0f} s left"
        return line


class Rejects:
    """The file of what was refused; made with the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        path.unlink(missing_ok=True)

    def write(self, place: str, reason: str, detail: str, content: bytes) -> None:
        """Keeps one: a JSON line."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        text = content[:CONTENT_BYTES_MAX].decode("utf-8", "replace")
        document = {"place": place, "reason": reason, "detail": detail, "content": text}
        self._file.write(json.dumps(document) + "\n")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """How the files are read.

    Attributes:
        bodies, rows: readers; ``None``: rows can't be read, ``no_rows`` says why.
        cut_us: events from here on are left out.
        partitions: of the raw topic.
    """

    source: Source
    intake: Intake
    codec: Codec
    bodies: Reader
    rows: Reader | None
    no_rows: str
    cut_us: int
    now_us: int
    partitions: int

    def run(
        self,
        files: Iterable[Path],
        rejects: Rejects,
        keep: Callable[[Stamped], None],
        say: Callable[[str], None],
    ) -> Found:
        """Reads all files.

        Args:
            keep: is given each event that may be imported.
        """
        some = list(files)
        pace = Pace(sum(path.stat().st_size for path in some), say, "events read")
        found, hint_us = Found(), self.now_us
        for item in items(some, pace.add):
            before = found.events
            hint_us = self._take(item, hint_us, found, rejects, keep)
            pace.add(counted=found.events - before)
        rejects.close()
        return found

    def _take(
        self,
        item: Item,
        hint_us: int,
        found: Found,
        rejects: Rejects,
        keep: Callable[[Stamped], None],
    ) -> int:
        def refuse(reason: str, detail: str, content: bytes) -> None:
            found.rejects[reason] += 1
            rejects.write(item.place, reason, detail, content)

        reader = self.rows if item.is_row else self.bodies
        if item.problem or reader is None:
            refuse("not_readable", item.problem or self.no_rows, item.content)
            return hint_us
        parsed, hint_us = reader.read(item.content, hint_us)
        for one in parsed.rejects:
            refuse(one.reason, one.detail, one.content)
        if not parsed.count:
            found.empty += 1
        events = [event for event in parsed.events if event["occurred_at"] < self.cut_us]
        found.after_cut += len(parsed.events) - len(events)
        kept = self.intake.pulled(self.source, Parsed(events), self.now_us)
        for _, letter in kept.parcel.dead_letters:
            said = self.codec.decode(letter, "dead_letter")
            refuse(said["reason"], said["detail"], said["content"])
        for event, (key, value) in zip(kept.events, kept.parcel.events, strict=True):
            at_us, identity = event["occurred_at"], event_hash(event["event_id"])
            found.add(event["event_type"], event["campaign_id"] or "", at_us, identity)
            keep(Stamped(partition_of(key, self.partitions), at_us, value, key, identity))
        return hint_us
