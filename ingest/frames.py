"""Frames of the spool: a payload with its length and checksum.

Laws of this file:
1. Pure.
2. A reader never takes a torn or damaged frame for a whole one: it stops before it.

A frame is ``MPF1``, length (4 bytes, big-endian), CRC-32 of length and payload, payload.
"""

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"MPF1"
_HEAD = struct.Struct(">4sII")
HEAD_BYTES = _HEAD.size


def frame(payload: bytes) -> bytes:
    """``payload`` as a frame."""
    size = len(payload)
    checksum = zlib.crc32(payload, zlib.crc32(size.to_bytes(4, "big")))
    return _HEAD.pack(MAGIC, size, checksum) + payload


@dataclass(frozen=True, slots=True)
class Frames:
    """What a stretch of a segment holds.

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
    while len(data) - at >= HEAD_BYTES:
        magic, size, checksum = _HEAD.unpack_from(data, at)
        end = at + HEAD_BYTES + size
        if magic != MAGIC or end > len(data):
            break
        payload = data[at + HEAD_BYTES : end]
        if zlib.crc32(payload, zlib.crc32(size.to_bytes(4, "big"))) != checksum:
            break
        payloads.append(payload)
        at = end
    return Frames(payloads, at)


def is_torn(data: bytes) -> bool:
    """Whether ``data`` is the start of a frame that was never written to its end."""
    if len(data) < HEAD_BYTES:
        return MAGIC.startswith(data[: len(MAGIC)])
    magic, size, _ = _HEAD.unpack_from(data)
    return bool(magic == MAGIC) and HEAD_BYTES + size > len(data)


def next_frame(data: bytes) -> int:
    """Where the next whole frame behind the start of ``data`` begins; its length if none does."""
    at = data.find(MAGIC, 1)
    while at >= 0:
        if read_frames(data[at:]).payloads:
            return at
        at = data.find(MAGIC, at + 1)
    return len(data)
