"""Whatever function takes a large constant: what the judge lets through ends within its limit.

``make fuzz ARGS="--only constants"`` tries functions and arguments for ten minutes.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.door import lists
from analytics.door.denied import Denied
from analytics.warehouse.engine import Job
from analytics.warehouse.errors import QueryError
from analytics.warehouse.limits import QueryLimits
from tests.fuzz.kept import kept
from tests.warehouses import OpenWarehouse, open_warehouse

CONSTANTS = (
    "(SELECT groupArray(number) FROM numbers(1000000))",
    "(SELECT groupConcat(toString(number)) FROM numbers(150000))",
    "range(1000000)",
    "repeat('a=1&b=2 ', 100000)",
    "arrayMap(x -> toString(x), range(200000))",
    "mapFromArrays(range(200000), range(200000))",
    "concat('{\"a\":[', repeat('1,', 200000), '1]}')",
)
ROWS = (
    "number",
    "toString(number)",
    "[number]",
    "[toString(number)]",
    "'a'",
    "3",
    "toDate(number)",
)
SHAPES = (
    "SELECT ignore({call}) FROM numbers(200000) FORMAT Null",
    "SELECT ignore(arrayMap(number -> {call}, range(200000))) FORMAT Null",
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A warehouse whose queries have a second."""
    with open_warehouse(tmp_path_factory.mktemp("constants"), QueryLimits(seconds_max=1)) as one:
        yield one


@kept
@given(
    name=st.sampled_from(sorted(lists.FUNCTIONS)),
    constant=st.sampled_from(CONSTANTS),
    others=st.lists(st.sampled_from(ROWS), min_size=1, max_size=2),
    place=st.integers(0, 2),
    shape=st.sampled_from(SHAPES),
)
def test_what_passes_ends_within_its_limit(
    opened: OpenWarehouse, name: str, constant: str, others: list[str], place: int, shape: str
) -> None:
    """By the engine's limits, not by the watchdog's end of the process."""
    arguments = [*others[:place], constant, *others[place:]]
    sql = shape.format(call=f"{name}({', '.join(arguments)})")
    try:
        statement = opened.engine.judge(sql)
        opened.engine.read(Job(statement.sql, "TabSeparated"))
    except (Denied, QueryError):
        pass
    assert opened.disobeyed == [], sql
