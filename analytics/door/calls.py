"""Which functions a statement calls, by name.

Invariants:
1. Pure; over the tokens of a canonical text.
2. A name in front of a bracket is a call, unless it is one of the formatter's own keywords, a view
   of ours or a table function where a table stands (``analytics.door.table_names``), or the name
   of a subquery with the names of its columns.
3. A name without a bracket is a function too, where ClickHouse looks for one.
"""

from itertools import pairwise

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied, unlisted
from analytics.door.lexer import Kind, Token, unquoted
from analytics.door.surroundings import Surroundings
from analytics.door.table_names import table_places
from analytics.door.typenames import check_subcolumn, check_type

OPERATORS = frozenset(
    {
        "ALL", "AND", "ANY", "APPLY", "AS", "AST", "BETWEEN", "BY", "COLUMNS", "CUBE", "DISTINCT",
        "DIV", "ELSE", "EXCEPT", "FROM", "HAVING", "ILIKE", "IN", "INTERPOLATE", "INTERSECT", "IS",
        "JOIN", "LIKE", "LIMIT", "MOD", "NOT", "OFFSET", "ON", "OR", "OVER", "PIPELINE", "PLAN",
        "PREWHERE", "QUALIFY", "REGEXP", "REPLACE", "ROLLUP", "SELECT", "SETS", "STEP", "SYNTAX",
        "TABLE", "THEN", "TO", "TREE", "UNION", "USING", "WHEN", "WHERE", "WITH", "EXPLAIN",
        "ESTIMATE", "RECURSIVE",
    }
)  # fmt: skip
"""Keywords that the formatter writes in front of a bracket.

Those that are functions as well are allowed functions (tested).
"""
_TYPED = {
    "cast": 1,
    "accuratecast": 1,
    "accuratecastornull": 1,
    "accuratecastordefault": 1,
    "dynamicelement": 1,
    "variantelement": 1,
    "jsonextract": -1,
    "jsonextractcaseinsensitive": -1,
    "jsonextractkeysandvalues": -1,
    "jsonextractkeysandvaluescaseinsensitive": -1,
}
"""Functions that take the name of a type as text, and in which argument."""
_SUBCOLUMNS = ("getsubcolumn", "tupleelement")
"""Functions whose second argument is a subcolumn's name, of ``Dynamic`` and ``JSON`` a type."""
_ZONES_OR_TIMES = ("timezone", "servertimezone", "todate", "makedate", "now")


def check_calls(found: list[Token], closing: dict[int, int], around: Surroundings) -> None:
    """Every function by name.

    Args:
        found: the statement.
        closing: from ``closing_places``.
        around: where it will run.

    Raises:
        Denied: one that is not on its list.
    """
    tables = set(table_places(found))
    _check_lambdas(found)
    for at, token in enumerate(found):
        if not token.name:
            continue
        if token.kind == Kind.QUOTED:
            check_subcolumn(unquoted(token.text))
        before = found[at - 1].text if at else ""
        opens = at + 1 < len(found) and found[at + 1].text == "("
        if token.keyword in OPERATORS:
            continue
        if before == "APPLY":
            _check_applied(token)
        elif at in tables:
            if opens:
                _check_table_function(token, around)
                if token.name.lower() == "values" and found[at + 2].kind == Kind.STRING:
                    check_type(unquoted(found[at + 2].text))
        elif opens:
            _check_call(found, at, closing)
        elif before not in (".", "AS") and not (at + 1 < len(found) and found[at + 1].text == "."):
            _check_bare(token, around)


def closing_places(found: list[Token]) -> dict[int, int]:
    """Place of each closing bracket, by the place of its opening one.

    Raises:
        Denied: they don't match.
    """
    open_at: list[int] = []
    pairs: dict[int, int] = {}
    for at, token in enumerate(found):
        if token.kind != Kind.SIGN:
            continue
        if token.text in "([":
            open_at.append(at)
        elif token.text in ")]":
            if not open_at or found[open_at[-1]].text + token.text not in ("()", "[]"):
                raise Denied(ACCESS_DENIED, "Brackets of this statement don't match")
            pairs[open_at.pop()] = at
    if open_at:
        raise Denied(ACCESS_DENIED, "Brackets of this statement don't match")
    return pairs


def _check_call(found: list[Token], at: int, closing: dict[int, int]) -> None:
    name = found[at].name
    if not lists.is_function(name):
        if _names_columns(found, closing[at + 1]):
            return
        raise unlisted("Function", name, "functions")
    typed, zones = _TYPED.get(name.lower()), lists.ZONES.get(name.lower(), ())
    if typed is None and not zones and name.lower() not in _SUBCOLUMNS:
        return
    arguments = _arguments(found, at + 1, closing)
    if any(_spreads(found, *each, closing) for each in arguments):
        raise Denied(ACCESS_DENIED, f"{name}: give its arguments one by one")
    if name.lower() in _SUBCOLUMNS:
        _check_subcolumns_name(name, found, arguments)
    if typed is not None:
        start, end = arguments[typed] if len(arguments) >= 2 else (at, at)
        if end - start != 1 or found[start].kind != Kind.STRING:
            raise Denied(ACCESS_DENIED, f"{name}: the type is to be given as a text")
        check_type(unquoted(found[start].text))
    for place in zones:
        if place < len(arguments) and not _is_zone(found, *arguments[place], closing):
            raise Denied(
                ACCESS_DENIED, f"{name}: give the time zone as a text, such as 'Europe/Vienna'"
            )


def _check_subcolumns_name(name: str, found: list[Token], arguments: list[tuple[int, int]]) -> None:
    start, end = arguments[1] if len(arguments) >= 2 else (0, 0)
    if end - start != 1 or found[start].kind not in (Kind.STRING, Kind.NUMBER):
        raise Denied(ACCESS_DENIED, f"{name}: the element's name is to be given as a text")
    if found[start].kind == Kind.STRING:
        check_subcolumn(unquoted(found[start].text))


def _check_lambdas(found: list[Token]) -> None:
    """Refuses lambdas that could move a value to an argument that is judged differently.

    A lambda with the name of a function that returns a time zone would be called instead of it.
    """
    if not any(token.text == "->" for token in found):
        return
    if any(_spread_by_lambda(found, at) for at, token in enumerate(found) if token.text == "*"):
        raise Denied(ACCESS_DENIED, "A lambda gives one value: not *")
    for token, named in pairwise(found):
        if token.keyword == "AS" and named.name.lower().startswith(_ZONES_OR_TIMES):
            raise Denied(ACCESS_DENIED, f"Give {named.name[:80]} another name beside a lambda")


def _spread_by_lambda(found: list[Token], at: int) -> bool:
    """Whether a ``*`` is all that a lambda gives: ``x -> t.*``."""
    while found[at - 1].text == "." and found[at - 2].name:
        at -= 2
    while found[at - 1].text == "(":
        at -= 1
    return found[at - 1].text == "->"


def _spreads(found: list[Token], start: int, end: int, closing: dict[int, int]) -> bool:
    """Whether an argument stands for several: ``*``, ``t.*``, ``COLUMNS(…)``.

    They would shift the arguments after them to positions that are judged differently. ``untuple``
    does the same, even through an alias, so it is not on the list.
    """
    at = start
    while at < end:
        if found[at].keyword == "COLUMNS":
            return True
        if found[at].text == "*" and (at == start or found[at - 1].text in (".", "->")):
            return True
        at = closing.get(at, at) + 1
    return False


def _is_zone(found: list[Token], start: int, end: int, closing: dict[int, int]) -> bool:
    """Whether an argument is a time zone's name, a call that returns a zone or a time, or empty."""
    if start == end:
        return True
    first = found[start]
    if end - start == 1:
        text = unquoted(first.text) if first.kind == Kind.STRING else ""
        return first.kind == Kind.NUMBER or lists.is_zone(text)
    calls = closing.get(start + 1) == end - 1 and found[start + 1].text == "("
    return calls and first.name.lower().startswith(_ZONES_OR_TIMES)


def _arguments(found: list[Token], opening: int, closing: dict[int, int]) -> list[tuple[int, int]]:
    """Start and end of each argument behind an opening bracket; what is nested is skipped."""
    arguments: list[tuple[int, int]] = []
    at = start = opening + 1
    while at < closing[opening]:
        if found[at].text == ",":
            arguments.append((start, at))
            start = at + 1
        at = closing.get(at, at) + 1
    return [*arguments, (start, at)]


def _names_columns(found: list[Token], close: int) -> bool:
    """Whether ``name(…)`` up to a bracket is a subquery's name: ``WITH t(a, b) AS (SELECT …``."""
    following = [token.text for token in found[close + 1 : close + 4]]
    return following[:2] == ["AS", "("] and following[2:] in (["SELECT"], ["WITH"], ["("])


def _check_applied(token: Token) -> None:
    if not lists.is_function(token.name):
        raise unlisted("Function", token.name, "functions")


def _check_bare(token: Token, around: Surroundings) -> None:
    lower = token.name.lower()
    if (lower in around.functions and not lists.is_function(lower)) or lower in _TYPED:
        raise Denied(
            ACCESS_DENIED,
            f"{token.name[:80]} is the name of a function that is not allowed at this door; where"
            " it is a column, put its table's name and a dot in front, or give it another name",
        )


def _check_table_function(token: Token, around: Surroundings) -> None:
    database, dot, name = token.name.rpartition(".")
    if name in lists.VIEWS and (not dot or database == around.database):
        return
    if token.name.lower() not in lists.TABLE_FUNCTIONS:
        raise unlisted("Table function", token.name, "table_functions")
