"""Content decoding of a request's body, and a check of its JSON's shape before it is parsed.

Invariants:
1. Pure, and bounded: decompression stops at most one part after a limit is exceeded, and the ratio
   is checked against what was read so far. The check of the shape is a few passes of C code.
2. One content coding at most. Nested ones (``gzip, gzip``) are refused: no provider sends them, and
   their ratios multiply. ``identity``, an empty value and ``utf-8`` (a charset in the wrong header,
   which some senders' HTTP libraries write) mean no coding.
3. The shape is checked without parsing: strings are skipped, brackets and commas counted. A body
   within the limits may still be invalid JSON; the provider's parser finds that.
4. Work is done in parts, so that a thread that does it never blocks other threads for long.

Sources: RFC 9110 §8.4 (content codings), RFC 1950 to 1952, RFC 7932, RFC 8259.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import brotli

_PART_BYTES = 1 << 16
"""Bytes of input or output that one call into C works on."""
_RATIO_FREE_BYTES = 1 << 16
"""Decompressed bytes up to which any ratio is accepted: a few repeated fields compress well."""
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{},"'))
_TO_STEP = bytes(1 if c in b"[{" else 255 for c in range(256))
"""Bracket -> 1 up or, as a signed byte, 1 down."""
_STEPS_AT_ONCE = 4096
VALUES_PER_EVENT_MAX = 64
"""Members and elements that an event may have on average: SES has most, about 50."""


class Refused(Exception):
    """The request is over a limit, or in a form that is not supported.

    Attributes:
        status: HTTP status of the answer.
        code: stable code, for log, metrics and the answer.
        proven: whether the request had been proven to come from the provider.
    """

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.proven = False


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of a body, see the settings of the same names."""

    decompressed_bytes_max: int
    decompression_ratio_max: int
    json_depth_max: int
    json_values_max: int


class _Inflater(Protocol):
    """The common interface of ``zlib`` and ``brotli``."""

    def inflate(self, data: bytes, limit: int) -> bytes:
        """At most about ``limit`` bytes of output; call again with no data for the rest."""

    @property
    def read(self) -> int:
        """Bytes of input that the output so far was made from, or more."""

    @property
    def ended(self) -> bool:
        """Whether the stream is complete."""

    @property
    def clean(self) -> bool:
        """Whether nothing follows the stream."""


class _Zlib:
    def __init__(self, wbits: int, size: int) -> None:
        self._object = zlib.decompressobj(wbits)
        self._size = size

    def inflate(self, data: bytes, limit: int) -> bytes:
        return self._object.decompress(data or self._object.unconsumed_tail, limit)

    @property
    def read(self) -> int:
        return self._size - len(self._object.unconsumed_tail)

    @property
    def ended(self) -> bool:
        return self._object.eof

    @property
    def clean(self) -> bool:
        return not self._object.unused_data


class _Brotli:
    def __init__(self, size: int) -> None:
        self._object = brotli.Decompressor()
        self._size = size

    def inflate(self, data: bytes, limit: int) -> bytes:
        out: bytes = self._object.process(data, output_buffer_limit=limit)
        return out

    @property
    def read(self) -> int:
        return self._size  # brotli does not tell

    @property
    def ended(self) -> bool:
        return bool(self._object.is_finished())

    @property
    def clean(self) -> bool:
        return True


def _inflater(coding: str, body: bytes) -> _Inflater:
    if coding in ("gzip", "x-gzip"):
        return _Zlib(16 + zlib.MAX_WBITS, len(body))
    if coding == "deflate":
        # RFC 9110 §8.4.1.2 means the zlib format; many senders omit its two-byte header.
        headed = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _Zlib(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS, len(body))
    return _Brotli(len(body))


_NO_CODINGS = ("", "identity", "utf-8", "utf8")
_CODINGS = ("gzip", "x-gzip", "deflate", "br")


def content_coding(values: str | None) -> str | None:
    """The coding that ``Content-Encoding`` names, ``None`` for none.

    Args:
        values: all values of the header, joined by commas in their order.

    Raises:
        Refused: 415 for a coding that is not supported, or more than one.
    """
    named = "" if values is None else values.strip().lower()
    if named in _NO_CODINGS:
        return None
    if named not in _CODINGS:
        raise Refused(415, "content_coding")
    return named


def decode_content(body: bytes, coding: str | None, limits: BodyLimits) -> bytes:
    """The body without its content coding.

    Args:
        coding: as ``content_coding`` gives it.

    Raises:
        Refused: 413 over a limit; 400 for bytes that are not of the coding, are cut short, or
            continue after its end.
    """
    if coding is None:
        return body
    inflater = _inflater(coding, body)
    parts: list[bytes] = []
    size = 0
    data = body
    try:
        while not inflater.ended:
            part = inflater.inflate(data, _PART_BYTES)
            data = b""
            size += len(part)
            if size > limits.decompressed_bytes_max:
                raise Refused(413, "decompressed_too_large")
            if size > max(_RATIO_FREE_BYTES, inflater.read * limits.decompression_ratio_max):
                raise Refused(413, "decompression_ratio")
            if not part and not inflater.ended:
                raise Refused(400, "content_broken")
            parts.append(part)
    except (zlib.error, brotli.error):
        raise Refused(400, "content_broken") from None
    if not inflater.clean:
        raise Refused(400, "content_broken")
    return b"".join(parts)


def _parts(body: bytes) -> Iterator[bytes]:
    """A JSON text in parts; none ends between a backslash and the character that it escapes."""
    start = 0
    while start < len(body):
        part = body[start : start + _PART_BYTES]
        if (len(part) - len(part.rstrip(b"\\"))) & 1:
            part = body[start : start + _PART_BYTES + 1]
        start += len(part)
        yield part


def check_shape(body: bytes, limits: BodyLimits) -> None:
    """Refuses JSON that is nested too deep or holds too many values, before anything parses it.

    The number of values is estimated as that of commas and opening brackets, also in strings: it is
    never too low.

    Raises:
        Refused: 413.
    """
    structures = []
    values = opened = 0
    for part in _parts(body):
        if b"\\" in part:
            part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
        structure = part.translate(None, _NO_STRUCTURE)
        opened += structure.count(b"[") + structure.count(b"{")
        values += structure.count(b",")
        if values + opened > limits.json_values_max:
            raise Refused(413, "too_many_values")
        structures.append(structure)
    if opened > limits.json_depth_max and _is_deeper(structures, limits.json_depth_max):
        raise Refused(413, "too_deep")


def _is_deeper(structures: Iterable[bytes], most: int) -> bool:
    """Whether the brackets outside of strings are nested deeper than ``most``."""
    depth = inside = 0
    for structure in structures:
        # Two adjacent quotes are an empty string, or the end of one string and the start of the
        # next: removing both leaves the rest inside or outside of strings as it was.
        pieces = structure.translate(None, b",").replace(b'""', b"").split(b'"')
        brackets = b"".join(pieces[inside::2])
        inside ^= len(pieces) - 1 & 1
        steps = memoryview(brackets.translate(_TO_STEP)).cast("b")
        for start in range(0, len(steps), _STEPS_AT_ONCE):  # stop early when it is too deep
            depths = list(accumulate(steps[start : start + _STEPS_AT_ONCE], initial=depth))
            if max(depths) > most:
                return True
            depth = depths[-1]
    return False
