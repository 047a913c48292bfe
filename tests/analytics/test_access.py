"""Roles and quotas, parsed by ClickHouse's own parser and compared with what the processes do.

chDB has the server's parser but hardly any access control, so whether a right suffices is known
from ClickHouse's documentation («GRANT», «CREATE QUOTA», «CREATE ROLE») and from a server named by
``MAILPULSE_TEST_CLICKHOUSE_URL``.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import chdb
import pytest

from analytics.cluster import for_cluster
from analytics.migrate import HISTORY, load
from analytics.operations_tables import HIDDEN, RIGHTS
from analytics.sink import books, campaign_facts
from analytics.sink.rows import STATEMENTS
from analytics.sql import statements
from streams.books import watch
from streams.cli import backfill_effects, doctor
from streams.cli.secret_files import USERS, secret_files

_connect: Any = chdb.connect  # its type hints are incomplete
TEXT = "\n".join(migration.text for migration in load())
ACCESS = [
    statement
    for migration in load()
    if migration.server_only
    for statement in statements(migration.text)
]
EVERY = [
    pytest.param(each, id=f"{number}-{cluster or 'single'}-{part}")
    for number, statement in enumerate([HISTORY, *statements(TEXT)])
    for cluster in ("", "main")
    for part, each in enumerate(for_cluster(statement, cluster))
]
REVOKE = re.compile(r"REVOKE (?P<rights>.+) ON (?P<on>\S+) FROM (?P<role>\w+)")
GRANT = re.compile(r"GRANT (?P<rights>.+) ON (?P<on>\S+) TO (?P<role>\w+)")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The engine without any data."""
    connection = _connect(":memory:")
    yield connection
    connection.close()


def canonical(engine: Any, statement: str) -> str:
    """A statement as ClickHouse writes it, after its parser has read it."""
    literal = statement.replace("\\", "\\\\").replace("'", "\\'")
    result = engine.query(f"SELECT formatQuerySingleLine('{literal}')", "TabSeparatedRaw")
    return str(result.bytes().decode()).strip()


@pytest.mark.parametrize("statement", EVERY)
def test_clickhouses_own_parser_reads_every_statement(engine: Any, statement: str) -> None:
    """On a single server and on a cluster; the first words stay the same."""
    plain = re.sub(r"^--.*$", "", statement, flags=re.MULTILINE).strip()
    assert canonical(engine, statement).split()[:2] == plain.split()[:2]


def granted(engine: Any, role: str) -> set[tuple[str, str]]:
    """Pairs of a right and its object."""
    found = set()
    for statement in ACCESS:
        grant = GRANT.fullmatch(canonical(engine, statement))
        if grant and grant["role"] == role:
            found |= {(right.strip(), grant["on"]) for right in grant["rights"].split(",")}
    return found


def test_sink_may_read_what_it_asks_for(engine: Any) -> None:
    """Facts of campaigns, migrations, the reconciliation and what sources' rhythms are learned
    from, with everything that these views read."""
    views = [
        next(
            each
            for each in reversed(list(statements(TEXT)))
            if f"CREATE OR REPLACE VIEW {name}\n" in each
        )
        for name in ("reconciliation", "freshness", "source_incidents")
    ]
    queries = (campaign_facts.KNOWN, *books.QUERIES, *watch.QUERIES)
    asked = " ".join((*queries, *views, "FROM schema_migrations"))
    tables = set(re.findall(r"\bFROM (\w+)", asked))
    tables |= {"events", "suppressions", "scoped_suppressions"}  # an erasure looks for rows there
    tables |= set(re.findall(r"\bFROM (\w+)", f"{doctor.MIGRATIONS} {backfill_effects.HELD}"))
    assert {"campaigns", "reconciliation", "accepted", "schema_migrations"} <= tables
    rights = granted(engine, "mailpulse_sink")
    assert {table for right, table in rights if right == "SELECT"} == tables
    assert ("INSERT", "*") in rights


def test_sink_may_read_its_own_input(engine: Any) -> None:
    """input() asks for this right before 26.5 (ClickHouse #104468), and it is a global one."""
    assert all("input(" in statement for statement in STATEMENTS.values())
    assert ("CREATE TEMPORARY TABLE", "*.*") in granted(engine, "mailpulse_sink")


def test_analyst_may_read_and_nothing_else(engine: Any) -> None:
    """Only this database's tables and views, less those that no question needs, within limits that
    a query can only lower."""
    assert granted(engine, "mailpulse_analyst") == {("SELECT", "*"), ("SHOW", "*")}
    revoked = {
        found["on"]
        for each in ACCESS
        if (found := REVOKE.fullmatch(canonical(engine, each)))
        and found["rights"] == RIGHTS
        and found["role"] == "mailpulse_analyst"
    }
    assert revoked == set(HIDDEN)
    profile, role = (
        next(canonical(engine, each) for each in ACCESS if start in each)
        for start in ("CREATE SETTINGS PROFILE", "CREATE ROLE IF NOT EXISTS mailpulse_analyst")
    )
    assert "readonly = 2" in profile
    for limit in ("max_execution_time", "max_memory_usage", "max_threads"):
        assert re.search(rf"{limit} = \d+ MAX \d+", profile)
    assert "mailpulse_analyst_limits" in role


def test_analysts_get_final_figures_and_can_not_ask_for_others(engine: Any) -> None:
    """The setting is on and constant, in the role's profile and for compose's reader."""
    altered = [canonical(engine, each) for each in ACCESS if "ALTER SETTINGS PROFILE" in each]
    assert altered == [
        "ALTER SETTINGS PROFILE `mailpulse_analyst_limits` ADD SETTING final = 1 CONST"
    ]
    users = ElementTree.fromstring(secret_files("clickhouse", lambda: "x")[USERS])
    profile = users.find("profiles/mailpulse_reader")
    assert profile is not None
    assert profile.findtext("final") == "1"
    assert profile.find("constraints/final/readonly") is not None
    queries = {each.text for each in users.findall("users/mailpulse_reader/grants/query")}
    hidden = {f"REVOKE {RIGHTS} ON mailpulse.{table}" for table in HIDDEN}
    assert queries == {"GRANT SELECT, SHOW ON mailpulse.*", *hidden}


def test_quota_is_each_analysts_own(engine: Any) -> None:
    """The last clause has a key: without one, all analysts share the quota."""
    last = [canonical(engine, each) for each in ACCESS if "QUOTA" in each][-1]
    assert "KEYED BY user_name" in last
    assert "MAX queries = 10000, execution_time = 3600" in last
    assert last.endswith("TO mailpulse_analyst")
