"""Which tables a statement reads, by name.

Invariants:
1. Pure; over the tokens of a canonical text.
2. Three databases are there: the configured one, ``system`` and ``information_schema``, and of the
   latter two the tables on the lists. chDB's ``default`` makes a table of any file's name.
3. A qualified name is judged twice: wherever it stands, if its first part is a database of the
   engine; and where a table stands, whatever its first part is.
"""

import re
from collections.abc import Iterator

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied, unlisted
from analytics.door.lexer import Kind, Token
from analytics.door.surroundings import Surroundings

_PLAIN = re.compile(r"\w+")
# clauses that end the list of tables; OFFSET is missing since SAMPLE has one
_ENDS = frozenset(
    {
        "EXCEPT", "FORMAT", "GROUP", "HAVING", "INTERSECT", "LIMIT", "ORDER", "PREWHERE", "QUALIFY",
        "SELECT", "SETTINGS", "UNION", "WHERE", "WINDOW",
    }
)  # fmt: skip
_NAMES_DATABASE = ("TABLES", "DATABASES")


def table_places(found: list[Token]) -> Iterator[int]:
    """Places in a statement where a table, a table function or a subquery is named."""
    lists_tables = [False]  # for each open bracket, whether a comma parts tables
    for at, token in enumerate(found):
        before = found[at - 1].text if at else ""
        if token.kind == Kind.SIGN:
            if token.text in "([":
                lists_tables.append(False)
            elif token.text in ")]" and len(lists_tables) > 1:
                lists_tables.pop()
            elif token.text == "," and lists_tables[-1]:
                yield at + 1
            continue
        word = token.keyword
        if word == "JOIN":
            lists_tables[-1] = before != "ARRAY"
        elif word == "FROM" and before != "FILL":
            lists_tables[-1] = True
        elif word in _ENDS:
            lists_tables[-1] = False
        if (word in ("FROM", "JOIN") and lists_tables[-1]) or (
            word in ("TABLE", "VIEW") and at <= 2
        ):
            yield at + 1
        elif word == "IN":
            yield _inside(found, at + 1)


def _inside(found: list[Token], at: int) -> int:
    """The place of what stands behind ``IN``: inside the brackets, where they hold one name."""
    end = at + 1
    if at < len(found) and found[at].text == "(":
        while end < len(found) and (found[end].name or found[end].text == "."):
            end += 1
        if end > at + 1 and end < len(found) and found[end].text == ")":
            return at + 1
    return at


def check_places(found: list[Token], around: Surroundings, *, shows: bool) -> None:
    """Every table by name.

    Args:
        found: the statement.
        around: where it will run.
        shows: it is a ``SHOW``, whose ``FROM`` was judged by ``check_show``.

    Raises:
        Denied: a database or a table that may not be read here.
    """
    for at, token in enumerate(found):
        if token.name and (not at or found[at - 1].text != "."):
            parts = _parts(found, at)
            if len(parts) > 1 and _is_database(parts[0], around):
                _check_table(parts[0], parts[1], around)
    for at in () if shows and not _shows_create(found) else table_places(found):
        parts = _parts(found, at)
        opens = at + len(parts) * 2 - 1
        if not parts or (opens < len(found) and found[opens].text == "("):
            continue
        if len(parts) > 2 or not all(_PLAIN.fullmatch(part) for part in parts):
            raise Denied(ACCESS_DENIED, f"Table {'.'.join(parts)[:80]} does not exist at this door")
        if len(parts) == 2:
            _check_table(parts[0], parts[1], around)


def _parts(found: list[Token], at: int) -> list[str]:
    """The names that dots join, from a place on."""
    parts: list[str] = []
    while at < len(found) and found[at].name:
        parts.append(found[at].name)
        if at + 1 >= len(found) or found[at + 1].text != ".":
            break
        at += 2
    return parts


def _is_database(name: str, around: Surroundings) -> bool:
    return name in around.databases or name.lower() in ("default", "system", "information_schema")


def _check_table(database: str, table: str, around: Surroundings) -> None:
    if database == around.database:
        return
    if database == "system":
        if table not in lists.SYSTEM_TABLES:
            raise unlisted("Table", f"system.{table}", "system_tables")
    elif database in ("information_schema", "INFORMATION_SCHEMA"):
        if table.lower() not in lists.INFORMATION_SCHEMA:
            raise unlisted("Table", f"{database}.{table}", "information_schema")
    else:
        _check_database(database, around)


def _check_database(name: str, around: Surroundings) -> None:
    allowed = (around.database, "system", "information_schema", "INFORMATION_SCHEMA")
    if name not in allowed:
        raise Denied(
            ACCESS_DENIED,
            f"Database {name[:80]} is not served at this door: {', '.join(allowed[:3])} are",
        )


def _shows_create(found: list[Token]) -> bool:
    return found[1].text == "CREATE"


def check_show(found: list[Token], at: int, around: Surroundings) -> None:
    """``SHOW``, and ``EXISTS DATABASE``, which name databases where others name tables.

    Args:
        found: the statement.
        at: place behind the words of its kind.
        around: where it will run.

    Raises:
        Denied: a database or table that may not be seen here.
    """
    words = [token.text for token in found[:at]]
    named: list[str] = []
    while at + 1 < len(found) and found[at].keyword == "FROM":
        parts = _parts(found, at + 1)
        named.append(".".join(parts))
        if len(parts) != 1 or not _PLAIN.fullmatch(parts[0]):
            raise Denied(ACCESS_DENIED, f"SHOW … FROM {named[-1][:80]} is not allowed at this door")
        at += 2
    if words[-1] in _NAMES_DATABASE and named:
        _check_database(named[0], around)
    elif len(named) == 2:
        _check_table(named[1], named[0], around)
    if words[1:] == ["CREATE", "DATABASE"] or words == ["EXISTS", "DATABASE"]:
        _check_database(".".join(_parts(found, at)), around)
