"""Tokens of the text that ClickHouse's own formatter gives for a statement.

Invariants:
1. Pure, and linear in the length of the text.
2. It reads the canonical text only, one line made by ``formatQuerySingleLine``: that has no
   comments and no here-documents, quotes with a backslash, and separates tokens. What would need
   more knowledge of ClickHouse's lexer (``src/Parsers/Lexer.cpp``) is refused, never guessed.
"""

import re
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Kinds of tokens; each is the number of its group in ``_TOKEN``."""

    WORD = 1
    QUOTED = 2
    STRING = 3
    NUMBER = 4
    PARAMETER = 5
    SIGN = 6


class Token(NamedTuple):
    """A piece of a statement.

    Attributes:
        kind: what it is.
        text: as written, with its quotes.
        start: position of its first character.
        end: position after its last character.
        keyword: a bare word, which the formatter writes in capitals if it is a keyword; else empty.
        name: of what can be an identifier its name, with its escapes as they stand; else empty.
    """

    kind: int
    text: str
    start: int
    end: int
    keyword: str
    name: str


class Unreadable(Exception):
    """Text that the formatter does not write, at ``position``."""

    def __init__(self, position: int) -> None:
        super().__init__(f"at position {position + 1}")
        self.position = position


_TOKEN = re.compile(
    r" *(?:"
    r"([A-Za-z_][A-Za-z0-9_]*)"
    r"|(`[^`\\]*(?:\\.[^`\\]*)*`)"
    r"|('[^'\\]*(?:\\.[^'\\]*)*')"
    r"|([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)"
    r"|(\{[A-Za-z_][A-Za-z0-9_]*:[^{}]*\})"
    r"|(->|<=>|!=|<=|>=|\.:|[-()\[\],.+*/%=<>?:^])"
    r")",
    re.DOTALL,
)
_WORD, _QUOTED, _NUMBER, _SIGN = map(int, (Kind.WORD, Kind.QUOTED, Kind.NUMBER, Kind.SIGN))
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"0": "\0", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_COMMENTS = ("--", "/*", "*/")


def tokens(text: str) -> list[Token]:
    """The tokens of a canonical text.

    Raises:
        Unreadable: at the first place that is no token of such a text.
    """
    found: list[Token] = []
    last_end, last_kind = -1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastindex or 0
        start, end = match.span(kind)
        if match.start() != max(last_end, 0):
            break
        piece = match[kind]
        if start == last_end:
            # two of these that touch are one token to ClickHouse ('a''b', x'41', 1e5a)
            if kind <= _NUMBER and last_kind <= _NUMBER:
                raise Unreadable(start)
            if kind == _SIGN and text[start - 1 : start + 1] in _COMMENTS:
                raise Unreadable(start)
        word = piece if kind == _WORD else ""
        name = piece[1:-1] if kind == _QUOTED else word
        found.append(Token(kind, piece, start, end, word, name))
        last_end, last_kind = end, kind
    if text[max(last_end, 0) :].strip(" "):
        raise Unreadable(max(last_end, 0))
    return found


def unquoted(literal: str) -> str:
    """The text that a canonical string literal stands for."""
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), literal[1:-1])
