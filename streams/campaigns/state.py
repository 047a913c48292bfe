"""The state of ``campaigns``: newest partials, sums per series, alert crossings.

Invariants:
1. Pure: ``load`` and ``scan`` are passed in; ``writes`` says what a checkpoint must store.
2. Partials sort by minute, so that a minute entering or leaving a window is one range of keys.
3. What was put since the last checkpoint hides what is stored.
"""

import struct
from collections.abc import Iterator, Sequence

from streams.campaigns.alerts import Crossing, Place
from streams.campaigns.windows import WIDTH, PartialKey, Series, Stored
from streams.enrich.message_bytes import StateError
from streams.enrich.minute_counts import Load, Scan

META_KEY = b"!meta"
_META = struct.Struct("<Bqqq")
_FORM = 2
_PARTIAL = struct.Struct(f"<q{WIDTH}i")
_SERIES = struct.Struct(f"<II{WIDTH}q")
_CROSSING = struct.Struct("<Iq")
_SEPARATOR = "\x1f"


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
    offset, *counts = _PARTIAL.unpack(data)
    return offset, tuple(counts)


class CampaignState:
    """State of ``campaigns`` for one partition of the minutes topic (``Partials`` of windows).

    Attributes:
        log_id: incarnation of the raw topic when this was written. If it is another one now, the
            minutes topic is assumed to be recreated too.
        applied: offset of the last minutes record merged, -1 for none.
        seen_through_us: highest record timestamp merged, microseconds.
        alerts_read: offset up to which ``crossings`` contain the alerts topic.
    """

    def __init__(self, load: Load, scan: Scan) -> None:
        self._load = load
        self._scan = scan
        self.log_id = ""
        self.applied = -1
        self.seen_through_us = 0
        self.alerts_read = 0
        self._fresh: dict[int, dict[PartialKey, Stored]] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self.crossings: dict[Place, Crossing] = {}
        self._crossed: dict[Place, Crossing] = {}

    def restore(self) -> None:
        """Reads position and crossings, if anything is stored."""
        (data,) = self._load([META_KEY])
        if data is not None:
            if data[0] != _FORM:
                raise StateError(f"state has form {data[0]}, this version reads {_FORM}")
            _, self.applied, self.seen_through_us, self.alerts_read = _META.unpack_from(data)
            self.log_id = data[_META.size :].decode()
        for key, value in self._scan(b"A", b"B"):
            place = Place(*key[1:].decode("utf-8", "surrogatepass").rsplit(_SEPARATOR, 3))
            self.crossings[place] = Crossing(*_CROSSING.unpack(value))

    def begin_log(self, log_id: str) -> None:
        """Reads the minutes topic from its beginning; what was merged before stays merged."""
        self.log_id = log_id
        self.applied = -1

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

    def raised(self) -> set[str]:
        """Campaigns with an alert that is raised now."""
        return {place.campaign for place, one in self.crossings.items() if one.raised_at_us}

    def series_of(self, campaign: str) -> dict[str, Series]:
        """Stored sums of a campaign by mailbox provider, without rolling windows."""
        prefix = b"T" + _bytes(campaign, "")
        out = {}
        for key, value in self._scan(prefix, prefix[:-1] + b"\x20"):
            mailbox = key[len(prefix) :].decode("utf-8", "surrogatepass")
            if _SEPARATOR in mailbox:
                continue  # of a campaign whose name continues with the separator
            series = out[mailbox] = Series()
            series.first_minute, series.last_minute, *series.total = _SERIES.unpack(value)
        return out

    def touch(self, campaign: str, mailbox: str, series: Series) -> None:
        """Notes that the sums of a series must be stored."""
        self._series[campaign, mailbox] = series

    def cross(self, changed: dict[Place, Crossing]) -> None:
        """Notes crossings that changed."""
        self.crossings.update(changed)
        self._crossed.update(changed)

    def writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values that a checkpoint must store, the offset among them."""
        for partials in self._fresh.values():
            for key, (offset, counts) in partials.items():
                yield pack_partial_key(key), _PARTIAL.pack(offset, *counts)
        for (campaign, mailbox), series in self._series.items():
            value = _SERIES.pack(series.first_minute, series.last_minute, *series.total)
            yield b"T" + _bytes(campaign, mailbox), value
        for place, crossing in self._crossed.items():
            yield b"A" + _bytes(*place), _CROSSING.pack(*crossing)
        meta = _META.pack(_FORM, self.applied, self.seen_through_us, self.alerts_read)
        yield META_KEY, meta + self.log_id.encode()

    def saved(self) -> None:
        """What ``writes`` gave is stored."""
        self._fresh = {}
        self._series = {}
        self._crossed = {}
