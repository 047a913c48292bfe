"""What a Message-ID of the sender's stands for, at one recipient.

SendGrid tells an asynchronous bounce by the sender's Message-ID alone, opens and clicks by its own
id alone, and other events by both (``schemas.event.message_alias``).

Invariants:
1. Pure. An alias is *own* while no event was seen that has both ids, then *linked* to the message
   of that event, and *ambiguous* as soon as an event of another message has the same alias.
2. Events that have the alias alone belong to the linked message. While the alias is own or
   ambiguous, they are a message by themselves, whose key is ``schemas.event.alias_unit``.
3. The alias knows the ids of these events wherever they are, so that a duplicate stays one.
4. An alias expires ``message_ttl_s`` of log time after its newest event. That is also an event of
   the linked message, so this never expires first.
"""

import struct
from typing import Final

from streams.enrich.message import SEEN_MAX
from streams.enrich.message_bytes import StateError

ALIASES: Final = b"a"
ALIASES_END: Final = b"b"
"""The key of an alias is this and its number."""
_FORM: Final = 1
_HEAD: Final = struct.Struct("<BBIH")
"""Form, marks, touched, number of ids; then the message's key if there is one, and the ids."""
_LINKED: Final = 1
_AMBIGUOUS: Final = 2
_UNIT_BYTES: Final = 16


class Alias:
    """State of one alias.

    Attributes:
        touched: log time of its newest event, seconds.
        unit: key of the message that it was linked to first; empty while it is own.
        ambiguous: several messages have it.
        seen: ids (64 bits) of the events that have the alias alone, in order of arrival.
    """

    __slots__ = ("ambiguous", "seen", "touched", "unit")

    def __init__(self, touched: int = 0, unit: bytes = b"") -> None:
        self.touched = touched
        self.unit = unit
        self.ambiguous = False
        self.seen: list[int] = []

    @property
    def linked(self) -> bytes:
        """Key of the message that it stands for; empty while it is own or ambiguous."""
        return b"" if self.ambiguous else self.unit

    def is_expired(self, now: int, ttl_s: int) -> bool:
        """Whether it is forgotten at this log time."""
        return self.touched + ttl_s < now

    def see(self, identity: int) -> None:
        """Remembers an event that has the alias alone."""
        self.seen.append(identity)
        if len(self.seen) > SEEN_MAX:
            del self.seen[0]


def key_of(number: int) -> bytes:
    """Where an alias is stored."""
    return ALIASES + number.to_bytes(8, "big")


def number_of(key: bytes) -> int:
    """The alias of ``key_of``'s bytes."""
    return int.from_bytes(key[len(ALIASES) :], "big")


def pack(alias: Alias) -> bytes:
    """An alias in its stored form."""
    marks = (_LINKED if alias.unit else 0) | (_AMBIGUOUS if alias.ambiguous else 0)
    head = _HEAD.pack(_FORM, marks, alias.touched, len(alias.seen)) + alias.unit
    return head + struct.pack(f"<{len(alias.seen)}Q", *alias.seen) if alias.seen else head


def unpack(data: bytes) -> Alias:
    """The alias of ``pack``'s bytes.

    Raises:
        StateError: the form is another version's.
    """
    if data[0] != _FORM:
        raise StateError(f"stored alias has form {data[0]}, this version reads {_FORM}")
    _, marks, touched, ids = _HEAD.unpack_from(data)
    alias = Alias(touched)
    at = _HEAD.size
    if marks & _LINKED:
        alias.unit = data[at : at + _UNIT_BYTES]
        at += _UNIT_BYTES
    alias.ambiguous = marks & _AMBIGUOUS != 0
    alias.seen = list(struct.unpack_from(f"<{ids}Q", data, at))
    return alias
