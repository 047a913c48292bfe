"""Escapes text from outside, so that it is safe on a terminal and in a log.

Invariants:
1. Pure. Printable characters are kept, except invisible ones and long runs of combining marks.
2. Characters that can move the cursor, clear the screen, end a line, or change the order or look of
   other text are written as JSON escapes (``\\u001b``), so escaped JSON is still the same JSON.
3. ``visible`` returns one line of printable characters; escaping it again changes nothing.

Source: Unicode Standard, categories Cc, Cf, Zl, Zp, Cs, Co, Cn, and Default_Ignorable_Code_Point;
UAX 9 (bidirectional overrides); ECMA-48 (C0, C1 and escape sequences).
"""

import re
import unicodedata

VALUE_CHARS_MAX = 4_096
"""Longest value that is shown whole, in characters; ``--json`` and files are not shortened."""
MARKS_MAX = 4
"""Combining marks on one letter: no language needs more, and a stack of them covers other lines."""

# printable by category but invisible: fillers, joiners, variation selectors other than those of
# emoji, blanks that look like a space
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SURROGATES_FROM = 0x10000


def visible(text: str, chars_max: int | None = VALUE_CHARS_MAX) -> str:
    """``text`` on one line of printable characters.

    Args:
        text: any text.
        chars_max: longer text is cut here and its full length is appended; ``None``: not cut.
    """
    if chars_max is not None and len(text) > chars_max:
        return f"{visible(text[:chars_max], None)}… ({len(text):,} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_characters(text))


def visible_lines(text: str) -> str:
    """As ``visible``, but line ends and tabs are kept and nothing is cut."""
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
