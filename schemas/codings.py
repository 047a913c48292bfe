r"""Decodes the escapes of links, HTML, JSON and mail, and tells where each character came from.

Invariants:
1. Pure and total: any text is decoded, what is no escape stays.
2. Every pattern has a greatest length, and no text is read more than ``LAYERS_MAX`` times, so the
   time is proportional to the length of the text.
3. It is for finding things, not for reading values: an escape is decoded wherever it stands,
   however often it was applied, so that ``%2540``, ``&amp;#64;`` and ``\\u0040`` are all an @.

Sources: RFC 3986 (2.1, percent-encoding), RFC 8259 (7, JSON strings), RFC 2045 (6.7,
quoted-printable), RFC 4648 (4 and 5, base64), HTML standard (13.5, character references).
"""

import base64
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

LAYERS_MAX = 8
"""Most escapes inside one another that are undone; repetitions of one kind count once."""
INNER_QUOTE = "\ufdd0"
"""Stands for a quote that was escaped: it does not end the string that it is in."""
BASE64_CHARS_MIN = 8
"""Shortest base64 that is decoded: ``a@b.de`` has eight characters."""

_PERCENT = re.compile(r"%(?:25){0,8}(?:([0-9A-Fa-f]{2})|[uU]([0-9A-Fa-f]{4}))")
_ESCAPE = re.compile(
    r"%(?:25){0,8}(?:([0-9A-Fa-f]{2})|[uU]([0-9A-Fa-f]{4}))"
    r"|&(?:amp;){0,8}(?:#(?:0{0,24}[0-9]{1,7}|[xX]0{0,24}[0-9A-Fa-f]{1,6});?"
    r"|[A-Za-z][A-Za-z0-9]{1,30};)"
    r"|(?<!\\)\\{1,32}(?:U000([0-9A-Fa-f]{5})|[uU]([0-9A-Fa-f]{4})|[xX]([0-9A-Fa-f]{2})"
    r"|[uU]\{0{0,8}([0-9A-Fa-f]{1,6})\}|([\"/@.bfnrt]))"
)
_SHORT = {'"': INNER_QUOTE, "/": "/", "@": "@", ".": "."}
_QUOTED_PRINTABLE = re.compile(r"=(?:3[Dd]){0,8}(?:([0-9A-Fa-f]{2})|\r?\n)")
_PARAMETER_NAME = re.compile(r"[\w.-]{0,64}[?&;#\n]", re.ASCII)
"""Before its =, on the text turned round."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_SIGNS = re.compile(rb"[@%&\\=]|\xbc\xa0|\xb9\xab")
"""One of these is in each coding of an @."""
_CLEAN = re.compile("[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]{6,}")


@dataclass(frozen=True, slots=True)
class Layer:
    """A text with one layer of escapes undone.

    Attributes:
        text: the result.
        places: index in ``text`` of what each escape became.
        widths: characters that each became, 0 or 1.
        begins: where each escape begins in the text before.
        ends: where it ends there.
        percents: how often each was percent-encoded.
    """

    text: str
    places: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    percents: list[int] = field(default_factory=list)

    def source(self, index: int) -> tuple[int, int, int]:
        """Where a character of ``text`` begins and ends in the text before, and its percents."""
        at = bisect_right(self.places, index) - 1
        if at < 0:
            return index, index + 1, 0
        if self.places[at] == index and self.widths[at]:
            return self.begins[at], self.ends[at], self.percents[at]
        moved = index + self.ends[at] - self.places[at] - self.widths[at]
        return moved, moved + 1, 0


class Reading:
    """A text behind all its layers of escapes.

    Args:
        source: the text as it stands.
        layers: outermost first, each of the text of the one before.
    """

    def __init__(self, source: str, layers: list[Layer]) -> None:
        self.source = source
        self.layers = layers
        self.text = layers[-1].text if layers else source

    def begin(self, index: int) -> int:
        """Where the character at ``index`` begins in the source."""
        for layer in reversed(self.layers):
            index = layer.source(index)[0]
        return index

    def end(self, index: int) -> int:
        """Where the character at ``index`` ends in the source."""
        for layer in reversed(self.layers):
            index = layer.source(index)[1] - 1
        return index + 1

    def depth(self, index: int) -> int:
        """How often the character at ``index`` is percent-encoded in the source."""
        depth = 0
        for layer in reversed(self.layers):
            index, _, percents = layer.source(index)
            depth += percents
        return depth


def has_escapes(text: str) -> bool:
    """Whether a text may contain an escape of ``read``."""
    return "%" in text or "\\" in text or "&" in text


def read(text: str) -> Reading:
    """A text with its percent-encodings, character references and JSON escapes undone."""
    return _undone(text, [])


def read_quoted_printable(reading: Reading, *, links: bool) -> Reading:
    """The same with quoted-printable undone too, and what is then found in it.

    Args:
        links: leave parameters of links and forms as they are, such as ``?width=40``.
    """
    step = _printable_outside_links if links else _printable
    layer = _decoded(reading.text, _QUOTED_PRINTABLE, step)
    return _undone(reading.source, [*reading.layers, layer]) if layer.begins else reading


def base64_texts(text: str) -> Iterator[tuple[str, Callable[[int], int]]]:
    """Texts in base64 or base64url that may contain an @.

    A stretch, unless all its letters are of one case, is read at each of four beginnings: what
    stands before it, such as the path of a link, may be written in the same alphabet. Of what is
    not UTF-8 the parts that are.

    Returns:
        Each text, and a function from an index in it to the index of its group in the source.
    """
    for found in _BASE64.finditer(text):
        stretch = found.group()
        if stretch.islower() or stretch.isupper() or stretch.isdigit():
            continue
        stretch = stretch.replace("-", "+").replace("_", "/")
        for skipped in range(4):
            part = stretch[skipped:]
            if len(part) % 4 == 1:
                part = part[:-1]
            content = base64.b64decode(part + "=" * (-len(part) % 4))
            if _SIGNS.search(content):
                yield from _texts(content, found.start() + skipped)


def _texts(content: bytes, first: int) -> Iterator[tuple[str, Callable[[int], int]]]:
    whole = content.decode("utf-8", "surrogateescape")
    for found in _CLEAN.finditer(whole):
        before = len(whole[: found.start()].encode("utf-8", "surrogateescape"))
        part = found.group()

        def place(index: int, part: str = part, before: int = before) -> int:
            return first + (before + len(part[:index].encode())) // 3 * 4

        yield part, place


def _undone(text: str, layers: list[Layer]) -> Reading:
    inner = layers[-1].text if layers else text
    for _ in range(LAYERS_MAX):
        if not has_escapes(inner):
            break
        layer = _decoded(inner, _ESCAPE, _unescaped)
        if not layer.begins:
            break
        layers.append(layer)
        inner = layer.text
    return Reading(text, layers)


_Step = Callable[[str, "re.Match[str]"], tuple[str, int, int] | None]
"""Of an escape: what it becomes, where it ends, how often it is percent-encoded; none stays."""


def _decoded(text: str, pattern: re.Pattern[str], step: _Step) -> Layer:
    parts: list[str] = []
    layer, size, done = Layer(""), 0, 0
    for found in pattern.finditer(text):
        begin = found.start()
        made = step(text, found) if begin >= done else None
        if made is None:
            continue
        character, end, percents = made
        parts += (text[done:begin], character)
        size += begin - done
        layer.places.append(size)
        layer.widths.append(len(character))
        layer.begins.append(begin)
        layer.ends.append(end)
        layer.percents.append(percents)
        size += len(character)
        done = end
    parts.append(text[done:])
    return Layer(
        "".join(parts), layer.places, layer.widths, layer.begins, layer.ends, layer.percents
    )


def _unescaped(text: str, found: re.Match[str]) -> tuple[str, int, int] | None:
    begin = text[found.start()]
    if begin == "%":
        return _percent(text, found)
    if begin == "&":
        name = found.group().replace("amp;", "").lstrip("&")  # "&amp;#64;": "&#64;" in HTML
        for spelling in (name, name.lower()):
            character = html.unescape(f"&{spelling}")
            if len(character) == 1:
                return character, found.end(), 0
        return ("&", found.start() + 5, 0) if found.group().startswith("&amp;") else None
    *numbers, short = found.group(3, 4, 5, 6, 7)
    if short is not None:
        return _SHORT.get(short, " "), found.end(), 0
    number = int(next(digits for digits in numbers if digits), 16)
    return (chr(number), found.end(), 0) if number < 0x110000 else None


def _percent(text: str, found: re.Match[str]) -> tuple[str, int, int]:
    times = 1 + found.group().count("25", 1, -2)
    if found[2]:
        return chr(int(found[2], 16)), found.end(), times
    character, end = _character(text, found, _PERCENT)
    return character, end, times


def _character(text: str, found: re.Match[str], byte: re.Pattern[str]) -> tuple[str, int]:
    """The character of UTF-8 whose first byte was found, and where it ends; else of Latin-1."""
    first = int(found[1], 16)
    more = 0 if first < 0xC2 else 1 if first < 0xE0 else 2 if first < 0xF0 else 3
    content, end = bytes([first]), found.end()
    for _ in range(more):
        follows = byte.match(text, end)
        if follows is None or not follows[1]:
            break
        content += bytes([int(follows[1], 16)])
        end = follows.end()
    try:
        return content.decode(), end
    except UnicodeDecodeError:
        return chr(first), found.end()  # as old senders write it


def _printable(text: str, found: re.Match[str]) -> tuple[str, int, int]:
    """A byte of quoted-printable; of UTF-8, a character."""
    if not found[1]:
        return "", found.end(), 0
    return *_character(text, found, _QUOTED_PRINTABLE), 0


def _printable_outside_links(text: str, found: re.Match[str]) -> tuple[str, int, int] | None:
    begin = found.start()
    name = _PARAMETER_NAME.match(text[max(0, begin - 65) : begin][::-1])
    made = _printable(text, found)
    if not found[1]:
        return made
    # only signs and letters of UTF-8 are encoded; in "to=ada@…" none is
    sign = made[0].isascii() and not made[0].isalnum()
    return made if not name and (sign or made[1] > found.end()) else None
