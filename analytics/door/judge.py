"""Judges whether a statement may run at the analysts' door.

Invariants:
1. Pure: the canonical text of a statement in (``analytics.door.canonical``), a ``Statement`` or
   ``Denied`` out. The caller's text is never looked at, and never run.
2. What is allowed is listed by name (``analytics.door.lists``): kinds of statements, keywords,
   functions, table functions, types, formats, settings, tables of ``system``. All else is refused.
3. A name is judged wherever it stands. ClickHouse also calls a function by its bare name
   (``arrayMap(file, …)``), so a function that is not allowed is refused without brackets too.
4. What would give a wrong figure is refused too (``analytics.door.misreadings``).
5. The engine's rights, its read-only mode and the operating system are further lines of defence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from analytics.door import lists
from analytics.door.calls import check_calls, closing_places
from analytics.door.constants import check_constants
from analytics.door.denied import (
    ACCESS_DENIED,
    LISTS,
    READONLY,
    SYNTAX_ERROR,
    UNKNOWN_FORMAT,
    Denied,
    unlisted,
)
from analytics.door.expansion import check_expansion
from analytics.door.growth import check_growth
from analytics.door.lexer import Kind, Token, Unreadable, tokens, unquoted
from analytics.door.misreadings import check_meaning
from analytics.door.surroundings import Surroundings
from analytics.door.table_names import check_places, check_show
from analytics.door.typenames import check_parameter

# Words by which the structure of a statement is read here. ClickHouse allows them as names too, and
# then writes them without quotes; as names they are refused, so that each stands for itself.
_STRUCTURE = frozenset(
    {
        "AND", "ARRAY", "AS", "BY", "EXCEPT", "FILL", "FORMAT", "FROM", "GROUP", "HAVING", "IN",
        "INTERSECT", "JOIN", "LIMIT", "ON", "ORDER", "PREWHERE", "QUALIFY", "SELECT", "SETTINGS",
        "TABLE", "UNION", "USING", "WHERE", "WINDOW", "WITH",
    }
)  # fmt: skip
_WRITES_ELSEWHERE = ("SHOW", "EXPLAIN", "EXISTS", "DESCRIBE")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that may run.

    Attributes:
        sql: its canonical text, without ``FORMAT`` and without ``SETTINGS`` at its end.
        format: that it names for its result, in ClickHouse's spelling; ``None``: none.
        settings: that it gives at its end, checked one by one.
        selects: whether ``DESCRIBE (sql)`` has a meaning.
    """

    sql: str
    format: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    selects: bool = True


def judge(canonical: str, around: Surroundings) -> Statement:
    """Judges one statement.

    Args:
        canonical: as ``formatQuerySingleLine`` writes it.
        around: the database that unqualified names are in, and what names mean to the engine.

    Raises:
        Denied: with ClickHouse's code for such a refusal, and what to do.
    """
    try:
        found = tokens(canonical)
    except Unreadable as error:
        raise Denied(
            ACCESS_DENIED, f"This statement can't be judged ({error} of {canonical[:200]!r})"
        ) from error
    if not found:
        raise Denied(SYNTAX_ERROR, "Syntax error: Empty query")
    length = _kind_length(found)
    _check_words(found, length, around)
    body, fmt, settings = _without_tail(found, length)
    first = found[0].text
    if first in ("SHOW", "EXISTS"):
        check_show(body, length, around)
    elif first == "EXPLAIN":
        _check_explained(body, length)
    for parameter in {token.text for token in body if token.kind == Kind.PARAMETER}:
        check_parameter(parameter)
    closing = closing_places(body)
    check_calls(body, closing, around)
    check_expansion(body, closing)
    check_growth(body, closing)
    check_constants(body, closing)
    check_places(body, around, shows=first == "SHOW")
    check_meaning(body, settings)
    selects = first in ("SELECT", "WITH", "(")
    return Statement(canonical[: body[-1].end], fmt, settings, selects)


def _kind_length(found: list[Token]) -> int:
    """Place behind the words of the statement's kind.

    Raises:
        Denied: a kind that is not on the list.
    """
    opened = 0
    while opened < len(found) and found[opened].text == "(":
        opened += 1
    words: list[str] = []
    longest = 0
    for token in found[opened : opened + 4]:
        words.append(token.keyword)
        if tuple(words) in lists.STATEMENTS:
            longest = len(words)
    first = words[0] if words else ""
    if longest and (not opened or first in ("SELECT", "WITH")):
        return opened + longest
    if first in _WRITES_ELSEWHERE:
        raise unlisted("Statement", " ".join(filter(None, words[:3])), "statements")
    raise Denied(READONLY, "Cannot execute query in readonly mode.")


def _check_words(found: list[Token], start: int, around: Surroundings) -> None:
    """Keywords that are not on the list, and words of the structure where a name stands.

    Args:
        found: the statement.
        start: place behind the words of its kind.
        around: where it will run.
    """
    for at in range(start, len(found)):
        word = found[at].keyword
        if not word or not word.isupper():
            continue
        before = found[at - 1].text
        after = found[at + 1].text if at + 1 < len(found) else ""
        if word in around.keywords and word not in lists.KEYWORDS:
            raise Denied(
                ACCESS_DENIED,
                f"{word} is not allowed at this door (as a name, write it in lower case);"
                f" {LISTS}/keywords.txt lists the words that are",
            )
        if word in _STRUCTURE and (
            before in (".", "AS")
            or after in (".", "->")
            or (word == "AS" and after in (",", ")", ""))
        ):
            raise Denied(ACCESS_DENIED, f"{word} can't be a name here: write it in lower case")


def _without_tail(found: list[Token], start: int) -> tuple[list[Token], str | None, dict[str, str]]:
    """The statement without its ``FORMAT`` and ``SETTINGS``, the format, and the settings.

    Raises:
        Denied: one of the two inside the statement, or one that is not on its list.
    """
    depth = 0
    for at, token in enumerate(found):
        depth += (token.text in "([") - (token.text in ")]") if token.kind == Kind.SIGN else 0
        if at < start or token.keyword not in ("FORMAT", "SETTINGS"):
            continue
        if at + 1 < len(found) and found[at + 1].text == "(" and token.text == "FORMAT":
            continue  # the function
        if depth:
            raise Denied(
                ACCESS_DENIED,
                f"{token.text} is allowed at the end of a statement only"
                " (as a name, write it in lower case)",
            )
        return found[:at], *_tail(found, at)
    return found, None, {}


def _tail(found: list[Token], at: int) -> tuple[str | None, dict[str, str]]:
    fmt: str | None = None
    settings: dict[str, str] = {}
    while at < len(found):
        clause = found[at].keyword
        if clause == "FORMAT" and fmt is None and at + 1 < len(found):
            fmt = listed_format(found[at + 1].name)
            at += 2
        elif clause == "SETTINGS" and not settings:
            at = _read_settings(found, at + 1, settings)
        else:
            raise Denied(
                ACCESS_DENIED, f"{found[at].text[:80]} is not allowed behind FORMAT or SETTINGS"
            )
    return fmt, settings


def _read_settings(found: list[Token], at: int, settings: dict[str, str]) -> int:
    """Reads ``name = value, …`` and gives the place behind it."""
    while True:
        piece = [token.text for token in found[at : at + 3]]
        name, sign, value = (*piece, "", "", "")[:3]
        if sign != "=" or not found[at].name:
            raise Denied(ACCESS_DENIED, f"SETTINGS {name[:80]}: write each as name = value")
        kind = found[at + 2].kind if at + 2 < len(found) else Kind.SIGN
        if kind not in (Kind.STRING, Kind.NUMBER, Kind.WORD):
            raise Denied(ACCESS_DENIED, f"SETTINGS {name[:80]}: the value is a number or a text")
        text = unquoted(value) if kind == Kind.STRING else value
        check_setting(name, text)
        settings[name] = text
        at += 3
        if at >= len(found) or found[at].text != ",":
            return at
        at += 1


def check_setting(name: str, value: str) -> None:
    """One setting, of the address or of a statement.

    Raises:
        Denied: not on the list, or a value that is not allowed.
    """
    check = lists.SETTINGS.get(name)
    if check is None:
        raise Denied(
            READONLY,
            f"Cannot modify '{name[:80]}' setting in readonly mode."
            f" {LISTS}/settings.txt lists what may be set at this door",
        )
    if not check(value):
        raise Denied(
            READONLY,
            f"Cannot modify '{name}' setting in readonly mode to {value[:80]!r}:"
            f" allowed are {lists.SETTING_RULES[name]}",
        )


def listed_format(name: str) -> str:
    """A format in ClickHouse's spelling.

    Raises:
        Denied: not on the list.
    """
    found = lists.FORMATS.get(name.lower())
    if found is None:
        raise Denied(
            UNKNOWN_FORMAT,
            f"Unknown format {name[:80]}; {LISTS}/formats.txt lists those of this door",
        )
    return found


def _check_explained(body: list[Token], at: int) -> None:
    """``EXPLAIN`` of a query, with settings of its own that are numbers."""
    while at + 2 < len(body) and body[at + 1].text == "=":
        if body[at].name not in lists.EXPLAIN_SETTINGS or body[at + 2].kind != Kind.NUMBER:
            raise Denied(ACCESS_DENIED, f"EXPLAIN {body[at].text[:80]} is not allowed at this door")
        at += 3
        if at < len(body) and body[at].text == ",":
            at += 1
    while at < len(body) and body[at].text == "(":
        at += 1
    if at >= len(body) or body[at].keyword not in ("SELECT", "WITH"):
        raise Denied(ACCESS_DENIED, "EXPLAIN is allowed for a SELECT only")
