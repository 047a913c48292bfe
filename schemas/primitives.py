"""Avro's primitive values as bytes, by hand, for the records that are written most.

Invariants:
1. Pure, and exactly what a general encoder writes (tests compare).
2. Caches are bounded.

Source: Avro 1.12 specification, «Binary encoding»: zig-zag variable-length integers, texts behind
their length in bytes.
"""

from collections.abc import Sequence
from functools import lru_cache

_TWO_ON = [bytes((value & 127 | 128, value >> 7 | 128)) for value in range(1 << 14)]
"""Two groups of 7 bits, both of which go on."""
_FEW = [
    bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7))
    for value in range(1 << 14)
]
"""One group of 7 bits, or two."""
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


_SMALL = bytes([value << 1 if value < 64 else 255 for value in range(256)])
"""Byte of an integer that takes one; 255, which none has, for those that take more."""


COUNTS = tuple(_FEW[::2])
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


_COUNT_OF = bytes([byte >> 1 if byte < 128 and not byte & 1 else 255 for byte in range(256)])
"""Count that a byte stands for; 255, which none is, for what is no whole count."""


def small_counts(data: bytes) -> bytes | None:
    """Integers below 64, one for each byte; None where they are not such."""
    counts = data.translate(_COUNT_OF)
    return None if 255 in counts else counts


def text(value: str) -> bytes:
    """A ``string``."""
    encoded = value.encode()
    size = len(encoded)
    return (COUNTS[size] if size < 8_192 else integer(size)) + encoded


def array(items: Sequence[bytes]) -> bytes:
    """An ``array`` of what is encoded already."""
    return integer(len(items)) + b"".join(items) + b"\x00" if items else b"\x00"


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
