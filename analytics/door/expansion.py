"""How many tables a statement comes to, once ClickHouse has put its named subqueries in.

Each name of ``WITH name AS (SELECT …)`` is replaced by its subquery wherever it stands, so twenty
lines that each name the one before twice come to a million tables. Planning such a query obeys no
limit on time and can't be killed (tried on 26.9: 4,096 tables end in the watchdog; 100 take 2 s).
"""

from analytics.door.denied import ACCESS_DENIED, Denied
from analytics.door.lexer import Token
from analytics.door.table_names import table_places

TABLES_MAX = 100


def check_expansion(found: list[Token], closing: dict[int, int]) -> None:
    """Counts the tables of a statement.

    Args:
        found: the statement.
        closing: place of each closing bracket, by the place of its opening one.

    Raises:
        Denied: more than ``TABLES_MAX``.
    """
    tables = set(table_places(found))
    counts: dict[str, int] = {}  # of a named subquery; the largest, where a name stands for several
    open_names: list[tuple[int, str, int]] = []  # place of its end, its name, the count outside it
    count = 0
    for at, token in enumerate(found):
        while open_names and at >= open_names[-1][0]:
            _, name, outside = open_names.pop()
            counts[name] = max(count, counts.get(name, 1))
            count = outside
        opening = _subquery(found, at, closing) if token.name else 0
        if opening:
            open_names.append((closing[opening], token.name, count))
            count = 0
        elif at in tables and token.name:
            count += counts.get(token.name, 1)
            if count > TABLES_MAX:
                raise Denied(
                    ACCESS_DENIED,
                    f"More than {TABLES_MAX} tables, counting a subquery of WITH once for each"
                    " time that it is named",
                )


def _subquery(found: list[Token], at: int, closing: dict[int, int]) -> int:
    """Place of the bracket of ``name AS (…`` or ``name(columns) AS (…``; 0: it is none."""
    if at + 1 < len(found) and found[at + 1].text == "(":
        at = closing[at + 1]
    if [token.text for token in found[at + 1 : at + 3]] != ["AS", "("]:
        return 0
    return at + 2
