"""Types that grow with each level of a query are refused before the engine analyses them."""

from collections.abc import Callable, Iterator

import chdb
import pytest

from analytics.door.calls import closing_places
from analytics.door.denied import Denied
from analytics.door.growth import check_growth
from analytics.door.lexer import tokens

Canonical = Callable[[str], str]
LEVELS = 18
"""At which ``(a, a)`` takes the engine a second."""
GROWING = [
    "(a, a)", "[(a, a)]", "map(1, a, 2, a)", "arrayZip([a], [a])", "arrayMap(x -> (x, x), [a])",
    "tupleConcat((a, 1), (a, 1))", "tuple(*, *)", "[a, [a]]", "if(1, [a], (a, 1))",
    "(1, a, toString(a), a)", "tuple(COLUMNS('a'), a)", "argMaxState(a, a)", "identity((a, a))",
]  # fmt: skip
STEADY = [
    "a + a * 2", "round(if(a > 1, a / a, a), 2)", "sum(a)", "[a]", "(a)", "tuple(a).1",
    "count(*) + max(a)", "countIf(a IN (1, 2, 3, 4))", "arrayMap(x -> x + a, [a])[1]", "a['a']",
]  # fmt: skip


@pytest.fixture(scope="module")
def canonical() -> Iterator[Canonical]:
    """The engine's formatter."""
    handle = chdb.connect(":memory:")  # type: ignore[no-untyped-call]
    asked = "SELECT formatQuerySingleLine({text:String})"

    def write(sql: str) -> str:
        return bytes(handle.query(asked, "RawBLOB", params={"text": sql}).bytes()).decode()

    yield write
    handle.close()


def check(sql: str) -> None:
    """Passes a canonical text."""
    found = tokens(sql)
    check_growth(found, closing_places(found))


def nested(expression: str, levels: int) -> str:
    """The expression applied to itself, by subqueries."""
    sql = "SELECT 1 AS a"
    for _ in range(levels):
        sql = f"SELECT {expression} AS a FROM ({sql})"
    return sql


def named(expression: str, levels: int) -> str:
    """The same by ``WITH``."""
    parts = [f"t{at} AS (SELECT {expression} AS a FROM t{at - 1})" for at in range(1, levels)]
    return f"WITH t0 AS (SELECT 1 AS a), {', '.join(parts)} SELECT a FROM t{levels - 1}"


@pytest.mark.parametrize("form", [nested, named])
@pytest.mark.parametrize("expression", GROWING)
def test_what_grows_is_refused(
    canonical: Canonical, form: Callable[[str, int], str], expression: str
) -> None:
    """By subqueries, named or not; a few levels are fine."""
    check(canonical(form(expression, 2)))
    with pytest.raises(Denied, match="grow too large"):
        check(canonical(form(expression, LEVELS)))


@pytest.mark.parametrize("form", [nested, named])
@pytest.mark.parametrize("expression", STEADY)
def test_what_does_not_grow_is_taken(
    canonical: Canonical, form: Callable[[str, int], str], expression: str
) -> None:
    """Over more levels than anybody writes."""
    check(canonical(form(expression, 60)))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a0, " + ", ".join(f"(a{at}, a{at}) AS a{at + 1}" for at in range(LEVELS)),
        "WITH 1 AS a0, "
        + ", ".join(f"(a{at}, a{at}) AS a{at + 1}" for at in range(LEVELS))
        + f" SELECT * FROM (SELECT a{LEVELS})",
        "SELECT " + "arrayMap(x -> (x, x), " * LEVELS + "[1]" + ")" * LEVELS,
    ],
)
def test_aliases_and_lambdas_grow_too(canonical: Canonical, sql: str) -> None:
    """Within a single SELECT, and where its names are visible."""
    with pytest.raises(Denied, match="grow too large"):
        check(canonical(sql))


def test_growth_beside_other_columns_and_joins_and_unions(canonical: Canonical) -> None:
    """Whatever else the level contains."""
    sql = beside = united = "SELECT 1 AS a"
    for _ in range(LEVELS):
        sql = f"SELECT (a, b) AS a FROM ({sql}) AS x CROSS JOIN (SELECT 1 AS b) AS y"
        beside = f"SELECT (a, a) AS b, (SELECT 1 WHERE b = b) AS c, (b, b) AS a FROM ({beside})"
        united = f"SELECT (a, a) AS a FROM (SELECT 1 AS a UNION ALL ({united}))"
    for each in (sql, beside, united):
        with pytest.raises(Denied, match="grow too large"):
            check(canonical(each))


def test_long_lists_are_no_growth(canonical: Canonical) -> None:
    """Constants have no size of their own, and conditions give no column."""
    numbers = ", ".join(map(str, range(3_000)))
    check(canonical(f"SELECT has([{numbers}], a), (a, b) IN ((1, 2), (3, 4)) FROM t"))
    check(canonical(f"SELECT a FROM t WHERE a IN ({numbers})"))
    pairs = " OR ".join(f"(a, b) = ({at}, {at})" for at in range(200))
    check(canonical(f"SELECT a FROM (SELECT a FROM (SELECT a FROM t WHERE {pairs}))"))
