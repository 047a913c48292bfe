"""The engine's errors, in ClickHouse's words.

Invariants:
1. Pure.
2. Texts are bounded, and leave out the query by which this process asked the engine.
"""

import re

ERROR_CHARS_MAX = 4096
"""Longest text of an error; the engine puts whole queries into its own."""
_ERROR = re.compile(r"Code: (\d+)\. (.*?)(?:\s*\((?P<name>[A-Z][A-Z0-9_]+)\))?\s*$", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^)]*\)")
_JUDGING = ": In scope SELECT formatQuerySingleLine("


class QueryError(Exception):
    """An error of the engine, as ClickHouse words it.

    Attributes:
        code: ClickHouse's number.
        name: ClickHouse's name, such as ``UNKNOWN_TABLE``.
        text: the message without number, name and version.
    """

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(f"{name} ({code}): {text}")
        self.code = code
        self.name = name
        self.text = text


class Unsupported(QueryError):
    """Something of ClickHouse's HTTP interface that is not spoken here."""

    def __init__(self, text: str) -> None:
        super().__init__(48, "NOT_IMPLEMENTED", text)


def query_error(error: Exception) -> QueryError:
    """The engine's words for an error, taken apart."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):  # the engine cut its text within a character
        text = error.object.decode("utf-8", "replace")
    start = text.find("Code: ")
    found = _ERROR.match(text[start:]) if start >= 0 else None
    if found is None:
        return QueryError(1002, "UNKNOWN_EXCEPTION", text or type(error).__name__)
    words = _VERSION.sub("", found[2]).strip()
    # the engine repeats itself when a setting of a SETTINGS clause is refused
    words = re.sub(r"^(?:DB::Exception: )?(?:Code: \d+\. )?", "", words)
    words = words.partition(_JUDGING)[0][:ERROR_CHARS_MAX]
    return QueryError(int(found[1]), found["name"] or "UNKNOWN_EXCEPTION", words)
