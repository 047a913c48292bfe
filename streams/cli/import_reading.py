"""Reads the files of an import as events: counts them, sorts them, keeps what is refused.

Invariants:
1. Every body and row becomes events, is told as one without events, or is refused with its place
   and reason. What is refused goes to a file, and the rest goes on.
2. Events go through ingress's own steps: normalisation, privacy, encoding, keying.
3. Nothing is written but the file of rejects and what ``keep`` does.
4. What is found does not depend on how many processes read (``streams.cli.import_processes``): a
   part is a function of its items, and parts are taken in the files' order.
"""

import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from ingest.archive import Reader, of_bodies, of_rows
from ingest.intake import Intake
from ingest.providers import REGISTRY
from ingest.providers.base import Parsed
from schemas.codec import Codec
from schemas.event import event_hash
from schemas.partition import partition_of
from schemas.settings import Settings, Source
from streams.history.files import Item, items
from streams.history.sorting import Stamped

TELL_S = 5.0
"""Between two lines of progress."""
CONTENT_BYTES_MAX = 64 << 10
"""Of a refused body or row, in the file of rejects."""
PART_ITEMS, PART_BYTES = 2_000, 1 << 20
"""Most items of a part, and bytes from which on it takes no more."""
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
        examples: of each reason the first place and what is wrong there.
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
    examples: dict[str, str] = field(default_factory=dict)

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

    def refuse(self, reason: str, place: str, detail: str) -> None:
        """Counts one that is refused."""
        self.rejects[reason] += 1
        self.examples.setdefault(reason, f"{place}: {detail}" if detail else place)


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


class Refusal(NamedTuple):
    """What is refused; see ``Rejects.write``."""

    place: str
    reason: str
    detail: str
    content: bytes


class Taken(NamedTuple):
    """An event that may be imported, with what is counted of it."""

    kind: str
    campaign: str
    record: tuple[int, int, bytes, bytes, int]
    """A ``Stamped``."""


@dataclass
class Part:
    """What some items came to, in their order."""

    taken: list[Taken] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    after_cut: int = 0
    empty: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How the files are read; can be pickled.

    Attributes:
        mapped, mapping: whose mapping reads rows; ``None``: there is none, ``no_rows`` says why.
        cut_us: events from here on are left out.
        partitions: of the raw topic.
    """

    settings: Settings
    codec: Codec
    source: Source
    mapped: Source
    mapping: Mapping[str, Any] | None
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
        read: Callable[[Iterator[list[Item]]], Iterator[Part]] | None = None,
    ) -> Found:
        """Reads all files.

        Args:
            keep: is given each event that may be imported.
            read: reads lists of items, and gives what they came to in the same order; by default
                this process does.
        """
        some = list(files)
        pace = Pace(sum(path.stat().st_size for path in some), say, "events read")
        found = Found()
        for part in (read or self.parts)(in_parts(items(some, pace.add))):
            for one in part.taken:
                record = Stamped(*one.record)
                found.add(one.kind, one.campaign, record.at_us, record.identity)
                keep(record)
            for refusal in part.refused:
                found.refuse(refusal.reason, refusal.place, refusal.detail)
                rejects.write(*refusal)
            found.after_cut += part.after_cut
            found.empty += part.empty
            pace.add(counted=len(part.taken))
        rejects.close()
        return found

    def serve(self, lists: Iterator[list[Item]], send: Callable[[Part], None]) -> None:
        """Reads lists as a process does that does nothing else."""
        for part in self.parts(lists):
            send(part)

    def parts(self, lists: Iterable[list[Item]]) -> Iterator[Part]:
        """What each list came to."""
        taker = _Taker(self)
        for some in lists:
            yield taker.part(some)


def in_parts(found: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in lists of bounded size."""
    some: list[Item] = []
    size = 0
    for item in found:
        some.append(item)
        size += len(item.content)
        if len(some) >= PART_ITEMS or size >= PART_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


class _Taker:
    """Makes events of items."""

    def __init__(self, how: Reading) -> None:
        self._how = how
        self._intake = Intake(how.settings, how.codec)
        self._bodies = of_bodies(how.source, REGISTRY[how.source.provider], how.now_us)
        self._rows: Reader | None = None
        if how.mapping is not None:
            self._rows = of_rows(how.source, how.mapped, how.mapping, how.now_us)

    def part(self, some: Iterable[Item]) -> Part:
        """What they came to."""
        part = Part()
        for item in some:
            reader = self._rows if item.is_row else self._bodies
            if item.problem or reader is None:
                problem = item.problem or self._how.no_rows
                part.refused.append(Refusal(item.place, "not_readable", problem, item.content))
            else:
                self._take(item, reader, part)
        return part

    def _take(self, item: Item, reader: Reader, part: Part) -> None:
        how = self._how
        parsed = reader.read(item.content)
        refusals = [(one.reason, one.detail, one.content) for one in parsed.rejects]
        if not parsed.count:
            part.empty += 1
        events = [event for event in parsed.events if event["occurred_at"] < how.cut_us]
        part.after_cut += len(parsed.events) - len(events)
        kept = self._intake.pulled(how.source, Parsed(events), how.now_us)
        for _, letter in kept.parcel.dead_letters:
            said = how.codec.decode(letter, "dead_letter")
            refusals.append((said["reason"], said["detail"], said["content"]))
        part.refused += [Refusal(item.place, *one) for one in refusals]
        for event, (key, value) in zip(kept.events, kept.parcel.events, strict=True):
            at_us, identity = event["occurred_at"], event_hash(event["event_id"])
            record = (partition_of(key, how.partitions), at_us, value, key, identity)
            part.taken.append(Taken(event["event_type"], event["campaign_id"] or "", record))
