"""State of one input partition in memory: a cache over what is stored, and what must be stored.

Invariants:
1. Pure: ``load`` is passed in; ``writes`` says what a checkpoint must store, and stores nothing.
2. State is a fold of the log up to ``applied``, over all its incarnations: ids seen in an earlier
   log are still known, minute counts start from zero with each log. Correction windows end with
   their log, since its records can't be read any more.
3. A message or an alias expires ``message_ttl_s`` of log time after its last event, and a
   recipient's evidence as ``streams.enrich.suppressions`` says, even if their bytes were not
   removed yet.
4. Keys that are no longer needed are named for removal, a bounded number at each checkpoint
   (``useless_ranges``, ``expired``). Whether and when they are removed changes no result.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

from schemas.raw_head import Head
from schemas.versions import COUNTS_OFFSET_BITS, FOLD_VERSION
from streams.enrich import aliases, message_bytes, suppressions, vectors
from streams.enrich.aliases import ALIASES, ALIASES_END, Alias
from streams.enrich.deferred import Deferred
from streams.enrich.message import NO_BUCKET, Message
from streams.enrich.message_bytes import (
    BUCKET_S,
    PENDING,
    PENDING_END,
    StateError,
    pending_key,
)
from streams.enrich.minute_counts import (
    Load,
    MinuteTable,
    Scan,
    pack_key,
    pack_minute,
)
from streams.enrich.suppressions import Recipient

CACHED_MAX: Final = 20_000
"""Messages, recipients and aliases kept in memory between checkpoints, each."""

ERASED_AT_ONCE: Final = 1_000
"""Recipients read at once to forget what is known of them."""
META_KEY: Final = b"!meta"
EPOCH_KEY: Final = b"!epoch"
ERASED_KEY: Final = b"!erased"
_META: Final = struct.Struct("<BHqQq")
_META_FORM: Final = 3
_EPOCH: Final = struct.Struct(">I")
_ERASED: Final = struct.Struct(">Q")
_MESSAGES: Final = b"m"
_MESSAGES_END: Final = b"n"
_WATCHED: Final = b"s"
_WATCHED_END: Final = b"t"
_SWEPT_PER_RECORD: Final = 2


class Shard:
    """State of ``enrich`` for one partition.

    Attributes:
        log_id: incarnation of the raw topic that ``applied`` belongs to.
        applied: offset of the last record folded in, -1 for none.
        log_time: highest timestamp of the records that had an effect, seconds. Duplicates have
            none: the topic that state is rebuilt from does not hold them.
        outputs_end: position in the enriched partition from which a restore must read: all
            records after ``applied`` were or will be written after it, by whichever worker.
        messages: by key, as bytes until they are needed; ``None``: never seen. Bytes are those of
            a settled message, or of one that has had one event (``message_bytes.pack_first``).
        aliases: by number; ``None``: never seen.
        touched, touched_aliases: keys of the messages, and numbers of the aliases, that a
            checkpoint must store.
        watched: hashes of the addresses that a sign of life may change.
        epoch: of the rules that folded the newest record.
        fold: version of the fold that made the stored state.
        erased_through: offset of the topic of erasures up to which the state obeys it.
        deferred: what is kept while the partition is reprocessed; ``None``: it is not.
    """

    def __init__(self, partition: int, load: Load) -> None:
        self.partition = partition
        self.log_id = ""
        self.applied = -1
        self.log_time = 0
        self.outputs_end = 0
        self.epoch = 0
        self.fold = FOLD_VERSION
        self.deferred: Deferred | None = None
        self.erased_through = 0
        self.messages: dict[bytes, Message | bytes | None] = {}
        self.recipients: dict[bytes, Recipient] = {}
        self.aliases: dict[int, Alias | None] = {}
        self.touched: set[bytes] = set()
        self.touched_aliases: set[int] = set()
        self.touched_recipients: dict[bytes, Recipient] = {}
        self.watched: set[int] = set()
        self._watched_next: set[int] = set()
        self.minutes = MinuteTable(load)
        self._load = load
        self._useless_until = (0, 0)
        self._swept = _MESSAGES
        self._swept_at = -1
        self._swept_aliases = ALIASES
        self._swept_watched = _WATCHED
        self.new_log = False
        self._placed: list[tuple[Message, int]] = []
        self._unconfirmed: deque[tuple[int, int]] = deque()

    @property
    def as_of(self) -> int:
        """Version of counts: by epoch, then by offset."""
        return self.epoch << COUNTS_OFFSET_BITS | self.applied

    def wrote_up_to(self, end: int) -> None:
        """Everything up to ``applied`` was acknowledged, the newest of it at ``end``."""
        if not self._unconfirmed or self._unconfirmed[-1][0] != self.applied + 1:
            self._unconfirmed.append((self.applied + 1, end))

    def committed(self, offset: int) -> None:
        """``offset`` is committed by this worker, so the next one writes after its outputs.

        An output position that is not covered by a commit can't be used: a worker that was frozen
        past its session may have written after the records of the worker that took over, and a
        restore from there would miss those.
        """
        while self._unconfirmed and self._unconfirmed[0][0] <= offset:
            self.outputs_end = max(self.outputs_end, self._unconfirmed.popleft()[1])

    def erase(
        self, orders: Iterable[tuple[int, Sequence[bytes]]], through: int
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Forgets evidence of recipients and scopes, some at a time.

        Messages stay until they expire: they are known by hashes of the provider's ids, and figures
        depend on them.

        Args:
            orders: time in seconds, and keys whose evidence of before that is to be forgotten.
            through: offset of the topic of erasures after the last one that names them.

        Returns:
            What to store at once. It belongs to no offset: records that are folded again after a
            crash are redacted by then.
        """
        for at_s, keys in orders:
            for begin in range(0, len(keys), ERASED_AT_ONCE):
                yield from self._erase(at_s, keys[begin : begin + ERASED_AT_ONCE])
        self.erased_through = through
        yield ERASED_KEY, _ERASED.pack(through)

    def _erase(self, at_s: int, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        self.fetch((), keys)
        for key in keys:
            recipient = self.recipients[key]
            suppressions.forget_before(recipient, at_s)
            data = suppressions.pack(recipient)
            yield b"r" + key, data or None
            if not data:
                yield b"s" + key, None
                self.recipients[key] = Recipient()
                self.touched_recipients.pop(key, None)

    def forget_recipients(self) -> None:
        """Drops all that was learned of recipients, of whom nothing is stored yet."""
        self.recipients = {}
        self.touched_recipients = {}
        self.watched = set()
        self._watched_next = set()

    def begin_log(self, log_id: str) -> bool:
        """Continues with incarnation ``log_id``, from its first record if it is another one.

        Returns:
            Whether another log begins.
        """
        if log_id == self.log_id:
            return False
        self.new_log = bool(self.log_id)
        self.log_id = log_id
        self.applied = -1
        self.outputs_end = 0
        self._unconfirmed.clear()
        self.minutes.reset()
        self._settle_all()
        return True

    def _settle_all(self) -> None:
        """Ends every correction window: those in the store are ``cleared`` with the next write."""
        kept: dict[bytes, Message | bytes | None] = {}
        for key in self.touched:
            message = kept[key] = self.message(key)
            message.settle_all()
        self.messages = kept

    def cleared(self) -> list[tuple[bytes, bytes]]:
        """Ranges of keys that are to be removed before the next ``writes`` are stored."""
        return [(b"c", b"d"), (PENDING, PENDING_END)] if self.new_log else []

    def fetch(
        self,
        message_keys: Iterable[bytes],
        recipient_keys: Iterable[bytes],
        alias_numbers: Iterable[int] = (),
    ) -> None:
        """Brings messages, recipients and aliases into memory, in at most three reads."""
        self._fetch_aliases([n for n in dict.fromkeys(alias_numbers) if n not in self.aliases])
        known = self.messages
        wanted = [key for key in dict.fromkeys(message_keys) if key not in known]
        people = [key for key in dict.fromkeys(recipient_keys) if key not in self.recipients]
        if not wanted and not people:
            return
        values = self._load([b"m" + key for key in wanted] + [b"r" + key for key in people])
        known.update(zip(wanted, values, strict=False))
        for key, value in zip(people, values[len(wanted) :], strict=True):
            self.recipients[key] = Recipient() if value is None else suppressions.unpack(value)
        waiting = []
        for key, value in zip(wanted, values, strict=False):
            if value is None or (bucket := message_bytes.pending_bucket(value)) == NO_BUCKET:
                continue
            if self.new_log:  # its correction window ended with its log
                known[key] = message_bytes.unpack(value, None)
            else:
                waiting.append((key, value, pending_key(bucket, key)))
        if waiting:
            stored = self._load([place for _, _, place in waiting])
            for (key, value, _), pending in zip(waiting, stored, strict=True):
                known[key] = message_bytes.unpack(value, pending)

    def _fetch_aliases(self, numbers: list[int]) -> None:
        if numbers:
            values = self._load([aliases.key_of(number) for number in numbers])
            for number, value in zip(numbers, values, strict=True):
                self.aliases[number] = None if value is None else aliases.unpack(value)

    def alias(self, number: int, now: int, ttl_s: int) -> Alias:
        """The alias of this number, which must have been fetched; a new one if it has expired."""
        alias = self.aliases[number]
        if alias is None or alias.is_expired(now, ttl_s):
            alias = self.aliases[number] = Alias()
        return alias

    def unit_of(self, head: Head) -> bytes:
        """Key of the message that an event belongs to; its alias must have been fetched."""
        alias = self.aliases[head["alias"]] if head.get("alias_only") else None
        unit: bytes = (alias.linked if alias else b"") or head["unit_key"]
        return unit

    def message(self, key: bytes) -> Message:
        """The message of ``key``, which must have been fetched; a new one if it was never seen."""
        state = self.messages[key]
        if isinstance(state, Message):
            return state
        if state is None:
            message = Message()
        else:
            message = message_bytes.unpack_cached(state)
        self.messages[key] = message
        return message

    def begin_anew(self, key: bytes) -> Message:
        """A new message in the place of one that has expired.

        It keeps where the pending events of that are stored, which a checkpoint then removes.
        """
        message = Message()
        message.pending_bucket = self.message(key).pending_bucket
        self.messages[key] = message
        return message

    def writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """What a checkpoint must store (``None``: delete), the offset among it."""
        yield from self.unit_writes()
        for minute, vector in self.minutes.changed():
            yield pack_key(minute), vectors.pack(vector)
        if self.deferred is not None:
            yield from self.deferred.writes(self.applied, self.minutes.dirty)
        if self.epoch:
            yield EPOCH_KEY, _EPOCH.pack(self.epoch)
        yield META_KEY, self.pack_meta()

    def unit_writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The messages, aliases and recipients among ``writes``."""
        placed = self._placed = []
        for key in self.touched:
            message = self.messages[key]
            if isinstance(message, bytes):
                summary, pending = message_bytes.parts_of_first(message)
                yield b"m" + key, summary
                yield pending_key(message_bytes.pending_bucket(summary), key), pending
                continue
            assert isinstance(message, Message)
            before, bucket = message.pending_bucket, message_bytes.bucket_of(message)
            placed.append((message, bucket))
            yield b"m" + key, message_bytes.pack(message)
            if before not in (NO_BUCKET, bucket):
                yield pending_key(before, key), None
            if bucket != NO_BUCKET:
                yield pending_key(bucket, key), message_bytes.pack_pending(message)
        for number in self.touched_aliases:
            alias = self.aliases[number]
            assert alias is not None
            yield aliases.key_of(number), aliases.pack(alias)
        for key, recipient in self.touched_recipients.items():
            yield b"r" + key, suppressions.pack(recipient) or None
            if recipient.address in self.watched:
                yield b"s" + key, suppressions.pack_watched(recipient, self.log_time) or None

    def advance(self, timestamp_s: int) -> None:
        """Raises log time to that of an event that had an effect."""
        if timestamp_s > self.log_time:
            self.log_time = timestamp_s
            self.minutes.close(timestamp_s)

    def pack_meta(self) -> bytes:
        """Fold, log, offset, log time and output position in their stored form."""
        return _META.pack(
            _META_FORM, FOLD_VERSION, self.applied, self.log_time, self.outputs_end
        ) + (self.log_id.encode())

    def load_meta(self) -> None:
        """Reads what ``pack_meta`` stored, if anything is stored."""
        data, epoch, erased = self._load([META_KEY, EPOCH_KEY, ERASED_KEY])
        if data is None:
            return
        self.epoch = 0 if epoch is None else _EPOCH.unpack(epoch)[0]
        self.erased_through = 0 if erased is None else _ERASED.unpack(erased)[0]
        if data[0] != _META_FORM:
            raise StateError(f"state has form {data[0]}, this version reads {_META_FORM}")
        _, self.fold, self.applied, self.log_time, self.outputs_end = _META.unpack_from(data)
        self.log_id = data[_META.size :].decode()
        self.minutes.close(self.log_time)

    def load_watched(self, scan: Scan) -> None:
        """Reads which addresses a sign of life may change."""
        for _, value in scan(_WATCHED, _WATCHED_END):
            self.watched.add(suppressions.unpack_watched(value))

    def watch(self, address: int) -> None:
        """A sign of life may change the address of this hash now."""
        self.watched.add(address)
        self._watched_next.add(address)

    @property
    def log_tag(self) -> int:
        """32 bits of the log that offsets belong to."""
        return crc32(self.log_id.encode())

    def saved(self) -> None:
        """What ``writes`` gave is stored; memory is bounded."""
        self.units_saved()
        self.minutes.saved()
        if self.deferred is not None:
            self.deferred.saved()
        self.new_log = False

    def units_saved(self) -> None:
        """What ``unit_writes`` gave is stored."""
        for message, bucket in self._placed:
            message.pending_bucket = bucket
        self._placed = []
        for recipient in self.touched_recipients.values():
            recipient.dirty = False
        self.touched = set()
        self.touched_aliases = set()
        self.touched_recipients = {}
        if len(self.messages) > CACHED_MAX:
            self.messages = {}
        if len(self.recipients) > CACHED_MAX:
            self.recipients = {}
        if len(self.aliases) > CACHED_MAX:
            self.aliases = {}

    def useless_ranges(self) -> list[tuple[bytes, bytes]]:
        """Ranges of keys to remove: pending events that are all due, and closed minutes.

        A range is named again only when it has grown with log time.
        """
        bucket, minute = self.log_time // BUCKET_S, self.minutes.closed_before
        pending_until, minutes_until = self._useless_until
        self._useless_until = (bucket, minute)
        ranges = []
        if bucket > pending_until:
            ranges.append((pending_key(0, b""), pending_key(bucket, b"")))
        if minute > minutes_until:
            ranges.append((pack_minute(0), pack_minute(minute)))
        return ranges

    def sweep_budget(self, entries_max: int) -> int:
        """How many stored entries to check for expiry now: as many as there is new work.

        Two for each record since it was asked last, so that sweeping costs a share of the work,
        not of the time, and a round over N entries takes N / 2 records. Entries come with records,
        and log time, by which they expire, stands still without any.
        """
        records, self._swept_at = self.applied - self._swept_at, self.applied
        return max(0, min(entries_max, _SWEPT_PER_RECORD * records))

    def expired(self, scan: Scan, ttl_s: int, entries_max: int) -> list[tuple[bytes, bytes | None]]:
        """What to store to remove what has expired among the next stored.

        Call it right after ``saved``, when memory and store agree.

        Args:
            entries_max: messages to check, and as many aliases and watched addresses.
        """
        out: list[tuple[bytes, bytes | None]] = []
        left = entries_max
        for key, value in scan(self._swept, _MESSAGES_END):
            if left <= 0:
                self._swept = key
                break
            left -= 1
            if message_bytes.touched_of(value) + ttl_s < self.log_time:
                out.append((key, None))
                self.messages.pop(key[1:], None)
        else:
            self._swept = _MESSAGES
        out += self._expired_aliases(scan, ttl_s, entries_max)
        return out + self._expired_watched(scan, entries_max)

    def _expired_aliases(
        self, scan: Scan, ttl_s: int, entries_max: int
    ) -> Iterator[tuple[bytes, bytes | None]]:
        some = list(islice(scan(self._swept_aliases, ALIASES_END), entries_max + 1))
        self._swept_aliases = some[-1][0] if len(some) > entries_max else ALIASES
        for key, value in some[:entries_max]:
            if aliases.unpack(value).is_expired(self.log_time, ttl_s):
                yield key, None
                self.aliases.pop(aliases.number_of(key), None)

    def _expired_watched(self, scan: Scan, entries_max: int) -> list[tuple[bytes, bytes | None]]:
        """After a whole round ``watched`` is what it found, and what was added meanwhile."""
        some = list(islice(scan(self._swept_watched, _WATCHED_END), entries_max + 1))
        stored = self._load([b"r" + key[1:] for key, _ in some[:entries_max]])
        out: list[tuple[bytes, bytes | None]] = []
        for (key, short), value in zip(some, stored, strict=False):
            recipient = Recipient() if value is None else suppressions.unpack(value)
            suppressions.expire(recipient, self.log_time)
            if suppressions.is_watched(recipient, self.log_time):
                self._watched_next.add(suppressions.unpack_watched(short))
                continue
            out += [(key, None), (b"r" + key[1:], suppressions.pack(recipient) or None)]
            self.recipients.pop(key[1:], None)
        if len(some) > entries_max:
            self._swept_watched = some[-1][0]
        else:
            self._swept_watched = _WATCHED
            self.watched, self._watched_next = self._watched_next, set()
        return out
