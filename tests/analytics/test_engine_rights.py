"""Without the judge: what the engine's own rights, limits and read-only mode refuse."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from analytics.warehouse.engine import Engine, Job
from analytics.warehouse.errors import QueryError
from analytics.warehouse.limits import Flag
from tests.warehouses import migrated_warehouse

DENIED, READONLY = 497, 164


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine on a migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("rights")) as (opened, _):
        yield opened.engine


def asked(engine: Engine, sql: str, **settings: str) -> bytes:
    """The answer to an analyst's query that was not judged."""
    return bytes(engine.read(Job(sql, "TabSeparated", settings=settings)).content)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
        "DESCRIBE url('http://127.0.0.1:9/', 'CSV')",
        "DESCRIBE TABLE file('/etc/hostname', 'CSV')",
        "SELECT * FROM s3('http://127.0.0.1:9/bucket/key', 'CSV')",
        "SELECT * FROM remote('127.0.0.1:9', 'system.one')",
        "SELECT * FROM mysql('127.0.0.1:9', 'd', 't', 'u', 'p')",
        "SELECT * FROM executable('x', 'TSV', 'a String')",
        "SELECT * FROM default.`/etc/hostname`",
        "INSERT INTO events (source) VALUES ('x')",
        "INSERT INTO FUNCTION file('/tmp/x.csv', 'CSV', 'a Int8') VALUES (1)",
        "CREATE TABLE stolen (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE stolen (a Int8)",
        "CREATE VIEW stolen AS SELECT 1",
        "CREATE FUNCTION stolen AS x -> x",
        "CREATE DATABASE stolen",
        "CREATE USER stolen",
        "GRANT ALL ON *.* TO default",
        "DROP TABLE events",
        "DROP DATABASE mailpulse",
        "TRUNCATE TABLE events",
        "ALTER TABLE events DELETE WHERE 1",
        "RENAME TABLE events TO other",
        "OPTIMIZE TABLE events FINAL",
        "SYSTEM SHUTDOWN",
        "SYSTEM STOP MERGES mailpulse.events",
        "BACKUP TABLE events TO File('/tmp/x')",
        "SELECT * FROM events INTO OUTFILE '/proc/self/nowhere' SETTINGS readonly = 0",
        "SET readonly = 0",
        "SET max_threads = 8",
        "SELECT 1 SETTINGS max_memory_usage = 0",
    ],
)
def test_the_engine_refuses_by_itself(engine: Engine, sql: str) -> None:
    """Table functions that reach outside, writes, definitions, and leaving read-only mode."""
    with pytest.raises(QueryError) as caught:
        asked(engine, sql)
    assert caught.value.code in (DENIED, READONLY), str(caught.value)


def test_a_reader_sees_its_database_and_no_other(engine: Engine) -> None:
    """Only views, tables and metadata are readable."""
    assert b"campaign_summary" in asked(engine, "SHOW TABLES")
    assert asked(engine, "SELECT count() FROM campaign_summary") == b"0\n"
    names = asked(engine, "SELECT name FROM system.databases").decode().split()
    assert set(names) == {"mailpulse", "system"}
    assert b"readonly" in asked(engine, "SELECT 'readonly', getSetting('readonly')")


@pytest.mark.parametrize(
    "name", ["user_files_path", "format_schema_path", "user_scripts_path", "dictionaries_lib_path"]
)
def test_files_of_users_are_looked_for_where_there_are_none(engine: Engine, name: str) -> None:
    """The engine looks for them in an empty directory of its own."""
    sql = f"SELECT value FROM system.server_settings WHERE name = '{name}'"
    told = bytes(engine.write(Job(sql, "TabSeparatedRaw")).content).decode().strip()
    if told:  # engines before 26.9 do not tell all of them
        assert Path(told).name == "nothing"
        assert list(Path(told).iterdir()) == []


def test_the_sinks_session_has_every_right(engine: Engine) -> None:
    """The same engine, at the same time."""
    engine.write(Job("CREATE TABLE own (a Int8) ENGINE = MergeTree ORDER BY a", "TabSeparated"))
    engine.write(Job("INSERT INTO own VALUES (7)", "TabSeparated"))
    assert asked(engine, "SELECT a FROM own") == b"7\n"
    engine.write(Job("DROP TABLE own", "TabSeparated"))


def test_the_whole_engine_has_a_limit_of_memory(engine: Engine) -> None:
    """One query or all together reach it, whatever the limit of each."""
    sql = "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'"
    assert int(bytes(engine.write(Job(sql, "TabSeparated")).content)) == 4 << 30


def test_a_callers_lower_limit_ends_the_process_no_sooner(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog counts from the limit of all queries; the engine applies the caller's."""
    seen: list[float] = []
    over = engine.watch.over

    def noted(query_id: str, limit_s: float, gone: Flag) -> AbstractContextManager[str]:
        seen.append(limit_s)
        return over(query_id, limit_s, gone)

    monkeypatch.setattr(engine.watch, "over", noted)
    sql = "SELECT getSetting('max_execution_time')"
    assert (
        bytes(engine.read(Job(sql, "TabSeparated", settings={"max_execution_time": "1"})).content)
        == b"1\n"
    )
    assert seen == [engine.limits.seconds_max]


def test_rows_are_on_the_disk_before_an_insert_is_answered(engine: Engine) -> None:
    """After inserts and after merges: the sink commits its offsets then."""
    sql = "SELECT name, value FROM system.merge_tree_settings WHERE changed ORDER BY name"
    assert asked(engine, sql).decode().splitlines() == [
        "fsync_after_insert\t1",
        "fsync_part_directory\t1",
        "min_rows_to_fsync_after_merge\t1",
    ]
