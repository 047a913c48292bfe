"""The door's judge beside the engine's own tree: what passes reads nothing that it may not.

A statement is made by grammar, or by damage to one of the corpora. If the judge lets it through,
the engine's parser (``parseQueryToJSON``, since 26.9) says what is in it, node by node, and it is
run with canaries beside it. ``make fuzz ARGS="--only door"`` does so for ten minutes.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.door import lists
from analytics.door.denied import Denied
from analytics.door.judge import Statement
from analytics.warehouse.engine import Engine, Job
from analytics.warehouse.errors import QueryError
from analytics.warehouse.limits import QueryLimits
from tests.analytics.canaries import SECRET, Canaries, canaries
from tests.analytics.corpora import corpus
from tests.fuzz.kept import kept
from tests.fuzz.statements import GAPS, Maker
from tests.fuzz.test_parsers import damaged
from tests.fuzz.tree import faults
from tests.warehouses import migrated_warehouse

BATCH = 5
"""Statements of one example: making them costs less than Hypothesis does."""
SEEDS = [
    query
    for name in ("attacks.yaml", "honest.yaml")
    for each in corpus(name)
    for query in [each.values[0].get("query", "")]
    if query and "REPEAT" not in query
]
UNTOLD = ("DESCRIBE", "EXISTS", "SHOW")
"""Statements whose tree the engine does not give as JSON."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a statement is tried on.

    Attributes:
        engine: that judges and runs.
        canaries: that it must leave alone.
        refused: functions of the engine that are not allowed, in lower case.
        functions: that are allowed, as the engine spells them.
        outcomes: how many statements passed and how many did not.
    """

    engine: Engine
    canaries: Canaries
    refused: frozenset[str]
    functions: list[str]
    outcomes: Counter[str]

    def tree(self, sql: str) -> dict[str, Any]:
        """The engine's own reading of a statement."""
        job = Job(
            "SELECT parseQueryToJSON(unhex({q:String}))", "RawBLOB",
            parameters={"q": sql.encode().hex()},
        )  # fmt: skip
        return dict(json.loads(bytes(self.engine.write(job).content)))

    def passed(self, text: str) -> Statement | None:
        """The statement that a text is, if it may run."""
        try:
            statement = self.engine.judge(self.canaries.filled(text))
        except (Denied, QueryError) as error:
            self.outcomes[error.name] += 1
            return None
        self.outcomes["passed"] += 1
        return statement

    def check(self, text: str) -> None:
        """A text is refused, or harmless by the engine's own reading and when it runs."""
        statement = self.passed(text)
        assert self.canaries.touched() == [], text
        if statement is None:
            return
        if not statement.sql.startswith(UNTOLD):
            assert faults(self.tree(statement.sql), self.refused) == [], (text, statement.sql)
        try:
            fmt = statement.format or "TabSeparated"
            content = bytes(
                self.engine.read(Job(statement.sql, fmt, parameters={"p": "1"})).content
            )
        except QueryError as error:
            content = error.text.encode()
        assert self.canaries.touched() == [], text
        assert SECRET.encode() not in content, text


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A migrated directory with tight limits, and canaries."""
    limits = QueryLimits(seconds_max=1, memory_bytes_max=100 << 20, result_bytes_max=1 << 20)
    outcomes: Counter[str] = Counter()
    with (
        migrated_warehouse(tmp_path_factory.mktemp("door"), limits) as (opened, _),
        canaries(tmp_path_factory.mktemp("canaries")) as set_out,
    ):
        known = opened.engine.around.functions
        refused = frozenset(name for name in known if not lists.is_function(name))
        told = opened.engine.write(Job("SELECT name FROM system.functions", "TabSeparated")).content
        functions = [name for name in bytes(told).decode().split() if lists.is_function(name)]
        yield Bench(opened.engine, set_out, refused, functions, outcomes)
    print(f"outcomes: {dict(outcomes)}")
    assert outcomes["passed"] > sum(outcomes.values()) / 20, "hardly anything came to be checked"


@kept
@given(
    seed=st.integers(0, 1 << 64),
    wicked=st.sampled_from([0, 0.02, 0.2]),
    dressed=st.sampled_from([0, 0.2]),
)
def test_what_the_door_lets_through_is_harmless(
    bench: Bench, seed: int, wicked: float, dressed: float
) -> None:
    """Statements by grammar: nested comments, here-documents, odd numbers, quotes, unicode."""
    maker = Maker(Random(seed), wicked, dressed)
    for _ in range(BATCH):
        bench.check(maker.statement())


@kept
@given(data=st.data(), query=st.sampled_from(SEEDS))
def test_what_is_left_of_a_damaged_query_is_harmless(
    bench: Bench, data: st.DataObject, query: str
) -> None:
    """The corpora, bits flipped, parts cut, doubled, replaced, or with gaps of any kind."""
    text = data.draw(damaged(query.encode())).decode("utf-8", "replace")
    gap = data.draw(st.sampled_from(GAPS))
    bench.check(text.replace(" ", gap) if data.draw(st.booleans()) else text)


ARGUMENTS = (
    "'file:CANARY'", "'file:CANARY'", "concat('file:', 'CANARY')", "'CANARY'", "'default.CANARY'",
    "'http://127.0.0.1:PORT/'", "now()", "now64(3)", "toDate(1)", "'2026-01-02 03:04:05'",
    "1", "2", "'day'", "'%Y'", "toIntervalDay(1)", "['CANARY']", "'a'", "x -> x", "number",
    "'DateTime(''file:CANARY'')'", "map('a', 'CANARY')", "NULL",
)  # fmt: skip


@kept
@given(seed=st.integers(0, 1 << 64))
def test_no_function_opens_what_its_arguments_name(bench: Bench, seed: int) -> None:
    """Every allowed function, with names of files, tables and addresses among its arguments."""
    random = Random(seed)
    for _ in range(BATCH):
        name = random.choice(bench.functions)
        arguments = ", ".join(random.choices(ARGUMENTS, k=random.randint(1, 4)))
        # ClickHouse remembers time zones that it could not load: each time another way there
        way = "".join(random.choices(("/", "/."), k=40))
        sql = f"SELECT {name}({arguments}) FROM numbers(2)"
        bench.check(sql.replace("CANARY", f"FOLDER{way}/canary.csv"))


def test_the_second_opinion_finds_what_must_not_pass(bench: Bench) -> None:
    """Each kind of fault, in a statement that was not judged."""
    for sql, fault in (
        ("SELECT file('x')", "function file"), ("SELECT arrayMap(file, [1])", "a function's name"),
        ("SELECT * FROM default.x", "table"), ("SELECT * FROM system.users", "name"),
        ("SELECT * APPLY sleep", "APPLY sleep"), ("SELECT 1 IN (default.x)", "name"),
        ("SELECT * FROM url('x')", "function url as table_function"), ("DROP TABLE x", "a Drop"),
        ("SELECT 1 SETTINGS max_threads = 1", "settings"), ("SELECT {x:Identifier}", "name"),
        ("SELECT * FROM `a/b`", "table a/b"), ("SELECT 1 INTO OUTFILE 'x'", "writes"),
        ("SELECT (SELECT 1 SETTINGS readonly = 0)", "settings"),
    ):  # fmt: skip
        assert any(fault in each for each in faults(bench.tree(sql), bench.refused)), sql
    assert faults(bench.tree("SELECT sumIf(x, 1) FROM mailpulse.events"), bench.refused) == []
