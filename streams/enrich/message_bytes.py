"""The stored form of messages and of their pending events.

Invariants:
1. Pure. ``pack`` and ``unpack`` are inverse; the form is versioned and never changes silently.
2. Pending events are stored apart from their message, under the time at which the last of them is
   due. When log time has passed that, they may be removed unread, because the summary already
   contains what they settle to. So they are removed as one range of keys, and a message whose
   pending events are missing is a settled one.
3. ``pack_first`` gives the bytes of ``pack`` for a message that has had one event.
"""

import struct
from functools import lru_cache

from schemas.errors import MailpulseError
from streams.enrich.message import NO_BUCKET, Message, Pending

TYPES = (
    "queued", "sent", "delivered", "deferred", "bounced", "rejected", "failed", "opened",
    "clicked", "complained", "unsubscribed", "subscribed", "autoresponded", "unknown",
)  # fmt: skip
ACTORS = ("none", "human", "machine", "scanner")
_SOURCES = ("none", "metadata", "tag", "provider", "header", "learned")

BUCKET_S = 600
"""Pending events that are due in the same interval of log time are stored side by side."""

PENDING, PENDING_END = b"p", b"q"
"""The key of pending events is this, their bucket and their message's key."""
_BUCKET = struct.Struct(">I")
PENDING_KEY_AT = len(PENDING) + _BUCKET.size

_HEAD = struct.Struct("<BHIHBBB")  # form, bits, touched, ids, class|source, lengths
_FIRST = struct.Struct("<BHIHBBBQ")
_FIRST_DELIVERED = struct.Struct("<BHIHBBBIQ")
_FORM = 1
_PENDING = struct.Struct("<QIBIQBQQBBHBH")
_CAMPAIGN_LONG = 255

# Bits 0 to 9 say which times are there; of the others:
_OPENED_PENDING, _CLICKED_PENDING = 0x0400, 0x0800
"""The first human open, or click, is a pending event; its time is settled with it."""
_HAS_PENDING, _HAS_CAMPAIGN = 0x4000, 0x8000
_DELIVERED, _OPENED, _CLICKED = 0x001, 0x080, 0x200
_BUCKET_AT = 12


class StateError(MailpulseError):
    """Stored state that this version can't read; it has to be rebuilt."""


@lru_cache(maxsize=16_384)
def _names(campaign: str, mailbox: str) -> tuple[bytes, int, int]:
    """Both names as stored, and their lengths as in the head."""
    encoded, of_mailbox = campaign.encode(), mailbox.encode()
    length = len(encoded)
    if length >= _CAMPAIGN_LONG:
        encoded = length.to_bytes(2, "little") + encoded
    return of_mailbox + encoded, min(length, _CAMPAIGN_LONG), len(of_mailbox)


def pending_key(bucket: int, key: bytes) -> bytes:
    """The key of pending events. It sorts by when they are due, so that old ones are one range."""
    return PENDING + _BUCKET.pack(bucket) + key


def bucket_of(pending: list[Pending]) -> int:
    """Where a message's pending events are stored; ``NO_BUCKET`` without any."""
    if len(pending) == 1:
        return pending[0].settles_at // BUCKET_S
    return max([event.settles_at for event in pending], default=NO_BUCKET * BUCKET_S) // BUCKET_S


def pack_first(
    touched: int, identity: int, campaign: str, source: str, mailbox: str, delivered_at: int
) -> bytes:
    """``pack`` of a message with one event and a campaign; ``delivered_at`` may be 0."""
    names, length, mailbox_length = _names(campaign, mailbox)
    kind = _SOURCES.index(source)
    if delivered_at:
        return (
            _FIRST_DELIVERED.pack(
                _FORM, _HAS_CAMPAIGN | _DELIVERED, touched, 1, kind, length, mailbox_length,
                delivered_at, identity,
            )
            + names
        )  # fmt: skip
    return (
        _FIRST.pack(_FORM, _HAS_CAMPAIGN, touched, 1, kind, length, mailbox_length, identity)
        + names
    )


def pack(message: Message, bucket: int | None = None) -> bytes:
    """The summary in its compact form, without pending events (``pack_pending``).

    Args:
        bucket: ``bucket_of`` its pending events, if the caller has it.
    """
    bits = 0
    opened_at, clicked_at = message.opened_at, message.clicked_at
    present = []
    if message.pending:
        bits = _HAS_PENDING
        present.append(bucket_of(message.pending) if bucket is None else bucket)
        if not opened_at:
            opened_at = message.first_human("opened")[0]
            bits |= _OPENED_PENDING if opened_at else 0
        if not clicked_at:
            clicked_at = message.first_human("clicked")[0]
            bits |= _CLICKED_PENDING if clicked_at else 0
    if message.campaign is not None:
        bits |= _HAS_CAMPAIGN
    bit = 1
    for value in (
        message.delivered_at, message.bounced_at, message.suppressed_at, message.rejected_at,
        message.complained_at, message.unsubscribed_at, message.opened_any_at, opened_at,
        message.clicked_any_at, clicked_at,
    ):  # fmt: skip
        if value:
            bits |= bit
            present.append(value)
        bit <<= 1
    seen = message.seen
    kind = message.bounce_class << 4 | _SOURCES.index(message.campaign_source)
    names, length, mailbox_length = _names(message.campaign or "", message.mailbox)
    head = _HEAD.pack(_FORM, bits, message.touched, len(seen), kind, length, mailbox_length)
    return head + _numbers(len(present), len(seen)).pack(*present, *seen) + names


@lru_cache(maxsize=1024)
def _numbers(words: int, ids: int) -> struct.Struct:
    return struct.Struct(f"<{words}I{ids}Q")


def pending_bucket(data: bytes) -> int:
    """Where the pending events of ``pack``'s bytes are stored; ``NO_BUCKET`` without any."""
    if data[2] & _HAS_PENDING >> 8:
        return int.from_bytes(data[_BUCKET_AT : _BUCKET_AT + 4], "little")
    return NO_BUCKET


def touched_of(data: bytes) -> int:
    """Log time of the last event in ``pack``'s bytes, seconds."""
    return int.from_bytes(data[3:7], "little")


def unpack(data: bytes, pending: bytes | None) -> Message:
    """The message of ``pack``'s bytes.

    Args:
        pending: the bytes of ``pack_pending``; ``None`` if they were removed after all were due.

    Raises:
        StateError: the form is another version's.
    """
    form, bits, touched, ids, kind, length, mailbox_length = _HEAD.unpack_from(data)
    if form != _FORM:
        raise StateError(f"stored message has form {form}, this version reads {_FORM}")
    message = Message()
    message.touched = touched
    times = bits & 0x3FF
    words = times.bit_count() + (1 if bits & _HAS_PENDING else 0)
    numbers = _numbers(words, ids)
    values = numbers.unpack_from(data, _HEAD.size)
    position = 0
    if bits & _HAS_PENDING:
        message.pending_bucket = values[0]
        position = 1
    if times & 1:
        message.delivered_at = values[position]
        position += 1
    if times > 1:
        _unpack_times(message, times, values, position)
    message.seen = list(values[words:])
    message.bounce_class, message.campaign_source = kind >> 4, _SOURCES[kind & 15]
    at = _HEAD.size + numbers.size
    message.mailbox = data[at : at + mailbox_length].decode()
    at += mailbox_length
    if length == _CAMPAIGN_LONG:
        length = int.from_bytes(data[at : at + 2], "little")
        at += 2
    if bits & _HAS_CAMPAIGN:
        message.campaign = data[at : at + length].decode()
    if bits & _HAS_PENDING:
        _take_pending(message, bits, pending)
    return message


def _unpack_times(message: Message, times: int, values: tuple[int, ...], position: int) -> None:
    for bit, name in _LATER_TIMES:
        if times & bit:
            setattr(message, name, values[position])
            position += 1


_LATER_TIMES = tuple(
    (2 << index, name)
    for index, name in enumerate(
        (
            "bounced_at", "suppressed_at", "rejected_at", "complained_at", "unsubscribed_at",
            "opened_any_at", "opened_at", "clicked_any_at", "clicked_at",
        )
    )
)  # fmt: skip


def _take_pending(message: Message, bits: int, pending: bytes | None) -> None:
    if pending is None:  # as ``Message.settle`` leaves it
        if message.campaign is None:
            message.campaign = ""
        return
    message.pending = unpack_pending(pending)
    if bits & _OPENED_PENDING:
        message.opened_at = 0
    if bits & _CLICKED_PENDING:
        message.clicked_at = 0


def pack_pending(pending: list[Pending]) -> bytes:
    """Pending events in their compact form."""
    parts = []
    for event in pending:
        reason = event.reason.encode()
        size = len(event.raw)
        parts += [
            _PENDING.pack(
                event.offset, event.settles_at, _TYPE_INDEX[event.event_type], event.at,
                event.at_us, _ACTOR_INDEX[event.actor], event.link, event.agent,
                event.unsubscribe | event.first << 1, len(reason), size & 0xFFFF, size >> 16,
                event.revision,
            ),
            reason,
            event.raw,
        ]  # fmt: skip
    return b"".join(parts)


_TYPE_INDEX = {name: index for index, name in enumerate(TYPES)}
_ACTOR_INDEX = {name: index for index, name in enumerate(ACTORS)}


def unpack_pending(data: bytes) -> list[Pending]:
    """The pending events of ``pack_pending``'s bytes."""
    out = []
    at = 0
    while at < len(data):
        (offset, settles_at, kind, when, when_us, actor, link, agent, flags, reason_length,
         raw_low, raw_high, revision) = _PENDING.unpack_from(data, at)  # fmt: skip
        at += _PENDING.size
        end = at + reason_length
        reason = data[at:end].decode()
        at = end + (raw_high << 16 | raw_low)
        out.append(
            Pending(
                offset, settles_at, TYPES[kind], when, when_us, ACTORS[actor], reason, link, agent,
                bool(flags & 1), bool(flags & 2), revision, data[end:at],
            )
        )  # fmt: skip
    return out
