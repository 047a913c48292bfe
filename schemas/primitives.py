"""Avro's primitive values as bytes, encoded without fastavro for speed.

Invariants:
1. Pure, and exactly what fastavro writes (tests compare).
2. Caches are bounded.

Source: Avro 1.12 specification, «Binary encoding»: zig-zag variable-length integers, texts after
their length in bytes.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_TWO_ON: Final = [bytes((value & 127 | 128, value >> 7 | 128)) for value in range(1 << 14)]
"""Two groups of 7 bits, neither of them the last."""
_FEW: Final = [
    bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7))
    for value in range(1 << 14)
]
"""One group of 7 bits, or two."""
_MASK: Final = (1 << 14) - 1


def _groups(value: int) -> bytes:
    """An unsigned integer in groups of 7 bits, lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_high = lru_cache(maxsize=65_536)(_groups)
"""Upper parts of integers: they repeat in consecutive times and offsets."""


def integer(value: int) -> bytes:
    """An ``int`` or ``long``: -2^63 to 2^63 - 1."""
    value = value << 1 if value >= 0 else ~(value << 1)
    if value <= _MASK:
        return _FEW[value]
    if value < 1 << 28:
        return _TWO_ON[value & _MASK] + _high(value >> 14)
    if value < 1 << 56:
        return _TWO_ON[value & _MASK] + _TWO_ON[value >> 14 & _MASK] + _high(value >> 28)
    if value >> 64:
        raise OverflowError
    return _groups(value)


_SMALL: Final = bytes([value << 1 if value < 64 else 255 for value in range(256)])
"""Encoding of an integer that takes one byte; 255, which is none, for those that take more."""

COUNTS: Final = tuple(_FEW[::2])
"""``integer`` of 0 to 8,191: sizes and positions, for columns of them."""


def sizes(column: Sequence[bytes]) -> list[bytes]:
    """``integer`` of the length of each."""
    try:
        return [COUNTS[size] for size in map(len, column)]
    except IndexError:
        return [integer(len(one)) for one in column]


def integers(values: Sequence[int]) -> bytes:
    """Consecutive integers; fast if all are counts below 64."""
    try:
        small = bytes(values).translate(_SMALL)
    except ValueError:  # negative, or above 255
        return b"".join(map(integer, values))
    return small if 255 not in small else b"".join(map(integer, values))


_COUNT_OF: Final = bytes([byte >> 1 if byte < 128 and not byte & 1 else 255 for byte in range(256)])
"""Count that a byte encodes; 255, which is none, for bytes that do not encode one."""


def small_counts(data: bytes) -> bytes | None:
    """The integers encoded by ``data``, one byte each, if all are below 64; else ``None``."""
    counts = data.translate(_COUNT_OF)
    return None if 255 in counts else counts


def text(value: str) -> bytes:
    """A ``string``."""
    encoded = value.encode()
    size = len(encoded)
    return (COUNTS[size] if size < 8_192 else integer(size)) + encoded


def array(items: Sequence[bytes]) -> bytes:
    """An ``array`` of encoded items."""
    return integer(len(items)) + b"".join(items) + b"\x00" if items else b"\x00"


def read_integer(value: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at ``value[at]``, and the position after it.

    Raises:
        IndexError: it ends too early.
    """
    byte = value[at]
    at += 1
    number, shift = byte & 127, 7
    while byte > 127:
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
    return number >> 1 ^ -(number & 1), at
