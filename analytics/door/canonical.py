"""A statement in ClickHouse's own words: what is judged, and what is run.

Invariants:
1. ClickHouse is the parser. Its formatter leaves out comments, resolves here-documents, writes
   numbers, quotes and names in one way, and takes one statement only.
2. The text is run by the same engine within the same limits of its parser (``PARSER``), so that it
   can't be read in another way the second time: a text that the formatter would write differently
   again is refused.
3. It is bounded before the engine sees it: in bytes, and in here-documents, since ClickHouse's
   lexer looks for the end of each one through the whole rest of the text.

Source: ClickHouse ``src/Functions/formatQuery.cpp``, ``src/Parsers/Lexer.cpp``.
"""

import re
from collections.abc import Callable

from analytics.door.denied import ACCESS_DENIED, SYNTAX_ERROR, Denied

HEREDOCS_MAX = 64
"""Most places in a query that may begin a here-document (``$tag$``)."""
CANONICAL_BYTES_PER_BYTE_MAX = 4
"""How much longer than a query its canonical text may be."""
PARSER = {
    "max_parser_depth": "1000",
    "max_parser_backtracks": "100000",
    "max_ast_depth": "1000",
    "max_ast_elements": "50000",
}
"""Limits of the parser besides ``max_query_size``, for judging and for running alike."""
NOT_TEXT = "A query is a text in UTF-8: for other bytes write unhex('…')"
_HEREDOC = re.compile(rb"\$(?=\w*\$)")
_ASKED = "SELECT formatQuerySingleLine(unhex({text:String}))"

Ask = Callable[[str, dict[str, str]], bytes]
"""Runs a query with parameters on the engine and gives the first value of its result."""


def canonical(text: str, ask: Ask, bytes_max: int) -> str:
    """The statement as ClickHouse's formatter writes it.

    Args:
        text: of the caller.
        ask: the engine, set up with ``PARSER`` and a ``max_query_size`` of
            ``CANONICAL_BYTES_PER_BYTE_MAX * bytes_max``.
        bytes_max: longest text.

    Raises:
        Denied: not one statement, or one that is too large to be judged.
        Exception: the engine's own for a text that it can't parse.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > bytes_max:
        raise Denied(SYNTAX_ERROR, f"Max query size exceeded: {bytes_max} bytes")
    if b"\0" in raw:
        raise Denied(SYNTAX_ERROR, "Syntax error: a query holds no character 0")
    if not raw.strip():
        raise Denied(SYNTAX_ERROR, "Syntax error: Empty query")
    if len(_HEREDOC.findall(raw)) > HEREDOCS_MAX:
        raise Denied(SYNTAX_ERROR, f"More than {HEREDOCS_MAX} here-documents: write '…' for texts")
    once = ask(_ASKED, {"text": raw.hex()})
    if len(once) > CANONICAL_BYTES_PER_BYTE_MAX * bytes_max:
        raise Denied(SYNTAX_ERROR, f"Max query size exceeded: {bytes_max} bytes")
    if not is_canonical(once, ask):
        raise Denied(ACCESS_DENIED, "ClickHouse reads this statement in two ways: write it anew")
    return text_of(once)


def text_of(content: bytes | bytearray) -> str:
    """Bytes of a caller's as text: never another text than they are.

    Raises:
        Denied: they are no UTF-8. ClickHouse takes any bytes; the parser's text is judged here as
            text, and one with replaced characters would be another query, with another result.
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Denied(SYNTAX_ERROR, NOT_TEXT) from None


def is_canonical(text: bytes, ask: Ask) -> bool:
    """Whether the formatter would write a statement exactly so."""
    return ask(_ASKED, {"text": text.hex()}) == text
