"""The partition of a key, by the default partitioner of every Kafka client.

Invariants:
1. Pure.
2. ``partitions_of`` gives the same results for many keys at once.
3. Equal to ``aiokafka.partitioner.DefaultPartitioner`` and so to the Java client's: a record that
   another producer writes with the same key goes to the same partition (a test compares both).

It exists because aiokafka's murmur2 works byte by byte in Python, at ten times the cost.
Source: Apache Kafka, ``org.apache.kafka.common.utils.Utils.murmur2`` and ``toPositive``.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=256)
def _words(count: int) -> struct.Struct:
    """``count`` little-endian 32-bit words."""
    return struct.Struct(f"<{count}I")


def murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 of ``data``, unsigned."""
    length = len(data)
    full = length >> 2
    h = _SEED ^ length
    for k in _words(full).unpack_from(data):
        k = k * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    tail = length & 3
    if tail:
        h = (h ^ int.from_bytes(data[full << 2 :], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key`` in a topic of ``partitions`` partitions, numbered from 0."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=16_384)
def partition_of_text(key: str, partitions: int) -> int:
    """``partition_of`` a text, cached."""
    return partition_of(key.encode(), partitions)


_TOGETHER_MIN, _TOGETHER_MAX = 12, 128
"""Fewest keys for which hashing them together is worth its overhead; most at once."""
_TOGETHER_BYTES_MAX = 128
"""Longer keys are hashed alone: they are rare, and the caches stay small."""
_LANE = 8
"""Bytes of a key's lane: a 32-bit word, and room for its product with ``_M``."""


@lru_cache(maxsize=256)
def _repeated(word: int, count: int) -> int:
    """``word`` in each of ``count`` lanes."""
    return int.from_bytes(word.to_bytes(_LANE, "little") * count, "little")


def _lanes(words: Sequence[int]) -> int:
    """Words of 32 bits, each in its lane."""
    return int.from_bytes(_lane_words(len(words)).pack(*words), "little")


@lru_cache(maxsize=256)
def _lane_words(count: int) -> struct.Struct:
    """``count`` little-endian 64-bit words."""
    return struct.Struct(f"<{count}Q")


def _in_step(keys: Sequence[bytes]) -> list[int]:
    """``murmur2`` of keys, the longest first, in parallel: one integer holds a word of each.

    A lane never carries into the next, since both factors of a product have 32 bits. Keys without
    further whole words come after those with some, and are left unchanged.
    """
    lengths = list(map(len, keys))
    width = (lengths[0] >> 2) + 1
    padded = b"".join([key.ljust(width << 2, b"\0") for key in keys])
    table = _words(width * len(keys)).unpack(padded)
    h = _lanes([_SEED ^ length for length in lengths])
    count = len(keys)
    for word in range(width - 1):
        while lengths[count - 1] >> 2 <= word:
            count -= 1
        mask = _repeated(_MASK, count)
        k = _lanes(table[word : count * width : width]) * _M & mask
        k ^= k >> 24 & _repeated(0xFF, count)
        low = h & mask
        h ^= low ^ (low * _M & mask) ^ (k * _M & mask)
    count = len(keys)
    mask = _repeated(_MASK, count)
    with_rest = _lanes([_MASK if length & 3 else 0 for length in lengths])
    rest = _lanes([table[at * width + (length >> 2)] for at, length in enumerate(lengths)])
    h ^= (((h ^ rest) * _M & mask) ^ h) & with_rest
    h = (h ^ (h >> 13 & _repeated(_MASK >> 13, count))) * _M & mask
    h ^= h >> 15 & _repeated(_MASK >> 15, count)
    return list(_lane_words(count).unpack(h.to_bytes(_LANE * count, "little")))


def murmur2_all(keys: Sequence[bytes]) -> list[int]:
    """``murmur2`` of each key, in order."""
    found = [0] * len(keys)
    lengths = list(map(len, keys))
    order = sorted(range(len(keys)), key=lengths.__getitem__, reverse=True)
    first = 0
    while first < len(order) and lengths[order[first]] > _TOGETHER_BYTES_MAX:
        found[order[first]] = murmur2(keys[order[first]])
        first += 1
    while first < len(order):
        chosen = order[first : first + _TOGETHER_MAX]
        first += _TOGETHER_MAX
        some = [keys[position] for position in chosen]
        hashes = _in_step(some) if len(some) >= _TOGETHER_MIN else map(murmur2, some)
        for position, number in zip(chosen, hashes, strict=True):
            found[position] = number
    return found


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """``partition_of`` each key, in order."""
    hashes = murmur2_all(keys) if len(keys) >= _TOGETHER_MIN else map(murmur2, keys)
    return [(number & 0x7FFFFFFF) % partitions for number in hashes]
