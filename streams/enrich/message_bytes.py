"""The stored form of messages and of their pending events.

Invariants:
1. Pure. ``pack`` and ``unpack`` are inverse; the form is versioned and never changes silently.
2. Pending events are stored apart from their message, under the time at which they are due. When
   log time has passed that, they may be removed unread, because the summary already contains what
   they settle to. So they are removed as one range of keys, and a message whose pending events are
   missing is a settled one.
3. A pending event is its coordinates and its evidence, never the record itself.
4. ``pack_first`` gives the bytes of ``pack`` and ``pack_pending`` for a message that has had one
   event.
"""

import struct
from functools import lru_cache
from operator import attrgetter
from typing import Final

from schemas.errors import MailpulseError
from streams.enrich.message import (
    DELIVERED_FIXED,
    FIXED,
    FOR_SURE,
    NO_BUCKET,
    TIMES,
    Message,
    Owner,
    Pending,
)

TYPES: Final = (
    "queued", "sent", "delivered", "deferred", "bounced", "rejected", "failed", "opened",
    "clicked", "complained", "unsubscribed", "subscribed", "autoresponded", "unknown",
    "suppression_added", "suppression_removed",
)  # fmt: skip
"""Every value of ``EventType``; the stored form has the index."""
ACTORS: Final = ("none", "human", "machine", "unknown")

BUCKET_S: Final = 600
"""Pending events that are due in the same interval of log time are stored side by side."""

PENDING: Final = b"p"
PENDING_END: Final = b"q"
"""The key of pending events is this, their bucket and their message's key."""
_BUCKET: Final = struct.Struct(">I")

_HEAD: Final = struct.Struct("<BHHIHBBB")  # form, bits, fixed, touched, ids, bounce, lengths
_FIRST: Final = struct.Struct("<BHHIHBBBIQ")
_FIRST_DELIVERED: Final = struct.Struct("<BHHIHBBBIIQ")
_FORM: Final = 4
_DUE: Final = struct.Struct("<IB")
"""When they are due, and how many they are."""
_PENDING: Final = struct.Struct("<QQIIBBBBH")
"""Offset, time (µs), link, agent, type, marks, verdict, length of the reason, revision."""
_FIRST_PENDING: Final = struct.Struct("<IBQQIIBBBBH")
_CAMPAIGN_LONG: Final = 255
_LATE: Final = 0x10
"""Beside the bounce class: that bounce came after the delivery."""
_STALE_DELIVERY: Final = 0x20
_STALE_ATTEMPT: Final = 0x40
"""Beside them."""

# Bits 0 to 10 say which times are there; of the others:
_OPENED_BY: Final = 0x0800
_CLICKED_BY: Final = 0x1000
"""The first open, or click, by who may be human follows: it is another one than a human's."""
_DOUBTS: Final = _OPENED_BY | _CLICKED_BY
_HAS_OWNER: Final = 0x2000
_HAS_PENDING: Final = 0x4000
_HAS_CAMPAIGN: Final = 0x8000
_ALL_TIMES: Final = (1 << len(TIMES)) - 1
_READ: Final = FIXED["opened_any_at"] | FIXED["clicked_any_at"]
_DELIVERED: Final = FIXED["delivered_at"]
_ATTEMPTED: Final = FIXED["attempted_at"]
"""The end of the first attempt is stored only where it is neither the delivery nor, without one,
the bounce."""
_BUCKET_AT: Final = _HEAD.size

# Marks of a pending event
_UNSUBSCRIBE: Final = 1
_FIRST_OF_KIND: Final = 2
_FIRST_HUMAN: Final = 4
_NAMES_ITS: Final = 8
_NAMES_OTHER: Final = 16
_TOLD_STALE: Final = 32


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


def bucket_of(message: Message) -> int:
    """Where a message's pending events are stored; ``NO_BUCKET`` without any."""
    return message.due // BUCKET_S if message.pending else NO_BUCKET


def pack_first(
    touched: int,
    campaign: str,
    mailbox: str,
    due: int,
    *,
    identity: int,
    offset: int,
    at_us: int,
    event_type: str,
) -> bytes:
    """A message with a campaign and one event, which names that and is not judged.

    One object holds both, as most messages in memory are such. ``parts_of_first`` gives them apart.

    Args:
        touched, due: as in ``Message``.
        identity, offset, at_us, event_type: as in ``Pending``; the event gives its message no other
            time than that of a delivery.

    Returns:
        The bytes of ``pack`` and behind them those of ``pack_pending``.
    """
    names, length, mailbox_length = _names(campaign, mailbox)
    bits = _HAS_CAMPAIGN | _HAS_PENDING
    bucket = due // BUCKET_S
    kind, marks = _TYPE_INDEX[event_type], _NAMES_ITS
    if kind == _DELIVERED_TYPE:
        marks |= _FIRST_OF_KIND
        summary = _FIRST_DELIVERED.pack(
            _FORM, bits | _DELIVERED, 0, touched, 1, 0, length, mailbox_length, bucket,
            at_us // 1_000_000, identity,
        )  # fmt: skip
    else:
        summary = _FIRST.pack(
            _FORM, bits, 0, touched, 1, 0, length, mailbox_length, bucket, identity
        )
    pending = _FIRST_PENDING.pack(due, 1, offset, at_us, 0, 0, kind, marks, FOR_SURE << 2, 0, 0)
    return b"".join((summary, names, pending))


def parts_of_first(data: bytes) -> tuple[bytes, bytes]:
    """What ``pack`` and ``pack_pending`` give of a message in the form of ``pack_first``."""
    return data[: -_FIRST_PENDING.size], data[-_FIRST_PENDING.size :]


def pack(message: Message) -> bytes:
    """The summary in its compact form, without pending events (``pack_pending``)."""
    bits = 0
    words = []
    if message.pending:
        bits = _HAS_PENDING
        words.append(bucket_of(message))
    if message.campaign is not None:
        bits |= _HAS_CAMPAIGN
    bit = 1
    for value in _outcomes_of(message):
        if value:
            bits |= bit
            words.append(value)
        bit <<= 1
    attempted = message.attempted_at
    if attempted != (message.delivered_at or message.bounced_at):
        bits |= _ATTEMPTED
        words.append(attempted)
    if message.opened_at_most_at and not (
        message.opened_at == message.opened_or_unknown_at == message.opened_at_most_at
    ):
        bits |= _OPENED_BY
        words += (message.opened_or_unknown_at, message.opened_at_most_at)
    if message.clicked_at_most_at and not (
        message.clicked_at == message.clicked_or_unknown_at == message.clicked_at_most_at
    ):
        bits |= _CLICKED_BY
        words += (message.clicked_or_unknown_at, message.clicked_at_most_at)
    seen = message.seen
    bounce = (
        message.bounce_class
        | (_LATE if message.late else 0)
        | (_STALE_DELIVERY if message.delivered_stale else 0)
        | (_STALE_ATTEMPT if message.attempted_stale else 0)
    )
    owner = message.delivered_owner
    elsewhere = b""
    if owner is not None and owner != message.owner:
        bits |= _HAS_OWNER
        elsewhere = _pack_owner(owner)
    names, length, mailbox_length = _names(message.campaign or "", message.mailbox)
    head = _HEAD.pack(
        _FORM, bits, message.fixed, message.touched, len(seen), bounce, length, mailbox_length
    )
    return head + _numbers(len(words), len(seen)).pack(*words, *seen) + names + elsewhere


_outcomes_of: Final = attrgetter(*TIMES[:-1])
assert TIMES[-1] == "attempted_at"


def _pack_owner(owner: Owner) -> bytes:
    campaign = owner[0].encode()
    return len(campaign).to_bytes(2, "little") + campaign + owner[1].encode()


@lru_cache(maxsize=1024)
def _numbers(words: int, ids: int) -> struct.Struct:
    return struct.Struct(f"<{words}I{ids}Q")


def _check_form(data: bytes) -> None:
    if data[0] != _FORM:
        raise StateError(f"stored message has form {data[0]}, this version reads {_FORM}")


def pending_bucket(data: bytes) -> int:
    """Where the pending events of ``pack``'s bytes are stored; ``NO_BUCKET`` without any.

    Raises:
        StateError: the form is another version's.
    """
    _check_form(data)
    if data[2] & _HAS_PENDING >> 8:
        return int.from_bytes(data[_BUCKET_AT : _BUCKET_AT + 4], "little")
    return NO_BUCKET


def touched_of(data: bytes) -> int:
    """Log time of the last event in ``pack``'s bytes, seconds.

    Raises:
        StateError: the form is another version's.
    """
    _check_form(data)
    return int.from_bytes(data[5:9], "little")


def unpack(data: bytes, pending: bytes | None) -> Message:
    """The message of ``pack``'s bytes, or of those of ``pack_first``.

    Args:
        pending: the bytes of ``pack_pending``; ``None`` if they were removed after all were due.

    Raises:
        StateError: the form is another version's.
    """
    _check_form(data)
    _, bits, fixed, touched, ids, bounce, length, mailbox_length = _HEAD.unpack_from(data)
    message = Message()
    message.touched, message.fixed = touched, fixed
    times = bits & _ALL_TIMES
    doubts = bits & _DOUBTS
    words = times.bit_count() + 2 * doubts.bit_count() + (1 if bits & _HAS_PENDING else 0)
    numbers = _numbers(words, ids)
    values = numbers.unpack_from(data, _HEAD.size)
    position = 0
    if bits & _HAS_PENDING:
        message.pending_bucket = values[0]
        position = 1
    if times & _DELIVERED:
        message.delivered_at = values[position]
        message.delivered_us = message.delivered_at * 1_000_000
        position += 1
    if times > _DELIVERED:
        _unpack_times(message, times, values, position)
        if times & _READ:
            _unpack_doubts(message, doubts, values[words - 2 * doubts.bit_count() : words])
    _unpack_bounce(message, bits, bounce)
    message.seen = list(values[words:])
    at = _HEAD.size + numbers.size
    message.mailbox = data[at : at + mailbox_length].decode()
    at += mailbox_length
    if length == _CAMPAIGN_LONG:
        length = int.from_bytes(data[at : at + 2], "little")
        at += 2
    if bits & _HAS_CAMPAIGN:
        message.campaign = data[at : at + length].decode()
    if bits & _HAS_OWNER:
        message.delivered_owner = _unpack_owner(data, at + length)
    elif fixed & DELIVERED_FIXED and (message.campaign is None or not message.mailbox):
        message.delivered_owner = message.owner
    if bits & _HAS_PENDING:
        if pending is None:
            message.settle_all()
        else:
            _take_pending(message, pending)
    return message


def unpack_cached(data: bytes) -> Message:
    """The message of the bytes of ``pack_first``, or of those of ``pack`` if it is settled.

    Raises:
        StateError: the form is another version's.
    """
    _check_form(data)
    has_pending = data[2] & _HAS_PENDING >> 8
    return unpack(data, data[-_FIRST_PENDING.size :] if has_pending else None)


def _unpack_owner(data: bytes, at: int) -> Owner:
    begin = at + 2
    end = begin + int.from_bytes(data[at:begin], "little")
    return data[begin:end].decode(), data[end:].decode()


def _unpack_times(message: Message, times: int, values: tuple[int, ...], position: int) -> None:
    for bit, name in _LATER_TIMES:
        if times & bit:
            setattr(message, name, values[position])
            position += 1


def _unpack_bounce(message: Message, bits: int, bounce: int) -> None:
    if not bits & _ATTEMPTED:
        message.attempted_at = message.delivered_at or message.bounced_at
    message.bounce_class = bounce & 0x0F
    if bounce > 0x0F:
        message.late = bounce & _LATE != 0
        message.delivered_stale = bounce & _STALE_DELIVERY != 0
        message.attempted_stale = bounce & _STALE_ATTEMPT != 0


def _unpack_doubts(message: Message, doubts: int, values: tuple[int, ...]) -> None:
    message.opened_or_unknown_at = message.opened_at_most_at = message.opened_at
    message.clicked_or_unknown_at = message.clicked_at_most_at = message.clicked_at
    if doubts & _OPENED_BY:
        message.opened_or_unknown_at, message.opened_at_most_at = values[:2]
    if doubts & _CLICKED_BY:
        message.clicked_or_unknown_at, message.clicked_at_most_at = values[-2:]


_LATER_TIMES: Final = tuple((FIXED[name], name) for name in TIMES[1:])
assert TIMES[0] == "delivered_at"


def pack_pending(message: Message) -> bytes:
    """The message's pending events in their compact form."""
    parts = [_DUE.pack(message.due, len(message.pending))]
    its = message.campaign
    for event in message.pending:
        reason = event.reason.encode()
        marks = (
            (_UNSUBSCRIBE if event.unsubscribe else 0)
            | (_FIRST_OF_KIND if event.first else 0)
            | (_FIRST_HUMAN if event.human else 0)
            | (_TOLD_STALE if event.stale else 0)
        )
        named = b""
        if event.campaign is not None:
            if event.campaign == its:
                marks |= _NAMES_ITS
            else:
                marks |= _NAMES_OTHER
                text = event.campaign.encode()
                named = len(text).to_bytes(2, "little") + text
        judged = _ACTOR_INDEX[event.actor] | event.alone << 2 | event.bounce << 4
        parts += [
            _PENDING.pack(
                event.offset, event.at_us, event.link, event.agent, _TYPE_INDEX[event.event_type],
                marks, judged, len(reason), event.revision,
            ),
            reason,
            named,
        ]  # fmt: skip
    return b"".join(parts)


_TYPE_INDEX: Final = {name: index for index, name in enumerate(TYPES)}
_ACTOR_INDEX: Final = {name: index for index, name in enumerate(ACTORS)}
_DELIVERED_TYPE: Final = _TYPE_INDEX["delivered"]


def _take_pending(message: Message, data: bytes) -> None:
    """Sets the message's pending events to those of ``pack_pending``'s bytes."""
    message.due, count = _DUE.unpack_from(data)
    at = _DUE.size
    found = message.pending
    for identity in message.seen[-count:]:
        (offset, at_us, link, agent, kind, marks, judged, length, revision) = _PENDING.unpack_from(
            data, at
        )
        at += _PENDING.size
        reason = ""
        if length:
            reason = data[at : at + length].decode()
            at += length
        campaign = message.campaign if marks & _NAMES_ITS else None
        if marks & _NAMES_OTHER:
            end = at + 2 + int.from_bytes(data[at : at + 2], "little")
            campaign = data[at + 2 : end].decode()
            at = end
        if kind == _DELIVERED_TYPE and marks & _FIRST_OF_KIND:
            message.delivered_us = at_us
        found.append(
            Pending(
                offset, identity, TYPES[kind], at_us // 1_000_000, at_us, ACTORS[judged & 3],
                reason, judged >> 2 & 3, link, agent, bool(marks & _UNSUBSCRIBE), judged >> 4,
                bool(marks & _TOLD_STALE), campaign, bool(marks & _FIRST_OF_KIND),
                bool(marks & _FIRST_HUMAN), revision,
            )
        )  # fmt: skip


def pending_offsets(data: bytes) -> list[int]:
    """Offsets of the pending events of ``pack_pending``'s bytes, without their message."""
    offsets = []
    at = _DUE.size
    while at < len(data):
        (offset, _, _, _, _, marks, _, length, _) = _PENDING.unpack_from(data, at)
        offsets.append(offset)
        at += _PENDING.size + length
        if marks & _NAMES_OTHER:
            at += 2 + int.from_bytes(data[at : at + 2], "little")
    return offsets
