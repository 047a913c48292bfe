"""The listener's lists compared with the installed engine: anything new is refused, and
reported."""

import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import chdb
import pytest
import yaml

from analytics.door import lists
from analytics.door.calls import OPERATORS
from tests.analytics.corpora import ENGINE

REFUSED: dict[str, list[str]] = {
    kind: names.split()
    for kind, names in yaml.safe_load(
        Path(__file__).with_name("refused.yaml").read_text("utf-8")
    ).items()
}
LISTED_ON = (26, 9)
"""Version of the engine that the lists were made on."""
REWRITTEN = {"exists", "grouping"}
"""Functions that ClickHouse's analyzer knows and ``system.functions`` does not."""
_query: Any = chdb.query  # its type hints are incomplete


def names(sql: str) -> list[str]:
    """The first column of a query on the installed engine."""
    return str(_query(sql, "TabSeparatedRaw")).rstrip("\n").split("\n")


def _among(allowed: Iterable[str]) -> Callable[[str], bool]:
    return lambda name: name in allowed


FUNCTIONS = "SELECT name FROM system.functions WHERE NOT is_aggregate"
KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "functions": (FUNCTIONS, lists.is_function),
    "aggregates": (FUNCTIONS.replace("NOT ", ""), lists.is_aggregate),
    "combinators": (
        "SELECT name FROM system.aggregate_function_combinators", _among(lists.COMBINATORS),
    ),
    "table functions": (
        "SELECT name FROM system.table_functions",
        lambda name: name.lower() in lists.TABLE_FUNCTIONS,
    ),
    "formats": (
        "SELECT name FROM system.formats WHERE is_output",
        lambda name: name.lower() in lists.FORMATS,
    ),
    "system tables": (
        "SELECT name FROM system.tables WHERE database = 'system'", _among(lists.SYSTEM_TABLES),
    ),
    "keywords": (
        "SELECT DISTINCT arrayJoin(splitByChar(' ', keyword)) FROM system.keywords",
        _among(lists.KEYWORDS),
    ),
    "types": (
        "SELECT name FROM system.data_type_families WHERE name NOT LIKE '% %'",
        lambda name: name.lower() in lists.TYPES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_the_engine_is_allowed_or_refused_on_purpose(kind: str) -> None:
    """A name that is on no list is printed; it is refused, so nothing fails."""
    sql, allowed = KINDS[kind]
    found = names(sql)
    undecided = [name for name in found if not allowed(name) and name not in REFUSED[kind]]
    print(f"{kind}, new in {'.'.join(map(str, ENGINE))} and refused: {undecided}")
    assert len(found) > 5, "the engine's own list is empty, so nothing was compared"
    assert not [name for name in REFUSED[kind] if allowed(name)], "both allowed and refused"
    if ENGINE == LISTED_ON:
        assert undecided == []


LISTED: dict[str, tuple[Iterable[str], str]] = {
    "functions": (lists.FUNCTIONS - REWRITTEN, FUNCTIONS),
    "aggregates": (lists.AGGREGATES, FUNCTIONS.replace("NOT ", "")),
    "combinators": (lists.COMBINATORS, KINDS["combinators"][0]),
    "table functions": (lists.TABLE_FUNCTIONS, KINDS["table functions"][0]),
    "formats": (lists.FORMATS, KINDS["formats"][0]),
    "system tables": (lists.SYSTEM_TABLES, KINDS["system tables"][0]),
    "keywords": (lists.KEYWORDS, KINDS["keywords"][0]),
    "types": (lists.TYPES, KINDS["types"][0]),
    "settings": (lists.SETTINGS, "SELECT name FROM system.settings"),
}


@pytest.mark.parametrize("kind", LISTED)
def test_what_is_listed_exists(kind: str) -> None:
    """A listed name that the engine lacks is printed; on the lists' own engine it is a mistake."""
    listed, sql = LISTED[kind]
    known = {name.lower() for name in names(sql)}
    missing = sorted(name for name in listed if name.lower() not in known)
    print(f"{kind}, listed and not in {'.'.join(map(str, ENGINE))}: {missing}")
    if ENGINE == LISTED_ON:
        assert missing == []


def test_lists_are_sorted_and_name_each_once() -> None:
    """So that two versions of a list can be compared."""
    folder = files("analytics.door") / "allowed"
    for file in folder.iterdir():
        lines = file.read_text("utf-8").removesuffix("\n").split("\n")
        assert lines == sorted(set(lines), key=lambda line: (line.lower(), line)), file.name


def test_no_two_names_differ_in_case_alone_with_one_allowed() -> None:
    """Names are compared in lower case; ClickHouse distinguishes most by case."""
    for kind in ("functions", "aggregates", "table functions", "formats", "types"):
        sql, allowed = KINDS[kind]
        by_lower: dict[str, set[bool]] = {}
        for name in names(sql):
            by_lower.setdefault(name.lower(), set()).add(allowed(name))
        assert [name for name, answers in by_lower.items() if len(answers) > 1] == []


def test_an_allowed_alias_is_of_an_allowed_function() -> None:
    """An alias of a refused function is refused too, and vice versa."""
    rows = names(f"SELECT concat(name, ' ', alias_to) {FUNCTIONS[12:]} AND alias_to != ''")
    pairs = [tuple(row.split(" ")) for row in rows]
    assert len(pairs) > 50
    assert [pair for pair in pairs if len({lists.is_function(name) for name in pair}) > 1] == []


def test_no_allowed_function_is_of_a_kind_that_reaches_out() -> None:
    """By the engine's own categories, where it has them."""
    kinds = "('AI', 'Dictionary', 'Embedded Dictionary', 'Introspection', 'Encryption')"
    kinds += ", 'Machine Learning', 'Internal')"
    sql = f"{FUNCTIONS} AND trimBoth(toString(categories)) IN {kinds.replace(')', '', 1)}"
    found = names(sql)
    assert "dictGet" in found
    assert [name for name in found if lists.is_function(name)] == ["caseWithExpression"]


def test_combinators_make_no_other_functions_name() -> None:
    """``sumIf`` is an aggregate; no refused plain function has such a name."""
    plain = [name for name in names(FUNCTIONS) if name.lower() not in lists.FUNCTIONS]
    assert [name for name in plain if lists.is_aggregate(name)] == []


def test_words_in_front_of_a_bracket_are_no_refused_functions() -> None:
    """A word taken for a keyword there can't be the name of a function that is not allowed."""
    functions = {name.lower() for name in names(FUNCTIONS)}
    functions |= {name.lower() for name in names("SELECT name FROM system.table_functions")}
    for word in OPERATORS:
        assert word.lower() not in functions or lists.is_function(word), word


def test_words_that_begin_other_statements_are_no_keywords_here() -> None:
    """No word with which a statement begins that writes, or that sends a result elsewhere."""
    assert lists.KEYWORDS.isdisjoint(
        "ALTER ATTACH BACKUP CHECK COPY CREATE DELETE DETACH DROP EXCHANGE EXECUTE GRANT INFILE"
        " INSERT INTO KILL MOVE OPTIMIZE OUTFILE PARALLEL RENAME RESTORE REVOKE SET STREAM SYSTEM"
        " TRUNCATE UNDROP UPDATE USE".split()
    )


def test_system_tables_show_no_secrets() -> None:
    """None that shows other people's queries, users, servers' settings, files or addresses."""
    shown = (
        "log process user role grant quota polic secret collection disk server macro certificate"
        " path cluster trace symbol quer session backup dns zoo kafka"
    )
    secret = re.compile(shown.replace(" ", "|"))
    assert [name for name in lists.SYSTEM_TABLES if secret.search(name)] == []


def test_settings_take_the_engines_own_values() -> None:
    """Clients send back what ``system.settings`` shows; every default passes its check."""
    rows = names("SELECT concat(name, '\\t', replaceAll(default, '\\n', ' ')) FROM system.settings")
    defaults = dict(row.split("\t", 1) for row in rows)
    refused = {
        name: defaults[name]
        for name, check in lists.SETTINGS.items()
        if name in defaults and not check(defaults[name])
    }
    # «auto» of the machine, and «none»: not what a client would ask for; «final» is on for readers
    allowed = {"final", "max_threads", "session_timezone", "max_block_size"}
    assert refused.keys() <= allowed, refused


@pytest.mark.parametrize(
    ("name", "aggregate"),
    [
        ("sum", True), ("SUM", True), ("sumIf", True), ("uniqExactIfOrNull", True),
        ("groupArrayArray", True), ("avgForEachMerge", True), ("If", False), ("IfIf", False),
        ("sumif", False), ("fileIf", False), ("flameGraphState", False), ("sumIfx", False),
        ("sum" + "If" * 100, False), ("", False),
    ],
)  # fmt: skip
def test_aggregates_take_combinators(name: str, aggregate: bool) -> None:
    """Listed ones only, in ClickHouse's spelling, behind a listed aggregate."""
    assert lists.is_aggregate(name) is aggregate
