"""Splits our own SQL scripts into statements.

Invariants:
1. Pure.
2. It is for the scripts of this package only. SQL from analysts is parsed by ClickHouse
   (``analytics.door.canonical``).
"""

import re

_PIECE = re.compile(
    r"(?P<text>'(?:[^'\\]|\\.|'')*'|`[^`]*`|\"[^\"]*\")"
    r"|(?P<comment>--[^\n]*|/\*.*?\*/|\s+)"
    r"|(?P<end>;)"
    r"|(?P<other>(?!/\*)[^\s'`\";/-]+|-|/(?!\*))",
    re.DOTALL,
)


def statements(script: str) -> list[str]:
    """Splits a script at its semicolons; a comment in front of a statement stays with it.

    Raises:
        ValueError: a quote or comment is not closed.
    """
    result: list[str] = []
    start = at = 0
    pending = False
    while at < len(script):
        found = _PIECE.match(script, at)
        if found is None:
            raise ValueError(f"not closed: {script[at : at + 40]!r}")
        if found.lastgroup == "end":
            if pending:
                result.append(script[start:at].strip())
            start, pending = found.end(), False
        elif found.lastgroup != "comment":
            pending = True
        at = found.end()
    if pending:
        result.append(script[start:].strip())
    return result
