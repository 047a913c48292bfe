"""Our own scripts of SQL, cut into statements.

Invariants:
1. Pure: text in, statements out.
2. It reads what this package ships and nothing from outside: quotes, names and comments as our
   migrations write them. What analysts send is parsed by ClickHouse (``analytics.door.canonical``).
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
    """A script cut at its semicolons; the comment in front of a statement stays with it.

    Raises:
        ValueError: a quote or comment that never ends.
    """
    result: list[str] = []
    start = at = 0
    pending = False
    while at < len(script):
        found = _PIECE.match(script, at)
        if found is None:
            raise ValueError(f"never ends: {script[at : at + 40]!r}")
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
