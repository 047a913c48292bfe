"""Migrations: numbering, history, the glossary's definitions, and SQL that a parser accepts."""

import logging
import re
from collections.abc import Iterator

import pytest
import sqlglot
from clickhouse_connect.driver.client import Client

from analytics.cluster import for_cluster
from analytics.door import lists
from analytics.migrate import BREAKING, Applied, Migration, MigrationError, load, pending
from analytics.operations_tables import HIDDEN
from analytics.sink.rows import STATEMENTS
from analytics.sql import statements
from schemas.errors import NewerRelease
from schemas.glossary import COUNTERS, DERIVED_DOCS, RATES, WINDOWS_DOC, WINDOWS_S
from tests.warehouses import migrated_warehouse

SCRIPTS = [
    pytest.param(statement, id=f"{migration.number:04}-{index}")
    for migration in load()
    for index, statement in enumerate(statements(migration.text))
]
TIME = r"(Nullable\(|SimpleAggregateFunction\(max, )?DateTime(64\(\d, |\()'UTC'\)\)?"
COUNT_TABLES = ("campaign_minutes", "campaign_rates", "campaign_rates_history")
WINDOW_TABLES = ("campaign_rates", "campaign_rates_history", "campaign_rates_now")
COUNT_VIEWS = (
    "campaign_summary",
    "mailbox_providers",
    "deliverability_daily",
    "campaign_rates_now",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("migrations")) as (_, client):
        yield client


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _comments(client: Client, table: str) -> dict[str, str]:
    rows = client.query(
        "SELECT name, comment FROM system.columns"
        f" WHERE database = currentDatabase() AND table = '{table}'"
    ).result_rows
    return {str(name): str(comment) for name, comment in rows}


@pytest.mark.parametrize("table", COUNT_TABLES)
def test_tables_have_exactly_the_counters_of_the_glossary(client: Client, table: str) -> None:
    """Every counter is a column with the glossary's definition; all other Int64 columns are
    keys."""
    comments = _comments(client, table)
    for counter in COUNTERS:
        assert comments[counter.name] == _sentence(counter.doc)


def test_minutes_have_no_column_that_the_glossary_does_not_know(client: Client) -> None:
    """Besides the identity of a row there are only counters."""
    identity = {"campaign_id", "mailbox_provider", "minute", "log_id", "partition", "offset"}
    assert set(_comments(client, "campaign_minutes")) == identity | {c.name for c in COUNTERS}


@pytest.mark.parametrize("view", COUNT_VIEWS)
def test_views_repeat_the_words_of_the_glossary(client: Client, view: str) -> None:
    """Counts, derived counts and rates carry their definition as the column's comment."""
    expected = {counter.name: counter.doc for counter in COUNTERS}
    expected |= DERIVED_DOCS
    expected |= {rate.name: rate.doc for rate in RATES}
    comments = _comments(client, view)
    assert {name: comments.get(name) for name in expected} == {
        name: _sentence(doc) for name, doc in expected.items()
    }


@pytest.mark.parametrize("table", WINDOW_TABLES)
def test_tables_of_windows_name_every_window(client: Client, table: str) -> None:
    """A new window is a value that analysts may filter by, so the column's comment lists it."""
    *others, last = WINDOWS_S
    assert _comments(client, table)["window"] == f"{', '.join(others)} or {last}. {WINDOWS_DOC}."


def test_every_column_of_every_table_and_view_says_what_it_is(client: Client) -> None:
    """An analyst who describes a table sees a sentence for each column."""
    silent = client.query(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase()"
        " AND comment = '' AND name NOT LIKE 'rates.%'"
    ).result_rows
    assert silent == []
    named = client.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"
        " AND engine != 'MaterializedView'"
    ).result_rows
    assert named == []


ARGUMENTS = {
    "campaign": "'x'", "from": "'2026-01-01 00:00:00'", "to": "'2026-01-02 00:00:00'",
    "step": "60", "zone": "'UTC'", "a": "'x'", "b": "'y'", "ids": "[]",
}  # fmt: skip


def test_views_with_parameters_explain_each_column_and_parameter(client: Client) -> None:
    """ClickHouse keeps no columns of these, so the view's own comment names each, or says which
    view explains it."""
    rows = client.query(
        "SELECT name, comment, create_table_query FROM system.tables"
        " WHERE database = currentDatabase() AND match(create_table_query, '[{]\\w+:')"
    ).result_rows
    assert {name for name, *_ in rows} == lists.VIEWS
    for name, comment, created in rows:
        parameters = sorted(set(re.findall(r"\{(\w+):", created)))
        given = ", ".join(f"{each} = {ARGUMENTS[each]}" for each in parameters)
        head, _, told = comment.partition("Columns: ")
        assert all(re.search(rf"\b{each}\b", head) for each in parameters), name
        elsewhere = re.search(r"all others as in (\w+)", told)
        known = _comments(client, elsewhere[1]) if elsewhere else {}
        for column in client.query(f"SELECT * FROM {name}({given}) LIMIT 0").column_names:
            assert f"{column}: " in told or known.get(column), f"{name}.{column}"


def test_email_events_has_every_column_of_events_with_its_words(client: Client) -> None:
    """Less what only tells revisions apart."""
    expected = _comments(client, "events")
    del expected["version"], expected["is_deleted"]
    assert _comments(client, "email_events") == expected


def test_every_table_is_for_analysts_or_hidden_from_them(client: Client) -> None:
    """A new table is put among one or the other by whoever makes it."""
    rows = client.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine != 'View'"
    ).result_rows
    for_analysts = {
        "campaign_minutes", "campaign_rates", "campaign_rates_history", "campaigns", "events",
        "incident_changes", "scoped_suppressions", "source_incident_changes", "source_requests",
        "suppressions",
    }  # fmt: skip
    assert {name for (name,) in rows} == for_analysts | set(HIDDEN)


def test_every_time_is_in_utc_by_its_type(client: Client) -> None:
    """Of every table and view: so a server in any zone gives and takes UTC."""
    rows = client.query(
        "SELECT table, name, type FROM system.columns"
        " WHERE database = currentDatabase() AND type LIKE '%DateTime%'"
    ).result_rows
    assert rows
    assert [row for row in rows if not re.fullmatch(TIME, row[2])] == []


@pytest.mark.parametrize("statement", SCRIPTS)
def test_each_statement_parses(statement: str, caplog: pytest.LogCaptureFixture) -> None:
    """sqlglot's ClickHouse dialect parses all of it, or names the statement that it does not
    know."""
    with caplog.at_level(logging.WARNING, logger="sqlglot"):
        parsed = sqlglot.parse(statement, dialect="clickhouse")
    assert len(parsed) == 1
    own = "PROFILE|ROLE|QUOTA|GRANT|REVOKE|PARTITION BY|COMMENT COLUMN|SQL SECURITY|MODIFY QUERY"
    known = re.search(rf"\b({own})\b", statement)
    assert known or not caplog.records


@pytest.mark.parametrize("statement", SCRIPTS)
def test_a_columns_codec_stands_behind_its_comment(statement: str) -> None:
    """ClickHouse up to 26.7 requires this order; newer ones accept both, so they would not show
    it."""
    assert not re.search(r"CODEC\((?:[^()]|\([^()]*\))*\)\s+COMMENT\b", statement)


@pytest.mark.parametrize("statement", SCRIPTS)
def test_each_statement_parses_as_rewritten_for_a_cluster(statement: str) -> None:
    """Tables become replicated ones behind Distributed ones; the rest runs on the whole cluster."""
    for each in for_cluster(statement, "main"):
        assert " ON CLUSTER 'main'" in each
        # these are ClickHouse's own, not sqlglot's; tests/analytics/test_access.py has them
        if not re.search("(GRANT|REVOKE) ON CLUSTER 'main' ", each):
            assert len(sqlglot.parse(each, dialect="clickhouse")) == 1


def test_cluster_tables_keep_identity_and_version() -> None:
    """Order, partitions and version are those of the single server; shards are by the key."""
    statement = next(iter(statements(load()[0].text)))
    local, front = for_cluster(statement, "main")
    assert "events_local ON CLUSTER 'main'" in local
    assert "'{replica}', version, is_deleted)" in local
    assert "ORDER BY (campaign_id, message_key, event_time, event_id)" in local
    assert "non_replicated" not in local
    assert front.endswith("events_local, cityHash64(campaign_id))")


def test_without_a_cluster_nothing_is_rewritten() -> None:
    """The single server runs the files as they are written."""
    assert for_cluster("CREATE TABLE IF NOT EXISTS t\n(a Int8)", "") == [
        "CREATE TABLE IF NOT EXISTS t\n(a Int8)"
    ]


def test_cluster_needs_a_shard_for_each_table() -> None:
    """A table without a shard comment is an error, not a table on one server."""
    with pytest.raises(ValueError, match="shard"):
        for_cluster("CREATE TABLE IF NOT EXISTS t\n(a Int8)\nENGINE = MergeTree\nORDER BY a", "c")


def test_inserts_name_columns_that_the_tables_have(client: Client) -> None:
    """The statements of the busy topics fill exactly the columns of their table."""
    for statement in STATEMENTS.values():
        found = re.match(r"INSERT INTO (\w+) \(([^)]*)\)", statement)
        assert found is not None
        filled = set(found[2].split(", "))
        # the server says itself when it wrote a row
        assert filled == set(_comments(client, found[1])) - {"inserted_at"}


SAME = Applied("name", "same")


def _migration(number: int, checksum: str = "same") -> Migration:
    return Migration(number, "name", checksum, "")


def test_pending_is_what_was_not_applied() -> None:
    """Only the new ones, in order."""
    known = [_migration(1), _migration(2), _migration(3)]
    assert pending(known, {1: SAME}) == known[1:]


def test_edited_history_is_refused() -> None:
    """If a file changed after it was applied, nothing is applied."""
    with pytest.raises(MigrationError, match="0001 was changed"):
        pending([_migration(1)], {1: Applied("name", "other")})


def test_migrations_of_a_newer_release_are_left_alone_unless_they_say_that_they_break() -> None:
    """After a roll-back an older mailpulse works on, except where it would do harm."""
    assert pending([_migration(1), _migration(2)], {1: SAME, 3: SAME}) == [_migration(2)]
    breaking = Applied(f"new_keys{BREAKING}", "same")
    with pytest.raises(NewerRelease, match=r"0003_new_keys_breaks .* upgrade mailpulse"):
        pending([_migration(1)], {1: SAME, 2: SAME, 3: breaking})


def taken_away(text: str) -> list[str]:
    """Statements of a migration by which what the release before uses goes."""
    made = re.findall(r"(?i)CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?(\w+)", text)
    found = []
    for statement in statements(text):
        words = " ".join(statement.split())
        dropped = re.match(r"(?i)DROP VIEW (?:IF EXISTS )?(\w+)", words)
        goes = re.search(r"(?i)\b(DROP (TABLE|COLUMN)|RENAME|TRUNCATE|DELETE)\b", words)
        if goes or (dropped and dropped[1] not in made):
            found.append(words)
    return found


def test_what_the_release_before_uses_stays() -> None:
    """No table, column or row goes; a view goes only to come again."""
    for text in ("ALTER TABLE t DROP COLUMN c", "RENAME TABLE a TO b", "DROP VIEW v"):
        assert taken_away(text)
    assert not taken_away("DROP VIEW IF EXISTS v;\n\nCREATE VIEW v AS SELECT 1;")
    for migration in load():
        if migration.number > 27 and not migration.name.endswith(BREAKING):
            assert not taken_away(migration.text), migration.name
