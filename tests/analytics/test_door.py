"""The analysts' listener as its clients see it: curl, clickhouse-connect, and Grafana over HTTP."""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from analytics.client import connect
from analytics.door.encodings import decoded, encoded
from analytics.warehouse.limits import QueryLimits
from tests.warehouses import OpenWarehouse as OpenDoor
from tests.warehouses import migrated_warehouse


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """An open door with tight limits."""
    limits = QueryLimits(
        seconds_max=3,
        memory_bytes_max=100 << 20,
        result_bytes_max=1 << 20,
        concurrent_max=2,
        wait_s_max=1.0,
    )
    with migrated_warehouse(tmp_path_factory.mktemp("door"), limits) as (opened, _):
        yield opened


@pytest.fixture(scope="module")
def client(door: OpenDoor) -> Iterator[Client]:
    """clickhouse-connect's HTTP client, as an analyst makes one."""
    made = clickhouse_connect.get_client(host="127.0.0.1", port=door.port)
    yield made
    made.close()


def call(
    door: OpenDoor, sql: str, *, body: bytes | None = None, headers: dict[str, str] | None = None,
    **parameters: str,
) -> tuple[int, str, dict[str, str]]:  # fmt: skip
    """Status, text and headers (lower case) of one request."""
    asked = {"query": sql, **parameters} if sql else parameters
    request = urllib.request.Request(
        f"{door.url}/?{urllib.parse.urlencode(asked)}", data=body, headers=headers or {}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            content, status, got = answer.read(), answer.status, answer.headers
    except urllib.error.HTTPError as error:
        content, status, got = error.read(), error.code, error.headers
    lower = {name.lower(): value for name, value in got.items()}
    if "content-encoding" in lower:
        content = decoded(content, lower["content-encoding"], 1 << 30)
    return status, content.decode("utf-8", "replace"), lower


def _named(setting: str) -> dict[str, Any]:
    return {setting: "1"}


def test_ping_and_greeting_are_clickhouses(door: OpenDoor) -> None:
    """Load balancers and browsers get the answers that they expect."""
    for path in ("/ping", "/"):
        with urllib.request.urlopen(door.url + path, timeout=10) as answer:
            assert answer.read() == b"Ok.\n"


def test_curl_gets_every_format(door: OpenDoor) -> None:
    """By FORMAT clause, by default_format, by header; in the URL and in the body."""
    base = ["curl", "-sS", "--max-time", "20"]
    tries = (
        (["--get", "--data-urlencode", "query=SELECT 1 AS x FORMAT JSONEachRow", door.url],
         '{"x":1}\n'),
        (["--data-binary", "SELECT 1 AS x", f"{door.url}/?default_format=CSVWithNames"],
         '"x"\n1\n'),
        (["-H", "X-ClickHouse-Format: TSKV", "--data-binary", "SELECT 1 AS x", door.url], "x=1\n"),
        (["--data-binary", " + 1 AS x", f"{door.url}/?query=SELECT%201"], "2\n"),
        (["--compressed", "--data-binary", "SELECT 1", f"{door.url}/?enable_http_compression=1"],
         "1\n"),
    )  # fmt: skip
    for arguments, expected in tries:
        done = subprocess.run([*base, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout == expected, arguments


def test_clickhouse_connect_reads_views_and_binds_parameters(client: Client) -> None:
    """Rows, column names of an empty result, parameters and data frames come as from a server."""
    empty = client.query("SELECT campaign_id, bounce_rate, click_rate FROM campaign_summary")
    assert empty.result_rows == []
    assert tuple(empty.column_names) == ("campaign_id", "bounce_rate", "click_rate")
    bound = client.query("SELECT {a:UInt32} + 1, {b:String}", parameters={"a": 3, "b": "it's"})
    assert bound.result_rows == [(4, "it's")]
    assert client.query_df("SELECT number AS n FROM numbers(3)")["n"].sum() == 3


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, 60),
        ("SELECT nothing FROM events", 404, 47),
        ("SELEC 1", 400, 62),
        ("SELECT 1 +", 400, 62),
        ("DROP TABLE events", 400, 164),
        ("SELECT 1 SETTINGS max_threads = 'x'", 400, 164),
        ("SELECT * FROM (SELECT 1 SETTINGS max_threads = 1)", 403, 497),
        ("SELECT file('/etc/hostname')", 403, 497),
        ("DESCRIBE url('http://127.0.0.1:9/')", 403, 497),
        ("SELECT 1 INTO OUTFILE 'x'", 403, 497),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT toUUID('zz')", 400, 376),
        ("SELECT 1 FORMAT Nonsense", 404, 73),
    ],
)
def test_errors_are_worded_as_clickhouse_words_them(
    door: OpenDoor, sql: str, status: int, code: int
) -> None:
    """Status, code header, «Code: N. DB::Exception: …», name and version."""
    got, text, headers = call(door, sql)
    assert (got, headers["x-clickhouse-exception-code"]) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert "(version 2" in text


@pytest.mark.parametrize(
    "setting",
    ["readonly", "max_threads", "max_execution_time", "output_format_json_quote_64bit_integers"],
)
def test_harmless_settings_are_taken(door: OpenDoor, setting: str) -> None:
    """Clients send these without being asked; a limit is lowered, never raised."""
    assert call(door, "SELECT 1", **_named(setting))[0] == 200
    sql = "SELECT getSetting('max_execution_time')"
    assert call(door, sql, max_execution_time="999")[1] == "3\n"
    assert call(door, f"{sql} SETTINGS max_execution_time = 999")[1] == "3\n"


@pytest.mark.parametrize(
    "setting", ["allow_ddl", "format_schema", "max_threadz", "user_files_path"]
)
def test_other_settings_are_refused(door: OpenDoor, setting: str) -> None:
    """A setting that could weaken the restrictions is refused as read-only mode refuses it."""
    status, text, _ = call(door, "SELECT 1", **_named(setting))
    assert (status, "READONLY" in text) == (400, True)


ENCODINGS = ("zstd", "br", "lz4", "gzip", "deflate")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bodies_may_be_compressed_and_are_bounded(door: OpenDoor, encoding: str) -> None:
    """A body that decompresses to more than the limit of a query is refused, and so is a corrupt
    one."""
    packed = {"Content-Encoding": encoding}
    assert call(door, "", body=encoded(b"SELECT 7", encoding), headers=packed)[1] == "7\n"
    bomb = encoded(b" " * (20 << 20), encoding)
    for bad in (bomb, b"not what it says", encoded(b"SELECT 7", encoding)[:-3]):
        assert call(door, "", body=bad, headers=packed)[0] == 400


def test_unknown_encoding_of_a_body_is_told(door: OpenDoor) -> None:
    """With ClickHouse's code for an unknown encoding."""
    status, text, _ = call(door, "", body=b"SELECT 1", headers={"Content-Encoding": "snappy"})
    assert (status, "NOT_IMPLEMENTED" in text) == (501, True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_results_come_in_the_encoding_asked_for(door: OpenDoor, encoding: str) -> None:
    """Each that clients name, and only with enable_http_compression, as in ClickHouse."""
    sql, wanted = "SELECT number FROM numbers(1000)", {"Accept-Encoding": encoding}
    plain = call(door, sql)[1]
    _, text, headers = call(door, sql, headers=wanted, enable_http_compression="1")
    assert (headers["content-encoding"], text) == (encoding, plain)
    _, text, headers = call(door, sql, headers=wanted)
    assert ("content-encoding" in headers, text) == (False, plain)


@pytest.mark.parametrize("compress", [True, False, *ENCODINGS[:4]])
def test_clickhouse_connect_reads_with_any_compression(
    door: OpenDoor, compress: bool | str
) -> None:
    """Its default is all of them; any one can be chosen."""
    made = clickhouse_connect.get_client(host="127.0.0.1", port=door.port, compress=compress)
    try:
        assert made.query("SELECT sum(number) FROM numbers(1000)").result_rows == [(499_500,)]
    finally:
        made.close()


def test_time_memory_and_result_are_limited(door: OpenDoor) -> None:
    """A query that exceeds a limit gets ClickHouse's error, and the next one is served."""
    for sql, code in (
        ("SELECT sum(cityHash64(number)) FROM numbers(100000000000)", "159"),
        ("SELECT length(groupArray(number)) FROM numbers(100000000)", "241"),
        ("SELECT repeat('x', 100) FROM numbers(100000)", "396"),
    ):
        assert call(door, sql)[2]["x-clickhouse-exception-code"] == code
    assert call(door, "SELECT 1")[1] == "1\n"


def test_inserts_go_on_while_every_place_is_taken(door: OpenDoor) -> None:
    """Queries beyond the limit are refused with a message; the sink goes on writing."""
    slow = "SELECT sum(cityHash64(number)) FROM numbers(100000000000)"
    hogs = [threading.Thread(target=call, args=(door, slow)) for _ in range(2)]
    owner = connect(door.settings)
    for hog in hogs:
        hog.start()
    while len(door.engine.watch.running()) < len(hogs):
        time.sleep(0.01)
    try:
        owner.command("INSERT INTO campaigns (campaign_id, name) VALUES ('spring', 'Spring')")
        status, _, headers = call(door, "SELECT 1")
        assert (status, headers["x-clickhouse-exception-code"]) == (503, "202")
        assert headers["retry-after"] == "1"
    finally:
        for hog in hogs:
            hog.join()
        owner.close()
    assert call(door, "SELECT name FROM campaigns")[1] == "Spring\n"


def test_nothing_of_a_query_reaches_the_next(door: OpenDoor, client: Client) -> None:
    """Each query has a session of its own; a session id is accepted and ignored."""
    sql = "SELECT getSetting('join_use_nulls')"
    for _ in range(2):
        assert call(door, sql, session_id="s", join_use_nulls="1")[1] == "true\n"
    assert call(door, sql, session_id="s")[1] == "false\n"
    with pytest.raises(DatabaseError, match="READONLY"):
        client.command("SET max_threads = 1")


@pytest.mark.parametrize(
    "sql",
    [
        # the plugin's health check, its lists of databases, tables and columns, and a time series
        "SELECT 1",
        "SHOW DATABASES",
        "SHOW TABLES FROM mailpulse",
        "DESC TABLE mailpulse.campaign_summary",
        "SELECT name FROM system.databases",
        "SELECT name, type FROM system.columns WHERE database = 'mailpulse' AND table = 'events'",
        "SELECT toStartOfInterval(minute, INTERVAL 60 second) AS time, sum(delivered) AS delivered"
        " FROM mailpulse.campaign_minutes FINAL WHERE minute >= toDateTime(1790000000)"
        " AND minute <= toDateTime(1790086400) GROUP BY time ORDER BY time ASC LIMIT 1000",
        "SELECT version()",
        "SELECT timezone()",
    ],
)
def test_queries_of_grafanas_data_source_are_answered(door: OpenDoor, sql: str) -> None:
    """As the data source words them, with the parameters that its HTTP protocol adds."""
    status, text, headers = call(
        door, "", body=sql.encode(), default_format="JSON", database="default",
        max_execution_time="60", query_id="grafana-1", wait_end_of_query="1",
        headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": ""},
    )  # fmt: skip
    assert status == 200, text
    assert headers["x-clickhouse-query-id"] == "grafana-1"
    assert "data" in json.loads(text)
