"""Frames of the spool: a payload with its length and checksum.

Invariants:
1. Pure.
2. A reader stops before a torn or damaged frame.

A frame is ``MPF1``, length (4 bytes, big-endian), CRC-32 of length and payload, payload.
"""

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"MPF1"
_HEAD = struct.Struct(">4sII")
HEAD_BYTES = _HEAD.size
CHECKED_TIMES = 64
"""Limit on the bytes that are summed up in the search for a whole frame after damage, in multiples
of the data's length."""


def frame(payload: bytes) -> bytes:
    """``payload`` as a frame."""
    size = len(payload)
    checksum = zlib.crc32(payload, zlib.crc32(size.to_bytes(4, "big")))
    return _HEAD.pack(MAGIC, size, checksum) + payload


@dataclass(frozen=True, slots=True)
class Frames:
    """The content of a stretch of a segment.

    Attributes:
        payloads: of the whole frames at its start, in order.
        end: where the last of them ends, in bytes from the start.
    """

    payloads: list[bytes]
    end: int


def read_frames(data: bytes) -> Frames:
    """The whole frames at the start of ``data``."""
    payloads: list[bytes] = []
    at = 0
    while (end := _end_of(data, at)) is not None and _fits(data, at, end):
        payloads.append(data[at + HEAD_BYTES : end])
        at = end
    return Frames(payloads, at)


def is_torn(data: bytes) -> bool:
    """Whether ``data`` looks like a frame whose writing was not finished.

    A frame whose length is damaged may look the same.
    """
    if len(data) < HEAD_BYTES:
        return MAGIC.startswith(data[: len(MAGIC)])
    return data.startswith(MAGIC) and _end_of(data, 0) is None


def next_frame(data: bytes) -> int:
    """Position of the next whole frame after the start of ``data``; its length if there is none.

    Takes time proportional to the length of ``data``, whatever the content: payloads come from
    outside, and may contain ``MPF1`` with a length everywhere.
    """
    left = CHECKED_TIMES * len(data)
    at = data.find(MAGIC, 1)
    while at >= 0:
        end = _end_of(data, at)
        if end is not None:
            left -= end - at
            if left < 0:
                break
            if _fits(data, at, end):
                return at
        at = data.find(MAGIC, at + 1)
    return len(data)


def _end_of(data: bytes, at: int) -> int | None:
    """Where the frame at ``at`` ends by its length; ``None`` if none ends within ``data``."""
    if len(data) - at < HEAD_BYTES:
        return None
    magic, size, _ = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + int(size)
    return None if magic != MAGIC or end > len(data) else end


def _fits(data: bytes, at: int, end: int) -> bool:
    """Whether the checksum of the frame from ``at`` to ``end`` is right."""
    _, size, checksum = _HEAD.unpack_from(data, at)
    payload = memoryview(data)[at + HEAD_BYTES : end]
    return zlib.crc32(payload, zlib.crc32(int(size).to_bytes(4, "big"))) == int(checksum)
