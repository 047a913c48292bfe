"""The head of a raw record: what the streams need of every event, without decoding the record.

Invariants:
1. Pure. A head says nothing that the record's fields do not say: ``of_event`` gives the same.
2. A head belongs to one record, byte for byte: it holds the record's checksum (CRC-32) and the
   length of what follows it. One that does not fit is not used; then the record is decoded.
3. Only mailpulse's encoder makes heads, for ids of 32 characters, which its own all have. Others
   leave the field null.
4. A checksum is no signature: another producer can make one. So what a head says is compared with
   the fields as soon as these are decoded; a record whose head says otherwise can't be read.
5. Where the event's message has an alias (``schemas.event.message_alias``), it stands in the place
   of the hash of the event's id, which then is made from the id: few events have one.
6. The head of an erased event (``schemas.erasure``) keeps what it said of message and event, so
   that these count as before; the fields no longer say it. It names no recipient.
7. In a record come the id (33 bytes with its length), the branch of the union (``HEADED``), the
   head, and then the other fields.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final
from zlib import crc32

from schemas.compiled import Unusual
from schemas.errors import DecodeError
from schemas.event import (
    EventType,
    alias_of,
    alias_unit,
    event_hash,
    is_identified,
    message_alias,
    message_unit,
    own_unit,
    recipient_identity,
    unit_key,
)

SIZE: Final = 56
"""Bytes of a head."""
ID_SIZE: Final = 33
"""Bytes of an event id that may be followed by a head."""
ID_BEGIN: Final = b"\x40"
"""The first of these."""
HEADED: Final = b"\x02"
"""What stands before a head: the branch of its union."""
_BEFORE: Final = ID_SIZE + len(HEADED)
_FORM: Final = 2
"""Form 1 had no aliases."""
_CHECKSUM: Final = struct.Struct("<I")
_BODY_FORM: Final = "BBBxQ16sqqII"
_BODY: Final = struct.Struct(f"<{_BODY_FORM}")
_HEAD: Final = struct.Struct(f"<I{_BODY_FORM}")
_ENDS: Final = struct.Struct("<IB47xI")
"""Checksum, form and length of what follows: the rest of a head is passed over."""
_SUSPECT: Final = 1
_IDENTIFIED: Final = 2
_ADDRESSED: Final = 4
_ALIASED: Final = 8
_ALIAS_ONLY: Final = 16
_ERASED: Final = 32
_FIELDS: Final = ("event_type", "occurred_at", "received_at", "time_suspect")
"""Fields that a head has as they are."""
_TYPES: Final = tuple(one.value for one in EventType)
_NUMBER_OF: Final = {name: number for number, name in enumerate(_TYPES)}


class Head(dict[str, Any]):
    """The fields of a raw event; those not decoded yet are decoded at their first use.

    Beside the event's own it has ``event_hash`` (64 bits of its id), ``unit_key`` (message and
    recipient, 16 bytes), ``identified`` (whether that is known), ``addressed`` (whether its
    recipient is certain) and ``address_hash`` (of the recipient's identity, 32 bits). Events whose
    message has an alias have ``alias`` (64 bits) too, and ``alias_only``: they name their message
    by nothing else. Erased ones have ``erased``.
    """

    __slots__ = ("decode", "value")

    def __init__(self, value: bytes, decode: Callable[[bytes], Mapping[str, Any]]) -> None:
        self.value = value
        self.decode = decode

    def __missing__(self, name: str) -> Any:
        """Decodes the record.

        Raises:
            DecodeError: as ``Codec.decode``, or the head says otherwise than the fields.
        """
        whole = self.decode(self.value)
        if not _agrees(self, whole):
            raise DecodeError("wrong_head", "the head says otherwise than the fields")
        self.update(whole)
        return whole[name]

    def complete(self) -> None:
        """Decodes the record if it is not decoded yet, so that no later use raises.

        Raises:
            DecodeError: the record can't be decoded, or its head says otherwise than its fields.
        """
        if "recipient" not in self:
            self.__missing__("recipient")


def _agrees(head: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether a head says what the fields say; its hashes are not made again."""
    if "erased" in head:  # invariant 6
        return all(head[name] == whole[name] for name in _FIELDS) and not (
            head["addressed"] or recipient_identity(whole)
        )
    return all(head[name] == whole[name] for name in _FIELDS) and (
        head["identified"] == is_identified(whole)
        and head["addressed"] == (bool(recipient_identity(whole)) and whole["recipient_certain"])
        and ("alias" in head) == (alias_of(whole) != 0)
        and head.get("alias_only", False) == ("alias" in head and not whole["message_id"])
    )


def of_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``Head`` has beside the fields of the event."""
    identity, alias = recipient_identity(event), alias_of(event)
    aliased = {"alias": alias, "alias_only": not event["message_id"]} if alias else {}
    return {
        **aliased,
        "event_hash": event_hash(event["event_id"]),
        "unit_key": unit_key(event),
        "identified": is_identified(event),
        "addressed": bool(identity) and event["recipient_certain"],
        "address_hash": address_hash(identity.encode("utf-8", "replace")),
    }


def address_hash(identity: bytes) -> int:
    """A cheap 32-bit hash of an address, to look up whether it has soft bounces."""
    return crc32(identity)


def headed(event: Mapping[str, Any], record: bytes) -> bytes:
    """An event's record with its head.

    Args:
        record: the Avro bytes of all fields but the head.

    Raises:
        Exception: of any kind, if the id is not one of mailpulse's, or a value has not the type
            that the schema says.
    """
    if "erased" in event:
        return _with_kept_head(event, record)
    return with_head(
        event["event_type"], event["event_id"], event["occurred_at"], event["received_at"],
        event["time_suspect"], event["provider"], event["message_id"], event["rfc_message_id"],
        recipient_identity(event), event["recipient_certain"], record,
    )  # fmt: skip


def with_head(
    event_type: str,
    event_id: str,
    occurred_at: int,
    received_at: int,
    time_suspect: bool,
    provider: str,
    message_id: str | None,
    rfc_message_id: str | None,
    identity: str,
    certain: bool,
    record: bytes,
) -> bytes:
    """As ``headed``, of single fields; ``identity`` is the ``recipient_identity``."""
    if not record.startswith(ID_BEGIN):
        raise Unusual
    first, rest = record[:ID_SIZE], record[ID_SIZE:]
    flags = _SUSPECT if time_suspect else 0
    alias = message_alias(event_type, provider, message_id, rfc_message_id, identity, certain)
    if alias:
        flags |= _ALIASED
    if certain and message_id:
        flags |= _IDENTIFIED
        unit = message_unit(provider, message_id, identity)
    elif alias:
        flags |= _IDENTIFIED | _ALIAS_ONLY
        unit = alias_unit(alias)
    else:
        unit = own_unit(event_id)
    if certain and identity:
        flags |= _ADDRESSED
    body = _BODY.pack(
        _FORM, _NUMBER_OF[event_type], flags, alias or event_hash(event_id), unit, occurred_at,
        received_at, address_hash(identity.encode("utf-8", "replace")), len(rest),
    )  # fmt: skip
    return _joined(first, body, rest)


def _with_kept_head(head: Mapping[str, Any], record: bytes) -> bytes:
    """The same of an erased event, given with all that its ``Head`` had (invariant 6)."""
    if not record.startswith(ID_BEGIN):
        raise Unusual
    first, rest = record[:ID_SIZE], record[ID_SIZE:]
    flags = _ERASED
    flags |= _SUSPECT if head["time_suspect"] else 0
    flags |= _IDENTIFIED if head["identified"] else 0
    if "alias" in head:
        flags |= _ALIASED | (_ALIAS_ONLY if head["alias_only"] else 0)
    body = _BODY.pack(
        _FORM, _NUMBER_OF[head["event_type"]], flags, head.get("alias") or head["event_hash"],
        head["unit_key"], head["occurred_at"], head["received_at"], address_hash(b""), len(rest),
    )  # fmt: skip
    return _joined(first, body, rest)


def _joined(first: bytes, body: bytes, rest: bytes) -> bytes:
    crc = crc32(rest, crc32(body, crc32(first)))
    return b"".join((first, HEADED, _CHECKSUM.pack(crc), body, rest))


def end_of(value: bytes, begin: int) -> int:
    """Where the record that begins at a position ends.

    Raises:
        Unusual, IndexError, struct.error: the record has no head that belongs to it.
    """
    crc, form, size = _ENDS.unpack_from(value, begin + _BEFORE)
    return _checked_end(value, begin, crc, form, size)


def _checked_end(value: bytes, begin: int, crc: int, form: int, size: int) -> int:
    """Where a record ends, by what its head says; raises as ``end_of`` (invariant 2)."""
    at = begin + _BEFORE
    end = at + SIZE + size
    if (
        value[begin] != ID_BEGIN[0]
        or value[at - 1] != HEADED[0]
        or form != _FORM
        or end > len(value)
        or crc32(value[at + _CHECKSUM.size : end], crc32(value[begin : begin + ID_SIZE])) != crc
    ):
        raise Unusual
    return end


def read(value: bytes, begin: int, head: Head) -> tuple[int, int]:
    """Reads the head of the record that begins at a position into ``head``.

    Returns:
        Where the head and the record end.

    Raises:
        Unusual, IndexError, struct.error: the record has no head that belongs to it.
    """
    at = begin + _BEFORE
    crc, form, kind, flags, identity, key, occurred, received, address, size = _HEAD.unpack_from(
        value, at
    )
    end = _checked_end(value, begin, crc, form, size)
    if flags & _ALIASED:
        head["alias"], head["alias_only"] = identity, flags & _ALIAS_ONLY != 0
        identity = event_hash(str(value[begin + 1 : begin + ID_SIZE], "utf-8"))
    head["event_type"] = _TYPES[kind]
    head["occurred_at"] = occurred
    head["received_at"] = received
    head["time_suspect"] = flags & _SUSPECT != 0
    head["event_hash"] = identity
    head["unit_key"] = key
    head["identified"] = flags & _IDENTIFIED != 0
    head["addressed"] = flags & _ADDRESSED != 0
    if flags & _ERASED:
        head["erased"] = True
    head["address_hash"] = address
    return at + SIZE, end
