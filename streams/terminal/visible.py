"""Texts from outside, made harmless for a person's terminal and log.

Invariants:
1. Pure. What is printable stays as it is, but for what shows nothing or stacks up without end.
2. What can move a cursor, clear a screen, end a line, or change the order or the look of other text
   is written as JSON writes it, ``\\u001b``: so an escaped JSON text is the same JSON.
3. ``visible`` gives one line; it and its escapes are printable and stay as they are when escaped
   again.

Source: Unicode Standard, categories Cc, Cf, Zl, Zp, Cs, Co, Cn, and Default_Ignorable_Code_Point;
UAX 9 (bidirectional overrides); ECMA-48 (C0, C1 and escape sequences).
"""

import re
import unicodedata

VALUE_CHARS_MAX = 4_096
"""Longest value that is shown whole; ``--json`` and files have all of it."""
MARKS_MAX = 4
"""Combining marks on one letter: no language needs more, and a pile of them covers other lines."""

# printable by category, and seen by nobody: fillers, joiners, variation selectors beyond those of
# emoji, blanks that look like a space
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SURROGATES_FROM = 0x10000


def visible(text: str, chars_max: int | None = VALUE_CHARS_MAX) -> str:
    """``text`` on one line, of printable characters only.

    Args:
        text: from anywhere.
        chars_max: characters of it that are shown; how many there are follows. ``None``: all.
    """
    if chars_max is not None and len(text) > chars_max:
        return f"{visible(text[:chars_max], None)}… ({len(text):,} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_characters(text))


def visible_lines(text: str) -> str:
    """``text`` as ``visible`` has it, but for line ends and tabs, which are the writer's own."""
    bare = text.replace("\n", "").replace("\t", "")
    if bare.isascii() and bare.isprintable():
        return text
    parts = re.split(r"([\n\t])", text)
    return "".join(part if part in ("\n", "\t") else visible(part, None) for part in parts)


def _visible_characters(text: str) -> list[str]:
    out = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        if char.isprintable() and marks <= MARKS_MAX and not _UNSEEN.match(char):
            out.append(char)
        else:
            out.append(_escaped(char))
    return out


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code < _SURROGATES_FROM:
        return f"\\u{code:04x}"
    code -= _SURROGATES_FROM  # RFC 8259, 7
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
