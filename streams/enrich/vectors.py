"""The stored form of a vector of counts: it says its form and its width.

Invariants:
1. Pure. ``unpack`` is the inverse of ``pack`` and ``pack_sums``.
2. A vector that was stored under a shorter glossary is read with zeros for the counters that came
   since. One that was stored under a longer glossary is refused: its newest counts would be lost.
"""

import struct
from collections.abc import Sequence
from typing import Final

from schemas.glossary import COUNTER_NAMES
from streams.enrich.message_bytes import StateError

WIDTH: Final = len(COUNTER_NAMES)
_FORMS: Final = b"iq"
"""The form is the size of each integer, by its letter in ``struct``: 32 or 64 bits, signed."""
_HEAD: Final = 2
_COUNTS, _SUMS = (struct.Struct(f"<{WIDTH}{form:c}") for form in _FORMS)
_COUNTS_HEAD, _SUMS_HEAD = (bytes((form, WIDTH)) for form in _FORMS)
_NEW: Final = (0,) * WIDTH
"""Values of the counters that a shorter vector lacks."""


def pack(counts: Sequence[int]) -> bytes:
    """Counts of one minute, 32 bits each."""
    return _COUNTS_HEAD + _COUNTS.pack(*counts)


def pack_sums(sums: Sequence[int]) -> bytes:
    """Sums over any number of minutes, 64 bits each."""
    return _SUMS_HEAD + _SUMS.pack(*sums)


def unpack(data: bytes, at: int = 0) -> list[int]:
    """The vector that begins at ``data[at]``, as wide as the glossary.

    Raises:
        StateError: it has another form, more counters than the glossary, or ends too early.
    """
    try:
        if data.startswith(_COUNTS_HEAD, at):
            return list(_COUNTS.unpack_from(data, at + _HEAD))
        of_sums = data.startswith(_SUMS_HEAD, at)
        counts = (_SUMS if of_sums else _other_layout(data, at)).unpack_from(data, at + _HEAD)
    except struct.error as error:
        raise StateError(f"a stored vector of counts is damaged: {error}") from error
    return [*counts, *_NEW[len(counts) :]]


def _other_layout(data: bytes, at: int) -> struct.Struct:
    """The layout of a vector that was stored under another glossary."""
    head = data[at : at + _HEAD]
    if len(head) < _HEAD or head[0] not in _FORMS:
        raise StateError(f"a stored vector of counts has the unknown form {head!r}")
    if head[1] > WIDTH:
        raise StateError(
            f"a stored vector has {head[1]} counters, this version knows {WIDTH}: upgrade mailpulse"
        )
    return struct.Struct(f"<{head[1]}{head[0]:c}")
