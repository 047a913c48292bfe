"""Tokens of the text that ClickHouse's own formatter gives for a statement.

Laws of this file:
1. Pure, and linear in the length of the text.
2. It reads the canonical text only, one line made by ``formatQuerySingleLine``: that has no
   comments and no here-documents, quotes with a backslash, and separates tokens. What would need
   more knowledge of ClickHouse's lexer (``src/Parsers/Lexer.cpp``) is refused, never guessed.
"""

import re
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """Kinds of tokens."""

    WORD = 1
    QUOTED = 2
    STRING = 3
    NUMBER = 4
    PARAMETER = 5
    SIGN = 6


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement.

    Attributes:
        kind: what it is.
        text: as written, with its quotes.
        start: position of its first character.
        end: position after its last character.
    """

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The text of a bare word, which the formatter writes in capitals if it is a keyword."""
        return self.text if self.kind is Kind.WORD else ""

    @property
    def name(self) -> str:
        """Of an identifier its name, with its escapes as they stand; empty otherwise."""
        if self.kind is Kind.QUOTED:
            return self.text[1:-1]
        return self.keyword


class Unreadable(Exception):
    """Text that the formatter does not write, at ``position``."""

    def __init__(self, position: int) -> None:
        super().__init__(f"at position {position + 1}")
        self.position = position


_TOKEN = re.compile(
    r" *(?:"
    r"(?P<WORD>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<QUOTED>`[^`\\]*(?:\\.[^`\\]*)*`)"
    r"|(?P<STRING>'[^'\\]*(?:\\.[^'\\]*)*')"
    r"|(?P<NUMBER>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<PARAMETER>\{[A-Za-z_][A-Za-z0-9_]*:[^{}]*\})"
    r"|(?P<SIGN>->|<=>|!=|<=|>=|\.:|[-()\[\],.+*/%=<>?:^])"
    r")",
    re.DOTALL,
)
# Two of these that touch are one token to ClickHouse ('a''b', x'41', 1e5a) or a comment.
_GLUED = {Kind.WORD, Kind.QUOTED, Kind.STRING, Kind.NUMBER}
_COMMENTS = ("--", "/*", "*/")


def tokens(text: str) -> list[Token]:
    """The tokens of a canonical text.

    Raises:
        Unreadable: at the first place that is no token of such a text.
    """
    found: list[Token] = []
    at, end = 0, len(text.rstrip(" "))
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Unreadable(at)
        kind, start, at = Kind[match.lastgroup], match.start(match.lastgroup), match.end()
        if found and found[-1].end == start:
            if kind in _GLUED and found[-1].kind in _GLUED:
                raise Unreadable(start)
            if text[start - 1 : start + 1] in _COMMENTS:
                raise Unreadable(start)
        found.append(Token(kind, match[match.lastgroup], start, at))
    return found
