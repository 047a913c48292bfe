"""The sink's listener: its token, and ClickHouse's HTTP interface with data after statements."""

import base64
import gzip
import hashlib
import http.client
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest

from analytics.warehouse import private
from tests.schemas.listening import everything
from tests.warehouses import OpenWarehouse, open_warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A warehouse with one table."""
    with open_warehouse(tmp_path_factory.mktemp("private")) as opened:
        status, text, _ = send(opened, b"CREATE TABLE t (a UInt32, b String) ENGINE = Memory")
        assert status == 200, text
        yield opened


def send(
    warehouse: OpenWarehouse, body: object, headers: dict[str, str] | None = None, /, **asked: str
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers (lower case) of one request; with the token unless told otherwise.

    ``body``: bytes, or an iterable of bytes that is sent in chunks.
    """
    parts = urlsplit(warehouse.settings.clickhouse_dsn.get_secret_value())
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=60)
    sent = {"X-ClickHouse-User": "sink", "X-ClickHouse-Key": parts.password or ""}
    try:
        connection.request(
            "POST", f"/?{urlencode(asked)}", body=body,  # type: ignore[arg-type]
            headers=sent if headers is None else headers,
        )  # fmt: skip
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.read().decode("utf-8", "replace"), got
    finally:
        connection.close()


def rows(warehouse: OpenWarehouse) -> str:
    """The rows of the table, which is then emptied."""
    text = send(warehouse, b"SELECT * FROM t ORDER BY a")[1]
    send(warehouse, b"TRUNCATE TABLE t")
    return text


def token_of(warehouse: OpenWarehouse) -> str:
    """The token."""
    return urlsplit(warehouse.settings.clickhouse_dsn.get_secret_value()).password or ""


def test_the_token_is_needed(warehouse: OpenWarehouse) -> None:
    """In ClickHouse's header or by HTTP Basic, never in the URL; without it nothing runs."""
    token = token_of(warehouse)
    basic = base64.b64encode(f"sink:{token}".encode()).decode()
    for headers in ({"X-ClickHouse-Key": token}, {"Authorization": f"Basic {basic}"}):
        assert send(warehouse, b"SELECT 7", headers)[:2] == (200, "7\n")
    wrong: list[dict[str, str]] = [
        {},
        {"X-ClickHouse-Key": ""},
        {"X-ClickHouse-Key": token[:-1]},
        {"X-ClickHouse-Key": token.swapcase()},
        {"X-ClickHouse-User": token},
        {"Authorization": f"Basic {basic[:-2]}"},
        {"Authorization": "Basic ????"},
    ]
    for headers in wrong:
        status, text, got = send(warehouse, b"INSERT INTO t VALUES (1, 'x')", headers)
        assert (status, got["x-clickhouse-exception-code"]) == (403, "516"), headers
        assert token not in text
    assert send(warehouse, b"SELECT 7", {}, user="sink", password=token)[0] == 403
    assert rows(warehouse) == ""


def test_each_request_of_a_connection_brings_the_token(warehouse: OpenWarehouse) -> None:
    """An earlier request's token does not count, not even for a pipelined request."""
    parts = urlsplit(warehouse.settings.clickhouse_dsn.get_secret_value())
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{parts.port}\r\nContent-Length: 8\r\n"
    proven = f"{head}X-ClickHouse-Key: {parts.password}\r\n\r\nSELECT 1"
    last = f"{head}Connection: close\r\n\r\nSELECT 1"
    with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=60) as sock:
        sock.sendall((proven + proven + last).encode())
        answers = everything(sock)
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answers)
    assert statuses == [b"200", b"200", b"403"]


async def test_without_a_listener_that_judges_it_nobody_is_proven(warehouse: OpenWarehouse) -> None:
    """The application alone trusts no header."""
    token = "a-token"
    digest = hashlib.sha256(token.encode()).hexdigest()
    app = private.Private(warehouse.engine, warehouse.metrics, digest).app
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
    ) as client:
        answer = await client.post("/", content="SELECT 1", headers={"X-ClickHouse-Key": token})
    assert answer.status_code == 403


INSERT = "INSERT INTO t (a, b) FORMAT CSV"
DATA = b"1,x\n2,y\n"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (DATA, {"query": INSERT}),
        (INSERT.encode() + b"\n" + DATA, {}),
        ([b"INS", b"ERT INTO t (a, b) FORM", b"AT CSV\n1,", b"x\n2,y", b"\n"], {}),
        ([b"1,", b"x\n2,y\n"], {"query": INSERT}),
        (b"INSERT INTO t VALUES (1, 'x'), (2, 'y')", {}),
        (b"", {"query": "INSERT INTO t VALUES (1, 'x'), (2, 'y')"}),
        (b"INSERT INTO t SELECT number + 1, if(number = 1, 'y', 'x') FROM numbers(2)", {}),
        (
            DATA,
            {"query": "INSERT INTO t SELECT a, b FROM input('a UInt32, b String') FORMAT CSV"},
        ),
    ],
)
def test_data_comes_beside_a_statement_or_behind_it(
    warehouse: OpenWarehouse, body: object, asked: dict[str, str]
) -> None:
    """In one part or several, cut anywhere; the answer says what was written."""
    status, text, headers = send(warehouse, body, **asked)
    assert (status, text) == (200, "")
    told = json.loads(headers["x-clickhouse-summary"])
    assert told.get("written_rows", "2") == "2"  # engines before 26.9 do not tell
    assert rows(warehouse) == "1\tx\n2\ty\n"


@pytest.mark.parametrize("asked", [{"query": INSERT}, {}])
def test_data_may_be_compressed(warehouse: OpenWarehouse, asked: dict[str, str]) -> None:
    """With a content encoding, as clickhouse-connect does."""
    body = gzip.compress(DATA if asked else INSERT.encode() + b"\n" + DATA)
    headers = {"X-ClickHouse-Key": token_of(warehouse), "Content-Encoding": "gzip"}
    assert send(warehouse, body, headers, **asked)[0] == 200
    assert rows(warehouse) == "1\tx\n2\ty\n"


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b"SELECT hex('caf\xe9')", ""),
        (b"SELECT hex('x')", "?query=SELECT%20hex('%E9')"),
        (b"SELECT hex({x:String})", "?param_x=%E9"),
        (b"INSERT INTO t SELECT 1, '\xe9'", ""),
        (b"INSERT INTO t (a, `\xe9`) FORMAT CSV\n1,x\n", ""),
        (b"SELECT 1", "?database=%ED%A0%80"),
        (b"SELECT hex('x')", "?%E9=1"),
    ],
)
def test_other_bytes_than_text_are_refused(
    warehouse: OpenWarehouse, body: bytes, query: str
) -> None:
    """On both listeners, never replaced; data may contain any bytes."""
    private_url = warehouse.settings.clickhouse_dsn.get_secret_value().partition("@")[2]
    for at in (f"127.0.0.1:{warehouse.port}/", private_url.partition("/")[0] + "/"):
        request = urllib.request.Request(
            f"http://{at}{query}", data=body, headers={"X-ClickHouse-Key": token_of(warehouse)}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert (caught.value.code, caught.value.headers["X-ClickHouse-Exception-Code"]) == (
            400,
            "62",
        )
        assert "unhex(" in caught.value.read().decode()
    assert rows(warehouse) == ""


@pytest.mark.parametrize("character", ["é", "日本", "😀"])
def test_any_text_is_taken(warehouse: OpenWarehouse, character: str) -> None:
    """In a body, in a URL, as a parameter; and other bytes as data."""
    asked = character.encode().hex().upper() + "\n"
    for body, parameters in (
        (f"SELECT hex('{character}')", {}),
        ("", {"query": f"SELECT hex('{character}')"}),
        ("SELECT hex({x:String})", {"param_x": character}),
    ):
        assert send(warehouse, body.encode(), **parameters)[1] == asked
    assert send(warehouse, b"1,\xe9\n", query=INSERT)[0] == 200
    assert send(warehouse, INSERT.encode() + b"\n2,\xe9\n")[0] == 200
    assert send(warehouse, b"SELECT DISTINCT hex(b) FROM t")[1] == "E9\n"
    send(warehouse, b"TRUNCATE TABLE t")


def test_a_slow_insert_outlasts_a_flood_of_strangers(warehouse: OpenWarehouse) -> None:
    """Ten times as many connections as there are slots, half of them with a request without the
    token: the insert is stored, and so is the next one on a new connection."""
    flood: list[socket.socket] = []
    port = urlsplit(warehouse.settings.clickhouse_dsn.get_secret_value()).port or 0

    def slow() -> Iterator[bytes]:
        for at in range(10):
            yield b"%d," % at + b"x" * (1 << 20) + b"\n"
            for number in range(private.LIMITS.connections_max):
                flood.append(socket.create_connection(("127.0.0.1", port), timeout=10))
                if number % 2:
                    flood[-1].sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")

    try:
        assert send(warehouse, slow(), query=INSERT)[:2] == (200, "")
        assert send(warehouse, b"SELECT count() FROM t")[:2] == (200, "10\n")
    finally:
        for sock in flood:
            sock.close()
        send(warehouse, b"TRUNCATE TABLE t")


def test_data_that_is_refused_is_not_stored_and_said(warehouse: OpenWarehouse) -> None:
    """With ClickHouse's code, which tells the sink that the rows are bad."""
    status, text, headers = send(warehouse, b"one,x\n", query=INSERT)
    assert (status, headers["x-clickhouse-exception-code"]) == (400, "27"), text
    assert rows(warehouse) == ""


def test_too_much_data_is_refused(
    warehouse: OpenWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it fills the memory."""
    monkeypatch.setattr(private, "INSERT_BYTES_MAX", 1000)
    status, text, _ = send(warehouse, b"1,x\n" * 300, query=INSERT)
    assert (status, "1000 bytes" in text) == (400, True)
    assert rows(warehouse) == ""


def test_settings_database_and_parameters_are_taken(warehouse: OpenWarehouse) -> None:
    """As with any ClickHouse."""
    sql = b"SELECT currentDatabase(), getSetting('max_threads'), {x:String} FORMAT JSONCompact"
    status, text, headers = send(
        warehouse, sql, database="system", max_threads="3", param_x="it's", query_id="mine"
    )
    assert (status, json.loads(text)["data"]) == (200, [["system", 3, "it's"]])
    assert headers["x-clickhouse-query-id"] == "mine"
    assert headers["x-clickhouse-format"] == "JSONCompact"


def test_a_page_of_another_site_is_refused(warehouse: OpenWarehouse) -> None:
    """Also with the token."""
    key = {"X-ClickHouse-Key": token_of(warehouse)}
    for headers in (
        {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):  # fmt: skip
        assert send(warehouse, b"SELECT 1", {**key, **headers})[0] == 403
    through_a_proxy = {"Host": "127.0.0.1:1"}
    assert send(warehouse, b"SELECT 1", {**key, **through_a_proxy})[0] == 200


def test_a_query_whose_analyst_went_away_is_killed(warehouse: OpenWarehouse) -> None:
    """Within moments, long before its limit; its slot is free again."""
    slow = "SELECT sum(cityHash64(number)) FROM numbers(100000000000)"
    _until(lambda: not warehouse.engine.watch.running())  # or it would be taken for this one
    kills = warehouse.metrics.kills._value.get()
    with socket.create_connection(("127.0.0.1", warehouse.port)) as caller:
        caller.sendall(f"GET /?query={quote(slow)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        _until(lambda: len(warehouse.engine.watch.running()) == 1)
    _until(lambda: not warehouse.engine.watch.running())
    assert warehouse.metrics.kills._value.get() == kills + 1


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
