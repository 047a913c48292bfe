"""Just enough of ClickHouse's SQL to cut our own migrations into statements.

Laws of this file:
1. Pure: text in, tokens out; nothing here runs a query.
2. The lexer knows strings, quoted names, comments and here-documents as ClickHouse's own lexer
   does, so that nothing can hide in them: what it is unsure about is an ``ERROR`` token, and
   callers refuse it.
3. It judges nothing, and sees nothing from outside: ``analytics.door.judge`` does.

Source: ClickHouse ``src/Parsers/Lexer.cpp`` (kinds of tokens) and the syntax page of its
documentation (comments: ``--``, ``#!``, ``# ``, ``/* */``; here-documents ``$tag$ … $tag$``).
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kinds of tokens. Comments and white space give none."""

    WORD = "word"
    QUOTED_NAME = "quoted_name"
    STRING = "string"
    NUMBER = "number"
    SEMICOLON = "semicolon"
    OPEN = "open"
    CLOSE = "close"
    OTHER = "other"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL.

    Attributes:
        kind: what it is.
        text: as written; of a quoted name the name itself.
        start: position of its first character.
        end: position after its last character.
    """

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The text in lower case, for a word; empty otherwise."""
        return self.text.lower() if self.kind is Kind.WORD else ""


_QUOTED = {"'": Kind.STRING, '"': Kind.QUOTED_NAME, "`": Kind.QUOTED_NAME}
_SKIP = re.compile(r"(?:\s|--[^\n]*|#[ !][^\n]*|/\*.*?\*/)+", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_NUMBER = re.compile(r"(?:0[xX][0-9a-fA-F.pP+]+|0[bB][01]+|\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?)")
_HEREDOC = re.compile(r"\$\w*\$")


def _end_of_quoted(sql: str, start: int) -> int | None:
    """Position after the closing quote; a doubled quote or a backslash continues the text."""
    quote = sql[start]
    at = start + 1
    while at < len(sql):
        if sql[at] == "\\":
            at += 2
        elif sql[at] == quote:
            if sql.startswith(quote, at + 1):
                at += 2
            else:
                return at + 1
        else:
            at += 1
    return None


def _quoted(sql: str, at: int) -> Token:
    end = _end_of_quoted(sql, at)
    if end is None:
        return Token(Kind.ERROR, sql[at:], at, len(sql))
    if _QUOTED[sql[at]] is Kind.STRING:
        return Token(Kind.STRING, sql[at:end], at, end)
    name = sql[at + 1 : end - 1]
    # an escape in a name may spell any other name, and nobody needs one
    return Token(Kind.ERROR if "\\" in name else Kind.QUOTED_NAME, name, at, end)


def _next(sql: str, at: int) -> Token:
    char = sql[at]
    if char in _QUOTED:
        return _quoted(sql, at)
    if sql.startswith("/*", at):  # never closed: _SKIP would have taken it otherwise
        return Token(Kind.ERROR, sql[at:], at, len(sql))
    heredoc = _HEREDOC.match(sql, at)
    if heredoc:
        end = sql.find(heredoc.group(), heredoc.end())
        if end >= 0:
            end += len(heredoc.group())
            return Token(Kind.STRING, sql[at:end], at, end)
    for kind, pattern in ((Kind.WORD, _WORD), (Kind.NUMBER, _NUMBER)):
        found = pattern.match(sql, at)
        if found:
            return Token(kind, found.group(), at, found.end())
    single = {";": Kind.SEMICOLON, "(": Kind.OPEN, ")": Kind.CLOSE}.get(char, Kind.OTHER)
    if char == "\0" or not char.isascii():
        # ClickHouse takes some of these for quotes, dashes or white space: nothing to guess about
        single = Kind.ERROR
    return Token(single, char, at, at + 1)


def tokens(sql: str) -> list[Token]:
    """The tokens of a text, comments left out."""
    found: list[Token] = []
    at = 0
    while at < len(sql):
        skipped = _SKIP.match(sql, at)
        if skipped:
            at = skipped.end()
            continue
        token = _next(sql, at)
        found.append(token)
        at = token.end
    return found


def statements(script: str) -> list[str]:
    """A script cut at its semicolons; the comment in front of a statement stays with it.

    Raises:
        ValueError: a quote or comment that never ends.
    """
    result: list[str] = []
    start = 0
    pending = False
    for token in tokens(script):
        if token.kind is Kind.ERROR:
            raise ValueError(f"never ends: {token.text[:40]!r}")
        if token.kind is Kind.SEMICOLON:
            if pending:
                result.append(script[start : token.start].strip())
            start, pending = token.end, False
        else:
            pending = True
    if pending:
        result.append(script[start:].strip())
    return result
