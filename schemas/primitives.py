"""Avro's primitive values as bytes, by hand, for the records that are written most.

Laws of this file:
1. Pure, and exactly what a general encoder writes (tests compare).
2. Caches are bounded.

Source: Avro 1.12 specification, «Binary encoding»: zig-zag variable-length integers, texts behind
their length in bytes.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

_ONE = [bytes((value,)) for value in range(128)]
_TWO_ON = [bytes((value & 127 | 128, value >> 7 | 128)) for value in range(1 << 14)]
"""Two groups of 7 bits, both of which go on."""
_TWO = [bytes((value & 127 | 128, value >> 7)) for value in range(1 << 14)]
"""Two groups of 7 bits, the second of which ends."""
_DOUBLE = struct.Struct("<Bd")
_MASK = (1 << 14) - 1


def _groups(value: int) -> bytes:
    """An unsigned integer in groups of 7 bits, lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_high = lru_cache(maxsize=65_536)(_groups)
"""Upper parts of integers: of times and offsets that follow one another they repeat."""


def integer(value: int) -> bytes:
    """An ``int`` or ``long``: -2^63 to 2^63 - 1."""
    value = value << 1 ^ value >> 63
    if value < 128:
        return _ONE[value]
    if value <= _MASK:
        return _TWO[value]
    if value < 1 << 28:
        return _TWO_ON[value & _MASK] + _high(value >> 14)
    if value < 1 << 56:
        return _TWO_ON[value & _MASK] + _TWO_ON[value >> 14 & _MASK] + _high(value >> 28)
    return _groups(value)


_SMALL = bytes([value << 1 if value < 64 else 255 for value in range(256)])
"""Byte of an integer that takes one; 255, which none has, for those that take more."""


COUNTS = (*_ONE[::2], *_TWO[128::2])
"""``integer`` of 0 to 8,191: sizes and positions, for columns of them."""


def sizes(column: Sequence[bytes]) -> list[bytes]:
    """``integer`` of the length of each."""
    try:
        return [COUNTS[size] for size in map(len, column)]
    except IndexError:
        return [integer(len(one)) for one in column]


def integers(values: Sequence[int]) -> bytes:
    """Integers one after another; quick when all are counts below 64."""
    try:
        small = bytes(values).translate(_SMALL)
    except ValueError:  # negative, or above 255
        return b"".join(map(integer, values))
    return small if 255 not in small else b"".join(map(integer, values))


def text(value: str) -> bytes:
    """A ``string``."""
    encoded = value.encode()
    return integer(len(encoded)) + encoded


def optional_text(value: str | None) -> bytes:
    """A union of null and ``string``."""
    return b"\x00" if value is None else b"\x02" + text(value)


def optional_double(value: float | None) -> bytes:
    """A union of null and ``double``."""
    return b"\x00" if value is None else _DOUBLE.pack(2, value)


_FLAGS = {False: b"\x00", True: b"\x01"}


def boolean(value: bool) -> bytes:
    """A ``boolean``."""
    return _FLAGS[value]


def read_integer(value: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at ``value[at]``, and the position behind it.

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


def read_text(value: bytes, at: int) -> tuple[str, int]:
    """The ``string`` that begins at ``value[at]``, and the position behind it.

    Raises:
        IndexError: it ends too early.
        ValueError: a negative length, or no UTF-8.
    """
    size, at = read_integer(value, at)
    end = at + size
    if size < 0:
        raise ValueError("a text of negative length")
    if end > len(value):
        raise IndexError("a text that ends behind the value")
    return value[at:end].decode(), end
