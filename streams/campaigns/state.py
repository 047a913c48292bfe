"""The state of ``campaigns``: newest partials, sums per series, sums that are judged, incidents.

Invariants:
1. Pure: ``load`` and ``scan`` are passed in; ``writes`` says what a checkpoint must store.
2. Partials sort by minute, so that a minute entering or leaving a window is one range of keys.
3. What was put since the last checkpoint hides what is stored.
4. Minutes of a campaign from before the cut of an import that has it are in its sums, but are not
   judged: imported history raises no incident, nor does what comes live about its messages.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from schemas.history_log import cut_minute
from streams.campaigns.incidents import Held, Key
from streams.campaigns.measures import Judged
from streams.campaigns.windows import Partial, PartialKey, Series, Stored
from streams.enrich import vectors
from streams.enrich.message_bytes import StateError
from streams.enrich.minute_counts import Load, Scan

META_KEY = b"!meta"
_META = struct.Struct("<Bqqqq")
FORM = 5
"""Of what is stored."""
_OFFSET = struct.Struct("<q")
_CUT = struct.Struct("<I")
_MINUTES = struct.Struct("<II")
"""First and last minute of a series; its sums follow."""
_SEPARATOR = "\x1f"
CHECKPOINTS_KEPT = 60
"""Checkpoints for which the sums that a campaign is judged by stay in memory, at least."""


def _bytes(*parts: str) -> bytes:
    return _SEPARATOR.join(parts).encode("utf-8", "surrogatepass")


def _minute_prefix(minute: int) -> bytes:
    return b"P" + struct.pack(">I", minute)


def pack_partial_key(key: PartialKey) -> bytes:
    """A key that sorts by minute."""
    rest = _bytes(key.campaign, key.mailbox, key.log_id, str(key.partition))
    return _minute_prefix(key.minute) + rest


def unpack_partial_key(data: bytes) -> PartialKey:
    """The key of ``pack_partial_key``'s bytes."""
    (minute,) = struct.unpack_from(">I", data, 1)
    rest = data[5:].decode("utf-8", "surrogatepass")
    campaign, mailbox, log_id, partition = rest.rsplit(_SEPARATOR, 3)
    return PartialKey(campaign, mailbox, minute, log_id, int(partition))


def _unpack_partial(data: bytes) -> Stored:
    (offset,) = _OFFSET.unpack_from(data)
    return offset, tuple(vectors.unpack(data, _OFFSET.size))


def _pack_held(held: Held) -> bytes:
    return json.dumps(asdict(held), separators=(",", ":")).encode()


def _unpack_held(data: bytes) -> Held:
    fields = json.loads(data)
    return Held(**{**fields, "opened": tuple(fields["opened"]), "told": tuple(fields["told"])})


class CampaignState:
    """State of ``campaigns`` for one partition of the minutes topic (``Partials`` of windows).

    Attributes:
        log_id: incarnation of the raw topic when this was written. If it is another one now, the
            minutes topic is assumed to be recreated too.
        applied: offset of the last minutes record merged, -1 for none.
        seen_through_us: highest record timestamp merged, microseconds.
        read_at_us: when that record was read, by the clock of the host that read it.
        alerts_read: offset up to which ``held`` contains the alerts topic.
        held: what is remembered of incidents; some 500 bytes for each campaign and rate that ever
            had one.
    """

    def __init__(self, load: Load, scan: Scan) -> None:
        self._load = load
        self._scan = scan
        self.log_id = ""
        self.applied = -1
        self.seen_through_us = 0
        self.read_at_us = 0
        self.alerts_read = 0
        self._fresh: dict[int, dict[PartialKey, Stored]] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self.held: dict[Key, Held] = {}
        self._changed: set[Key] = set()
        self._cuts: dict[str, int] = {}
        self._cuts_changed: set[str] = set()
        self._judged: dict[str, Judged] = {}
        self._judged_changed: set[str] = set()
        self._judged_lately: set[str] = set()
        self._saved = 0
        self._due: set[str] = set()

    def restore(self) -> None:
        """Reads position and incidents, if anything is stored."""
        (data,) = self._load([META_KEY])
        if data is not None:
            if data[0] != FORM:
                raise StateError(f"state has form {data[0]}, this version reads {FORM}")
            position = _META.unpack_from(data)
            _, self.applied, self.seen_through_us, self.read_at_us, self.alerts_read = position
            self.log_id = data[_META.size :].decode()
        for key, value in self._scan(b"A", b"B"):
            campaign, rate = key[1:].decode("utf-8", "surrogatepass").rsplit(_SEPARATOR, 1)
            self.held[campaign, rate] = _unpack_held(value)
        for key, value in self._scan(b"B", b"C"):
            (self._cuts[key[1:].decode("utf-8", "surrogatepass")],) = _CUT.unpack(value)

    def begin_log(self, log_id: str) -> None:
        """Reads the minutes topic from its beginning; what was merged before stays merged."""
        self.log_id = log_id
        self.applied = -1

    def read_until(self, timestamp_us: int, read_at_us: int) -> None:
        """Notes the timestamp of a record that was merged, and when it was read."""
        if timestamp_us > self.seen_through_us:
            self.seen_through_us, self.read_at_us = timestamp_us, read_at_us

    def log_time_us(self, now_us: int) -> int:
        """The log's time: the newest record's, and from there on at the pace of the host's clock
        while no record comes. Whether that clock is right does not matter, only how it moves."""
        return self.seen_through_us + max(0, now_us - self.read_at_us)

    def get_many(self, keys: Sequence[PartialKey]) -> list[Stored | None]:
        """The newest partial of each key."""
        out: list[Stored | None] = [self._fresh.get(key.minute, {}).get(key) for key in keys]
        missing = [index for index, value in enumerate(out) if value is None]
        values = self._load([pack_partial_key(keys[index]) for index in missing])
        for index, data in zip(missing, values, strict=True):
            if data is not None:
                out[index] = _unpack_partial(data)
        return out

    def put(self, key: PartialKey, value: Stored) -> None:
        """Replaces the partial of ``key``."""
        self._fresh.setdefault(key.minute, {})[key] = value

    def of_minute(self, minute: int) -> Iterator[tuple[PartialKey, Stored]]:
        """All partials of a minute."""
        fresh = self._fresh.get(minute, {})
        for data, value in self._scan(_minute_prefix(minute), _minute_prefix(minute + 1)):
            key = unpack_partial_key(data)
            if key not in fresh:
                yield key, _unpack_partial(value)
        yield from list(fresh.items())

    def campaigns_of(self, begin: int, end: int) -> set[str]:
        """Campaigns that have partials in the minutes from ``begin`` up to but without ``end``."""
        stored = self._scan(_minute_prefix(begin), _minute_prefix(end))
        found = {unpack_partial_key(data).campaign for data, _ in stored}
        for minute, fresh in self._fresh.items():
            if begin <= minute < end:
                found.update(key.campaign for key in fresh)
        return found

    def busy(self) -> set[str]:
        """Campaigns with an incident that is open, or about to be."""
        return {campaign for (campaign, _), one in self.held.items() if not one.is_idle}

    def note_histories(self, partials: Iterable[Partial]) -> None:
        """Notes the cuts of imported history (invariant 4); call it before partials are merged."""
        cuts = {log_id: cut_minute(log_id) for log_id in {one.key.log_id for one in partials}}
        if not any(cuts.values()):
            return
        for one in partials:
            cut = cuts[one.key.log_id]
            if cut is not None and cut > self._cuts.get(one.key.campaign, 0):
                self._cuts[one.key.campaign] = cut
                self._cuts_changed.add(one.key.campaign)

    def judge_also(self, campaign: str, mailbox: str, minute: int, delta: Sequence[int]) -> None:
        """Adds what partials change to the sums that their campaign is judged by (invariant 4)."""
        if self._cuts and minute < self._cuts.get(campaign, 0):
            return
        if campaign and self.judged_of(campaign).add(mailbox, minute, delta):
            self._judged_changed.add(campaign)
            self._due.add(campaign)

    def due(self) -> set[str]:
        """Campaigns to be judged: where something changed since the last call, or is about to."""
        due, self._due = self._due, set()
        return due | self.busy()

    def judged_of(self, campaign: str) -> Judged:
        """The sums that a campaign is judged by."""
        judged = self._judged.get(campaign)
        if judged is None:
            (data,) = self._load([b"J" + _bytes(campaign)])
            judged = Judged() if data is None else Judged.unpack(data)
            self._judged[campaign] = judged
        return judged

    def series_of(self, campaign: str) -> dict[str, Series]:
        """Stored sums of a campaign by mailbox provider, without rolling windows."""
        prefix = b"T" + _bytes(campaign, "")
        out = {}
        for key, value in self._scan(prefix, prefix[:-1] + b"\x20"):
            mailbox = key[len(prefix) :].decode("utf-8", "surrogatepass")
            if _SEPARATOR in mailbox:
                continue  # of a campaign whose name continues with the separator
            series = out[mailbox] = Series()
            series.first_minute, series.last_minute = _MINUTES.unpack_from(value)
            series.total = vectors.unpack(value, _MINUTES.size)
        return out

    def touch(self, campaign: str, mailbox: str, series: Series) -> None:
        """Notes that the sums of a series must be stored."""
        self._series[campaign, mailbox] = series

    def hold(self, changed: dict[Key, Held]) -> None:
        """Notes what is to be remembered of incidents."""
        self.held.update(changed)
        self._changed.update(changed)

    def writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values that a checkpoint must store, the offset among them."""
        for partials in self._fresh.values():
            for key, (offset, counts) in partials.items():
                yield pack_partial_key(key), _OFFSET.pack(offset) + vectors.pack(counts)
        for (campaign, mailbox), series in self._series.items():
            value = _MINUTES.pack(series.first_minute, series.last_minute)
            yield b"T" + _bytes(campaign, mailbox), value + vectors.pack_sums(series.total)
        for campaign in self._judged_changed:
            judged = self._judged[campaign]
            judged.forget(self.seen_through_us // 60_000_000)
            yield b"J" + _bytes(campaign), judged.pack()
        for campaign in self._cuts_changed:
            yield b"B" + _bytes(campaign), _CUT.pack(self._cuts[campaign])
        for held_key in self._changed:
            yield b"A" + _bytes(*held_key), _pack_held(self.held[held_key])
        meta = _META.pack(
            FORM, self.applied, self.seen_through_us, self.read_at_us, self.alerts_read
        )
        yield META_KEY, meta + self.log_id.encode()

    def saved(self) -> None:
        """What ``writes`` gave is stored."""
        self._fresh = {}
        self._series = {}
        self._changed = set()
        self._cuts_changed = set()
        self._judged_lately |= self._judged_changed
        self._judged_changed = set()
        self._saved += 1
        if self._saved % CHECKPOINTS_KEPT == 0:
            self._judged = {name: self._judged[name] for name in self._judged_lately}
            self._judged_lately = set()
