"""Large constants that a function would go through for each row are refused, and little else is."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from analytics.door import lists
from tests.analytics.test_door import call
from tests.warehouses import OpenWarehouse, migrated_warehouse

NUMBERS = "(SELECT groupArray(number) FROM numbers(1000000))"
TEXT = "(SELECT groupConcat(toString(number)) FROM numbers(150000))"
LARGE = [
    f"SELECT has({NUMBERS}, number) FROM numbers(200000)",
    f"WITH {NUMBERS} AS a SELECT count() FROM numbers(200000) WHERE indexOf(a, number) > 0",
    f"WITH {NUMBERS} AS a, a AS b SELECT countEqual(b, number) FROM numbers(200000)",
    f"SELECT arrayMap(x -> has({NUMBERS}, x), range(1000000))",
    f"SELECT has(a, number) FROM (SELECT {NUMBERS} AS a, number FROM numbers(200000))",
    "SELECT has(materialize(range(1000000)), 1), has(range(1000000), number) FROM numbers(9)",
    f"SELECT hasAll({NUMBERS}, [number]) FROM numbers(200000)",
    f"SELECT arrayIntersect([number], {NUMBERS}) FROM numbers(200000)",
    f"SELECT hasSubsequence({TEXT}, toString(number)) FROM numbers(200000)",
    f"SELECT count() FROM numbers(200000) WHERE {TEXT} LIKE concat('%', toString(number), '%')",
    f"SELECT count() FROM numbers(200000) WHERE toString(number) NOT ILIKE {TEXT}",
    "SELECT position(repeat('ab', 1000000), toString(number)) FROM numbers(200000)",
    "SELECT position(rightPad('', 1000000), toString(number)) FROM numbers(200000)",
    "SELECT position(CAST('a', 'FixedString(1000000)'), toString(number)) FROM numbers(200000)",
    "SELECT position(replaceAll(repeat('a', 1000), 'a', repeat('b', 1000)), number::String)"
    " FROM numbers(200000)",
    "WITH 'ab' AS a, concat(a, a) AS b, concat(b, b) AS c, concat(c, c) AS d, concat(d, d) AS e"
    " SELECT position(e, toString(number)) FROM numbers(200000)",
    f"SELECT position(concat('{'a' * 100}' AS x, x, x, x), toString(number)) FROM numbers(9)",
    f"SELECT position('{'a' * 100_000}', toString(number)) FROM numbers(200000)",
    "SELECT has((SELECT groupUniqArrayIf(number, 1) FROM numbers(1000000)), number)"
    " FROM numbers(9)",
    "SELECT has((SELECT groupArray(10000000)(number) FROM numbers(1000000)), number)"
    " FROM numbers(9)",
    "SELECT has((SELECT sumForEach(range(1000000))), number) FROM numbers(200000)",
    "SELECT has((SELECT groupArray(n) FROM (SELECT number AS n FROM numbers(5) LIMIT 5) AS a"
    " CROSS JOIN numbers(1000000) AS b), number) FROM numbers(9)",
    "SELECT arrayExists(x -> position(arrayStringConcat(range(x)), 'a') = 0, [1000000])",
    "SELECT has([repeat('a', 1000000)], toString(number)) FROM numbers(200000)",
    "WITH t(a, n) AS (SELECT range(1000000), number FROM numbers(200000)) SELECT has(a, n) FROM t",
    "SELECT has(`range(1000000)`, number) FROM (SELECT range(1000000), number FROM numbers(99))",
    "SELECT has(t.1, number) FROM (SELECT tuple(range(1000000)) AS t, number FROM numbers(99))",
    "SELECT has(*) FROM (SELECT range(1000000), number FROM numbers(200000))",
    "SELECT has(t.*) FROM (SELECT range(1000000), number FROM numbers(200000)) AS t",
    "SELECT has(COLUMNS('.*')) FROM (SELECT range(1000000), number FROM numbers(200000))",
    "SELECT has(x, n) FROM (SELECT [1] AS x, 1 AS n UNION ALL"
    " SELECT range(1000000), number FROM numbers(200000))",
]
SMALL = [
    "SELECT has([1, 2, 3], number) FROM numbers(9)",
    "SELECT has(range(24), number) FROM numbers(9)",
    "SELECT countIf(has(tags, 'a')) FROM campaigns FINAL",
    "SELECT arrayIntersect(groupUniqArray(number), groupUniqArray(number + 1)) FROM numbers(99)",
    "SELECT number % 3 AS k FROM numbers(99) GROUP BY k HAVING has(groupArray(number), 7)",
    "SELECT hasAny(a, [1]) FROM (SELECT groupArray(number) AS a FROM numbers(99))",
    "WITH (SELECT groupArray(n) FROM (SELECT number AS n FROM numbers(99) ORDER BY n LIMIT 20))"
    " AS best SELECT number, indexOf(best, number) AS place FROM numbers(99)"
    " WHERE has(best, number)",
    "SELECT has((SELECT groupArray(20)(number) FROM numbers(99)), number) FROM numbers(9)",
    "SELECT number FROM numbers(9) WHERE number IN (SELECT number FROM numbers(1000000))",
    f"SELECT length({NUMBERS}), arraySum({NUMBERS})",
    "SELECT event_id FROM events FINAL WHERE diagnostic LIKE '%user unknown%'",
    "SELECT event_id FROM events FINAL WHERE position(lower(diagnostic), 'unknown') > 0",
    "SELECT event_id FROM events FINAL WHERE click_url LIKE concat('%', {host:String}, '%')",
    "SELECT replaceAll(replaceAll(replaceAll(replaceAll(click_url, 'a', ''), 'b', ''), 'c', ''),"
    " 'd', '') AS u FROM events FINAL WHERE u LIKE '%x%'",
    "SELECT arrayFilter(x -> x LIKE '%a%', splitByChar(',', diagnostic)) FROM events FINAL",
    "SELECT addDays(toDate('2026-11-01'), arrayJoin(range(30))) AS day",
    "SELECT formatDateTime(now(), '%H'), rightPad(toString(number), 10, ' ') FROM numbers(3)",
    "SELECT event_id FROM events FINAL WHERE diagnostic LIKE '%a%' UNION ALL"
    " SELECT toString(number) FROM numbers(3)",
    "SELECT `count()`, countIf(diagnostic LIKE '%a%') FROM (SELECT count(), diagnostic"
    " FROM events FINAL GROUP BY diagnostic) GROUP BY `count()`",
    "SELECT (SELECT max(event_time) FROM events FINAL) - toIntervalDay(7) AS since",
    "SELECT subtractDays((SELECT max(event_time) FROM events FINAL), 7) AS since",
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Client]]:
    """A warehouse with our tables."""
    with migrated_warehouse(tmp_path_factory.mktemp("constants")) as both:
        yield both


@pytest.mark.parametrize("sql", LARGE)
def test_a_large_constant_is_not_gone_through_for_each_row(
    opened: tuple[OpenWarehouse, Client], sql: str
) -> None:
    """The answer says what to write in its place, at once; the sink's rows are stored meanwhile."""
    door, client = opened
    status, text, _ = call(door, "", body=sql.encode())
    assert (status, "a large constant" in text) == (403, True), text
    client.insert("campaigns", [["spring"]], column_names=["campaign_id"])


@pytest.mark.parametrize("sql", SMALL)
def test_small_constants_columns_and_groups_are_gone_through(
    opened: tuple[OpenWarehouse, Client], sql: str
) -> None:
    """They are answered."""
    door, _ = opened
    status, text, _ = call(door, sql, param_host="example.com")
    assert status == 200, text


@pytest.mark.parametrize("name", sorted(lists.SCANS))
@pytest.mark.parametrize("constant", [NUMBERS, TEXT])
def test_each_such_function_is_known_by_name(
    opened: tuple[OpenWarehouse, Client], name: str, constant: str
) -> None:
    """Whichever of its arguments the constant is, and by an alias too."""
    door, _ = opened
    for arguments in (f"{constant}, number", f"number, {constant}"):
        for sql in (
            f"SELECT {name}({arguments}) FROM numbers(9)",
            f"SELECT {name}({arguments.replace(constant, 'c')}), {constant} AS c FROM numbers(9)",
        ):
            assert "a large constant" in call(door, sql)[1]
