"""Raw events read by hand: what the streams look at, at a third of the cost of a general decoder.

Laws of this file:
1. Pure. ``read_head`` either gives exactly what fastavro gives for the same bytes, or raises: then
   the caller asks fastavro, which judges. So a record is never accepted here that is broken.
2. Every byte up to the end of the record is walked and every text decoded, also those that are not
   given back: a broken tail shows.
3. It knows one released layout, ``raw_event.v1``; a test compares it with the schema document.

Source: Avro 1.12 specification, «Binary encoding»: zig-zag variable-length integers, texts behind
their length, union branches by index, arrays and maps in blocks that end with 0.
"""

import struct
from enum import StrEnum
from typing import Any

from schemas.event import (
    BounceClass,
    BounceReason,
    CampaignSource,
    DedupeQuality,
    EventType,
    MachineKind,
)

LAYOUT = "raw_event.v1"


class Unusual(Exception):
    """A form that is legal but rare, or broken: the general decoder decides."""


def _symbols(enum: type[StrEnum]) -> dict[int, str]:
    """Byte of an enum's symbol (its index, zig-zag) -> the symbol."""
    return {index << 1: symbol.value for index, symbol in enumerate(enum)}


_TYPES = _symbols(EventType)
_SOURCES = _symbols(CampaignSource)
_CLASSES = _symbols(BounceClass)
_REASONS = _symbols(BounceReason)
_KINDS = _symbols(MachineKind)
_QUALITIES = _symbols(DedupeQuality)
_BOOLEANS = {0: False, 1: True}

# event_id (a text of 32), event_type, occurred_at and received_at (8 bytes each: 1978 to 3026,
# which is what microseconds since 1970 take), time_suspect.
_FIXED = struct.Struct("<B32sBHHIHHIB")
_ID_LENGTH = 32 << 1
_QUIET = bytes(9)
"""The nine fields from ``bounce_class`` to ``click_url`` of an event that has none of them."""
_LONG_BYTES_MAX = 10


def _groups(shift: int) -> list[int]:
    """Value of two bytes that both go on, as a little-endian 16-bit number; -1 where they don't."""
    return [
        ((pair & 0x7F) | (pair >> 8 & 0x7F) << 7) << shift if pair & 0x8080 == 0x8080 else -1
        for pair in range(65_536)
    ]


_LOW, _MIDDLE = _groups(0), _groups(14)
_HIGH: dict[int, int] = {}
_HIGH_MAX = 65_536


def _high(word: int) -> int:
    """Value of the last four bytes of an 8-byte integer; remembered, for it changes every 134 s."""
    if word & 0x80808080 != 0x00808080:
        raise Unusual
    value = (
        (word & 0x7F) | (word >> 8 & 0x7F) << 7 | (word >> 16 & 0x7F) << 14 | (word >> 24) << 21
    ) << 28
    if len(_HIGH) >= _HIGH_MAX:
        _HIGH.clear()
    _HIGH[word] = value
    return value


def _text(value: bytes, at: int) -> tuple[str, int]:
    """A text of up to 8191 bytes, and the position behind it."""
    size = value[at]
    at += 1
    if size > 127:
        more = value[at]
        at += 1
        if more > 127:
            raise Unusual
        size = size & 127 | more << 7
    if size & 1:
        raise Unusual
    end = at + (size >> 1)
    return value[at:end].decode(), end


def _optional(value: bytes, at: int) -> tuple[str | None, int]:
    """A text or null."""
    branch = value[at]
    if branch == 2:
        return _text(value, at + 1)
    if branch:
        raise Unusual
    return None, at + 1


def read_head(value: bytes, at: int) -> tuple[dict[str, Any], int]:
    """The record that begins at ``value[at]``: its fields before ``native_type``, ``geo_country``.

    The caller must see to it that the position given back is where the record has to end.

    Returns:
        The fields, and the position behind the record.

    Raises:
        Exception: not read; ask the general decoder.
    """
    size, event_id, kind, o_1, o_2, o_3, r_1, r_2, r_3, suspect = _FIXED.unpack_from(value, at)
    occurred_low, occurred_mid = _LOW[o_1], _MIDDLE[o_2]
    received_low, received_mid = _LOW[r_1], _MIDDLE[r_2]
    if size != _ID_LENGTH or (occurred_low | occurred_mid | received_low | received_mid) < 0:
        raise Unusual
    occurred = occurred_low + occurred_mid + (_HIGH.get(o_3) or _high(o_3))
    received = received_low + received_mid + (_HIGH.get(r_3) or _high(r_3))
    if (occurred | received) & 1:
        raise Unusual
    at += _FIXED.size
    size = value[at]
    end = at + 1 + (size >> 1)
    provider = value[at + 1 : end].decode()
    size_2 = value[end]
    at = end + 1 + (size_2 >> 1)
    source = value[end + 1 : at].decode()
    if (size | size_2) & 129:
        raise Unusual
    # Short texts are taken here, the rest by ``_optional``: a call costs as much as the reading.
    size = value[at + 1]
    if value[at] == 2 and not size & 129:
        end = at + 2 + (size >> 1)
        message_id: str | None = value[at + 2 : end].decode()
    else:
        message_id, end = _optional(value, at)
    size = value[end + 1]
    if value[end] == 2 and not size & 129:
        at = end + 2 + (size >> 1)
        recipient: str | None = value[end + 2 : at].decode()
    else:
        recipient, at = _optional(value, end)
    size = value[at]
    end = at + 1 + (size >> 1)
    if size & 129:
        raise Unusual
    domain = value[at + 1 : end].decode()
    certain = _BOOLEANS[value[end]]
    size = value[end + 2]
    if value[end + 1] == 2 and not size & 129:
        at = end + 3 + (size >> 1)
        campaign: str | None = value[end + 3 : at].decode()
    else:
        campaign, at = _optional(value, end + 1)
    head = {
        "event_id": event_id.decode(), "event_type": _TYPES[kind], "occurred_at": occurred >> 1,
        "received_at": received >> 1, "time_suspect": _BOOLEANS[suspect], "provider": provider,
        "source": source, "message_id": message_id, "recipient": recipient,
        "recipient_domain": domain, "recipient_certain": certain, "campaign_id": campaign,
        "campaign_source": _SOURCES[value[at]], "bounce_class": "none", "bounce_reason": "none",
        "smtp_code": None, "enhanced_status": None, "diagnostic": None, "machine_kind": "none",
        "user_agent": None, "ip": None, "click_url": None,
    }  # fmt: skip
    at += 1
    if value[at : at + 9] == _QUIET:
        at += 9
    else:
        at = _read_details(value, at, head)
    head["geo_country"], at = _walk_tail(value, at)
    return head, at


def _read_details(value: bytes, at: int, head: dict[str, Any]) -> int:
    """The fields from ``bounce_class`` to ``click_url`` into ``head``; the position behind them."""
    if value[at : at + 5] == _QUIET[:5]:
        at += 5
    else:
        head["bounce_class"] = _CLASSES[value[at]]
        head["bounce_reason"] = _REASONS[value[at + 1]]
        at += 2
        if value[at] == 0:
            at += 1
        elif value[at] == 2 and value[at + 1] & 0x81 == 0x80 and value[at + 2] < 128:
            head["smtp_code"] = (value[at + 1] & 0x7F | value[at + 2] << 7) >> 1
            at += 3
        else:
            raise Unusual
        head["enhanced_status"], at = _optional(value, at)
        head["diagnostic"], at = _optional(value, at)
    head["machine_kind"] = _KINDS[value[at]]
    head["user_agent"], at = _optional(value, at + 1)
    head["ip"], at = _optional(value, at)
    head["click_url"], at = _optional(value, at)
    return at


def _walk_tail(value: bytes, at: int) -> tuple[str | None, int]:
    """From ``native_type`` to the end: ``geo_country``, and the position behind the record."""
    size = value[at]
    end = at + 1 + (size >> 1)
    if size & 129:
        raise Unusual
    value[at + 1 : end].decode()
    _QUALITIES[value[end]]
    at = end + 1
    if value[at]:
        _, at = _optional(value, at)
    else:
        at += 1
    at = _walk_texts(value, at)
    branch = value[at]
    at += 1
    if branch:
        if branch != 2:
            raise Unusual
        _BOOLEANS[value[at]]
        at += 1
    country: str | None = None
    if value[at : at + 2] == b"\x00\x00":
        at += 2
    else:
        country, at = _optional(value, at)
        _, at = _optional(value, at)
    for length in range(_LONG_BYTES_MAX):  # batch_index
        if value[at + length] < 128:
            return country, at + length + 1
    raise Unusual


def _walk_texts(value: bytes, at: int) -> int:
    """Tags, then metadata; the position behind them."""
    # Between texts there are only bytes below 128, so a character can't
    # reach over: the whole stretch is good UTF-8 exactly if every text in it is.
    begin = at
    for pairs in (0, 1):
        count = value[at]
        at += 1
        while count:
            if count & 129:  # a block that tells its size in bytes, or one of over 63 entries
                raise Unusual
            for _ in range(count >> 1 << pairs):
                size = value[at]
                if size & 129:
                    value[begin:at].decode()
                    _, at = _text(value, at)
                    begin = at
                else:
                    at += 1 + (size >> 1)
            count = value[at]
            at += 1
    value[begin:at].decode()
    return at
