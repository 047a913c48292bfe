"""ClickHouse's own framing of compressed bytes, as ``compress=1`` asks for it over HTTP.

Invariants:
1. Pure: bytes in, bytes out. Reading is the client's; nothing here decompresses.
2. A frame is a checksum (CityHash128 of version 1.0.2, 16 bytes), the method (one byte), the sizes
   of the frame without its checksum and of the plain bytes (two little-endian numbers of 4 bytes),
   and an LZ4 block. The checksum covers everything behind it.
3. Every client that sends ``compress=1`` reads LZ4 (clickhouse-go, clickhouse-java, the Rust
   crate), whatever method it asks for: the method stands in each frame.

Sources: ClickHouse ``src/Compression/CompressedWriteBuffer.cpp`` and ``CompressionInfo.h``;
CityHash 1.0.2, which ClickHouse keeps although later versions give other values.
"""

import struct
from collections.abc import Callable

import lz4.block

FRAME_BYTES_MAX = 1 << 20
"""Plain bytes in one frame, as ClickHouse's ``max_compress_block_size``."""
FRAMES_BYTES_MAX = 64 << 20
"""Longest chain. The checksum is computed in Python: measured, 16 MB of frames a second on a
machine at rest, 2 to 3 on a busy one."""
LZ4_METHOD = 0x82
HEADER_BYTES = 9

_MASK = (1 << 64) - 1
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_K3 = 0xC949D7C7509E6557
_MULTIPLIER = 0x9DDFEA08EB382D69
_Pair = tuple[int, int]


class FramesTooLarge(ValueError):
    """A result whose frames come to more than ``FRAMES_BYTES_MAX``, which is the argument."""


def compressed(content: bytes | memoryview, go_on: Callable[[], None] = lambda: None) -> bytes:
    """``content`` as a chain of frames; nothing for nothing.

    Args:
        content: any bytes.
        go_on: called before each frame; what it raises ends the work.

    Raises:
        FramesTooLarge: it is random enough to stay that large.
    """
    frames: list[bytes] = []
    size = 0
    for start in range(0, len(content), FRAME_BYTES_MAX):
        go_on()
        plain = content[start : start + FRAME_BYTES_MAX]
        packed = lz4.block.compress(plain, store_size=False)
        header = struct.pack("<BII", LZ4_METHOD, HEADER_BYTES + len(packed), len(plain))
        size += 16 + len(header) + len(packed)
        if size > FRAMES_BYTES_MAX:
            raise FramesTooLarge(FRAMES_BYTES_MAX)
        frames += [city_hash_128(header + packed), header, packed]
    return b"".join(frames)


def city_hash_128(content: bytes) -> bytes:
    """CityHash128 1.0.2: its low and its high half, little-endian, 16 bytes in all."""
    size = len(content)
    if size >= 16:
        low, high = struct.unpack_from("<QQ", content)
        pair = _seeded(content[16:], low ^ _K3, high)
    elif size >= 8:
        (low,), (high,) = struct.unpack_from("<Q", content), struct.unpack_from("<Q", content[-8:])
        pair = _seeded(b"", low ^ (size * _K0 & _MASK), high ^ _K1)
    else:
        pair = _seeded(content, _K0, _K1)
    return struct.pack("<QQ", *pair)


def _seeded(content: bytes, x: int, y: int) -> _Pair:
    return _murmur(content, x, y) if len(content) < 128 else _long(content, x, y)


def _rotated(value: int, by: int) -> int:
    value &= _MASK
    return (value >> by | value << (64 - by)) & _MASK


def _mixed(value: int) -> int:
    value &= _MASK
    return value ^ (value >> 47)


def _folded(low: int, high: int) -> int:
    """Two halves into one number of 64 bits."""
    low, high = low & _MASK, high & _MASK
    first = _mixed((low ^ high) * _MULTIPLIER)
    return _mixed((high ^ first) * _MULTIPLIER) * _MULTIPLIER & _MASK


def _weak(a: int, b: int, words: tuple[int, ...]) -> _Pair:
    """32 bytes into two seeds."""
    w, x, y, z = words
    a += w
    b = _rotated(b + a + z, 21)
    c = a
    a += x + y
    return (a + z) & _MASK, (b + _rotated(a, 44) + c) & _MASK


def _short(content: bytes) -> int:
    """A number of 64 bits from at most 16 bytes."""
    size = len(content)
    if size > 8:
        (a,), (b,) = struct.unpack_from("<Q", content), struct.unpack_from("<Q", content[-8:])
        return _folded(a, _rotated(b + size, size)) ^ int(b)
    if size >= 4:
        (a,), (b,) = struct.unpack_from("<I", content), struct.unpack_from("<I", content[-4:])
        return _folded(size + (a << 3), b)
    if size:
        y = content[0] + (content[size >> 1] << 8)
        z = size + (content[-1] << 2)
        return _mixed(y * _K2 ^ z * _K3) * _K2 & _MASK
    return _K2


def _murmur(content: bytes, a: int, b: int) -> _Pair:
    """For less than 128 bytes."""
    size = len(content)
    if size <= 16:
        a = _mixed(a * _K1) * _K1 & _MASK
        c = (b * _K1 + _short(content)) & _MASK
        d = _mixed(a + (struct.unpack_from("<Q", content)[0] if size >= 8 else c))
    else:
        before_last, last = struct.unpack("<QQ", content[-16:])
        c = _folded(last + _K1, a)
        d = _folded(b + size, c + before_last)
        a = (a + d) & _MASK
        # the last 1 to 16 bytes are in c and d already
        for low, high in struct.iter_unpack("<QQ", content[: (size - 1) // 16 * 16]):
            a = ((a ^ _mixed(low * _K1) * _K1) & _MASK) * _K1 & _MASK
            b ^= a
            c = ((c ^ _mixed(high * _K1) * _K1) & _MASK) * _K1 & _MASK
            d ^= c
    a, b = _folded(a, c), _folded(d, b)
    return a ^ b, _folded(b, a)


def _long(content: bytes, x: int, y: int) -> _Pair:
    """For 128 bytes and more."""
    size = len(content)
    first, second = struct.unpack_from("<QQ", content)
    z = size * _K1 & _MASK
    v0 = (_rotated(y ^ _K1, 49) * _K1 + first) & _MASK
    v1 = (_rotated(v0, 42) * _K1 + second) & _MASK
    w0 = (_rotated(y + z, 35) * _K1 + x) & _MASK
    w1 = _rotated(x + struct.unpack_from("<Q", content, 88)[0], 53) * _K1 & _MASK
    rounds = size // 128 * 128
    for words in struct.iter_unpack("<8Q", memoryview(content)[:rounds]):
        x = _rotated(x + y + v0 + words[2], 37) * _K1 & _MASK ^ w1
        y = _rotated(y + v1 + words[6], 42) * _K1 & _MASK ^ v0
        z = _rotated(z ^ w0, 33)
        v0, v1 = _weak(v1 * _K1, x + w0, words[:4])
        w0, w1 = _weak(z + w1, y, words[4:])
        z, x = x, z
    y += _rotated(w0, 37) * _K0 + z
    x += _rotated(v0 + z, 49) * _K0
    # what is left is hashed from its end in pieces of 32 bytes; the last may reach back
    for back in range(32, size - rounds + 32, 32):
        words = struct.unpack_from("<4Q", content, size - back)
        y = _rotated(y - x, 42) * _K0 + v1
        w0 += words[2]
        x = _rotated(x, 49) * _K0 + w0
        w0 += v0
        v0, v1 = _weak(v0, v1, words)
    x, y = _folded(x, v0), _folded(y, w0)
    return (_folded(x + v1, w1) + y) & _MASK, _folded(x + w1, y + v1)
