"""HTTP content encodings that the analysts' door speaks, both ways.

Invariants:
1. Pure: bytes in, bytes out.
2. What comes in is unpacked up to a limit and not further: a small body may hide a large one.
3. Of several encodings that a client takes, the one is chosen that ClickHouse would choose.

Source: ClickHouse ``src/IO/CompressionMethod.cpp`` (names, order of preference).
"""

import zlib
from collections.abc import Callable

import brotli
import lz4.frame

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # from 3.14 on
except ImportError:
    from backports import zstd  # clickhouse-connect brings it

_ENCODERS: dict[str, Callable[[bytes | memoryview], bytes]] = {
    "zstd": lambda content: bytes(zstd.compress(content, 1)),
    "br": lambda content: bytes(brotli.compress(content, quality=1)),
    "lz4": lambda content: bytes(lz4.frame.compress(content)),
    "gzip": lambda content: zlib.compress(content, 1, zlib.MAX_WBITS | 16),
    "deflate": lambda content: zlib.compress(content, 1),
}
"""By name, in ClickHouse's order of preference."""
_BROKEN = (zlib.error, brotli.error, zstd.ZstdError, RuntimeError, EOFError)
# lz4 raises RuntimeError on what is no frame


class BrokenBody(ValueError):
    """A body that is not what its encoding says."""


class BodyTooLarge(ValueError):
    """A body that unpacks to more than it may."""


def best(accepted: str) -> str:
    """The name of the best encoding that the client takes; empty when none fits.

    Args:
        accepted: the ``Accept-Encoding`` header.
    """
    wanted = set()
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if weight.replace(" ", "").rstrip("0") not in ("q=", "q=0."):
            wanted.add(name.strip())
    return next((name for name in _ENCODERS if name in wanted), "")


def encoded(content: bytes | memoryview, encoding: str) -> bytes:
    """A result in an encoding.

    Raises:
        KeyError: it is not ``known``.
    """
    return _ENCODERS[encoding](content)


def known(encoding: str) -> bool:
    """Whether a ``Content-Encoding`` can be taken off here."""
    return encoding in _ENCODERS


def decoded(content: bytes, encoding: str, bytes_max: int) -> bytes:
    """A body without its encoding.

    Raises:
        BrokenBody: it is not what ``encoding`` says, or ends in the middle.
        BodyTooLarge: it would be larger than ``bytes_max``.
        KeyError: ``encoding`` is not ``known``.
    """
    room = bytes_max + 1
    try:
        plain, whole = _UNPACKERS[encoding](content, room)
    except _BROKEN as error:
        raise BrokenBody(encoding) from error
    if len(plain) > bytes_max:
        raise BodyTooLarge(encoding)
    if not whole:
        raise BrokenBody(encoding)
    return plain


def _inflated(content: bytes, room: int) -> tuple[bytes, bool]:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip and zlib, told apart by their head
    return unpacker.decompress(content, room), unpacker.eof


def _un_brotli(content: bytes, room: int) -> tuple[bytes, bool]:
    unpacker = brotli.Decompressor()
    plain = bytearray()
    while len(plain) < room and not unpacker.is_finished():
        piece = unpacker.process(content, output_buffer_limit=room)
        if not piece and not content:
            break
        content = b""
        plain += piece
    return bytes(plain), bool(unpacker.is_finished())


def _un_lz4(content: bytes, room: int) -> tuple[bytes, bool]:
    unpacker = lz4.frame.LZ4FrameDecompressor()
    return bytes(unpacker.decompress(content, max_length=room)), bool(unpacker.eof)


def _un_zstd(content: bytes, room: int) -> tuple[bytes, bool]:
    unpacker = zstd.ZstdDecompressor()
    return unpacker.decompress(content, max_length=room), unpacker.eof


_UNPACKERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "zstd": _un_zstd,
    "br": _un_brotli,
    "lz4": _un_lz4,
    "gzip": _inflated,
    "deflate": _inflated,
}
