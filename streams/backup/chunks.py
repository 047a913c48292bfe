"""Records of a topic as bytes. Pure.

Invariants:
1. The same records give the same bytes, so what did not change since the last backup is the same
   object, and is not stored again.
2. Offsets, times, keys, values and headers come back as they were.
3. A chunk begins at a multiple of ``CHUNK_OFFSETS`` or where its partition begins, so a full one
   never changes while the topic is not compacted.

A record is: offset and time (8 bytes each), lengths of key and value (-1: none) and the number of
headers (4 bytes each), the key, the value, and each header as two lengths and two texts. All of a
chunk is compressed by zlib.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

CHUNK_OFFSETS = 50_000
"""Offsets of a chunk; some 20 MB of events, 4 MB compressed."""
LEVEL = 1
"""Of zlib: twice as fast as its default, and 10 % larger."""
_HEAD = struct.Struct(">qqiii")
_PAIR = struct.Struct(">ii")


class Copied(NamedTuple):
    """A record.

    Attributes:
        timestamp: milliseconds since 1970.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Consumed(Protocol):
    """A record as aiokafka gives it."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


def packed(records: Iterable[Consumed]) -> bytes:
    """Some records of one partition as bytes."""
    pieces: list[bytes] = []
    for one in records:
        key, value = one.key, one.value
        pieces.append(
            _HEAD.pack(one.offset, one.timestamp, _size(key), _size(value), len(one.headers))
        )
        pieces += (key or b"", value or b"")
        for name, text in one.headers:
            named = name.encode()
            pieces += (_PAIR.pack(len(named), _size(text)), named, text or b"")
    return zlib.compress(b"".join(pieces), LEVEL)


def unpacked(data: bytes) -> Iterator[Copied]:
    """The records of ``packed``'s bytes.

    Raises:
        ValueError: they are none.
    """
    try:
        text = zlib.decompress(data)
        at = 0
        while at < len(text):
            offset, timestamp, key_size, value_size, count = _HEAD.unpack_from(text, at)
            at += _HEAD.size
            key, at = _taken(text, at, key_size)
            value, at = _taken(text, at, value_size)
            headers = []
            for _ in range(count):
                name_size, text_size = _PAIR.unpack_from(text, at)
                name, at = _taken(text, at + _PAIR.size, name_size)
                content, at = _taken(text, at, text_size)
                headers.append(((name or b"").decode(), content))
            yield Copied(offset, timestamp, key, value, tuple(headers))
    except (zlib.error, struct.error) as error:
        raise ValueError(f"no records: {error}") from error


def _size(text: bytes | None) -> int:
    return -1 if text is None else len(text)


def _taken(text: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    if at + size > len(text):
        raise ValueError("no records: cut off")
    return text[at : at + size], at + size


def spans(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The offsets of a partition's chunks, first and next (invariant 3)."""
    while begin < end:
        through = min(end, (begin // CHUNK_OFFSETS + 1) * CHUNK_OFFSETS)
        yield begin, through
        begin = through


class Step(NamedTuple):
    """What is written next to a partition: ``skip`` offsets without records, then a record."""

    skip: int
    record: Copied


def placed(records: Iterable[Copied], position: int) -> Iterator[Step]:
    """How records are written so that each gets its own offset again.

    Args:
        position: offset that the next record that is written gets.

    Raises:
        ValueError: they are not in order, or lie before ``position``.
    """
    for record in records:
        if record.offset < position:
            raise ValueError(f"offset {record.offset} comes behind {position - 1}")
        yield Step(record.offset - position, record)
        position = record.offset + 1


def shifted(records: Iterable[Copied], end: int, count: int) -> Iterator[Copied]:
    """``count`` records in their order with offsets that follow each other and end before ``end``.

    None comes before where it was, so who has read up to an offset misses nothing from there on.
    """
    for offset, record in enumerate(records, end - count):
        yield record._replace(offset=offset)
