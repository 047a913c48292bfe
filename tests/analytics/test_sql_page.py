"""The page ``/sql``: what it answers, to whom, and what no page of another site gets done by it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from analytics.dashboard import create_app
from analytics.dashboard.access import HEADERS
from analytics.dashboard.asking import Parameters, Rows
from analytics.dashboard.sql import asking
from analytics.dashboard.sql.asking import FORMS, ROWS_SHOWN_MAX, DoorClient
from analytics.dashboard.sql.page import ASKED_BY, BODY_BYTES_MAX
from schemas.errors import Unavailable
from schemas.settings import Settings
from tests.warehouses import OpenWarehouse, migrated_warehouse

OURS = {ASKED_BY[0]: ASKED_BY[1], "content-type": "application/json"}
BASE = "http://127.0.0.1:8081"
TOKEN = "token-of-the-dashboard"
DOOR_TOKEN = "token-of-the-door"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """A door that asks for a token, with our views and a campaign."""
    folder = tmp_path_factory.mktemp("sql")
    with migrated_warehouse(folder, door_token=DOOR_TOKEN) as (opened, client):
        client.command(
            "INSERT INTO campaigns (campaign_id, name, updated_at)"
            " VALUES ('spring', '<script>alert(1)</script>', now64(6))"
        )
        yield opened


async def _nothing(_sql: str, _parameters: Parameters) -> Rows:
    raise Unavailable("not asked in this test")


@asynccontextmanager
async def page(opened: OpenWarehouse, dsn: str = "", **settings: Any) -> AsyncIterator[Any]:
    """A client of a dashboard that asks this door; viewers see addresses unless told otherwise."""
    asked = Settings(**{"dashboard_show_recipients": True, **settings})
    reader = opened.reader_settings_with(DOOR_TOKEN).clickhouse_dsn.get_secret_value()
    door = DoorClient(dsn or reader)
    app = create_app(asked, _nothing, wall=lambda: 1e9, door=door)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client
    await door.close()


async def run(client: Any, sql: object, form: object = "table", **headers: str) -> Any:
    """Runs a query as the page does."""
    body = json.dumps({"sql": sql, "form": form}).encode()
    return await client.post("/sql/run", content=body, headers=OURS | headers)


async def test_a_query_is_answered_by_the_door(opened: OpenWarehouse) -> None:
    """As a table, CSV and Parquet; what cannot run is told in the door's words."""
    async with page(opened) as client:
        found = (await run(client, "SELECT campaign_id, name FROM campaigns")).json()
        assert [column["name"] for column in found["meta"]] == ["campaign_id", "name"]
        assert found["data"] == [["spring", "<script>alert(1)</script>"]]
        saved = await run(client, "SELECT campaign_id FROM campaigns", "csv")
        assert saved.text == '"campaign_id"\n"spring"\n'
        assert saved.headers["content-disposition"].startswith("attachment")
        parquet = await run(client, "SELECT campaign_id FROM campaigns", "parquet")
        assert parquet.content[:4] == parquet.content[-4:] == b"PAR1"
        for sql, words in (
            ("SELEC 1", "Syntax error"),
            ("SELECT * FROM nowhere", "nowhere"),
            ("SELECT avg(open_rate) FROM campaign_summary", "divide the sums"),
            ("SELECT 1 FORMAT Null", "Leave FORMAT out"),
        ):
            answer = await run(client, sql)
            assert answer.status_code == 400
            assert words in answer.json()["problem"]


async def test_what_is_shown_is_bounded_and_a_download_is_whole(
    opened: OpenWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row more than is shown tells that there are more; bytes are bounded too."""
    sql = "SELECT number FROM system.numbers LIMIT 5000"
    async with page(opened) as client:
        assert len((await run(client, sql)).json()["data"]) == ROWS_SHOWN_MAX + 1
        assert (await run(client, sql, "csv")).text.count("\n") == 5_001
        wide = await run(client, "SELECT repeat('x', 100000) FROM system.numbers LIMIT 900")
        assert "larger than 8 MB" in wide.json()["problem"]
        # places are free again after each of them
        for _ in range(asking.AT_ONCE + 1):
            assert (await run(client, "SELECT 1")).status_code == 200


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO campaigns (campaign_id) VALUES ('x')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT 1 SETTINGS max_execution_time = 100000, readonly = 0",
        "SELECT 1; DROP TABLE events",
        "DROP TABLE events",
        "SET readonly = 0",
        "SYSTEM SHUTDOWN",
        "KILL QUERY WHERE 1",
    ],
)
@pytest.mark.parametrize("form", FORMS)
async def test_nothing_but_reading_gets_through(opened: OpenWarehouse, sql: str, form: str) -> None:
    """The door's own refusals hold for the page: it asks with no other right."""
    async with page(opened) as client:
        answer = await run(client, sql, form)
        assert answer.status_code == 400
        assert "Code: " in answer.json()["problem"]


OTHER_SITES: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8081.evil.example"},
    {"origin": "http://127.0.0.1:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"host": "evil.example"},
    {"host": "evil.example", "origin": "http://evil.example"},
    {ASKED_BY[0]: "other"},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
]


@pytest.mark.parametrize("headers", OTHER_SITES, ids=lambda one: " ".join(one.values()))
async def test_no_page_of_another_site_runs_a_query(
    opened: OpenWarehouse, headers: dict[str, str]
) -> None:
    """Forms, fetches without CORS, rebound names: refused before the door is asked."""
    async with page(opened) as client:
        answer = await run(client, "SELECT 1", **headers)
        assert answer.status_code in (400, 403)
        assert "meta" not in answer.text
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_no_address_runs_a_query(opened: OpenWarehouse, method: str) -> None:
    """Only a POST does; the page itself takes nothing from its address."""
    async with page(opened) as client:
        answer = await client.request(method, "/sql/run?sql=SELECT+1&form=table", headers=OURS)
        assert answer.status_code == 405
        told = (await client.get("/sql?sql=SELECT+%3Cscript%3E")).text
        assert "SELECT <" not in told
        assert "script%3E" not in told


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"sql": 1, "form": "table"}', b'{"sql": "SELECT 1"}',
     b'{"sql": "SELECT 1", "form": "Native"}', b'{"sql": " ", "form": "table"}',
     b'{"sql": "SELECT 1", "form": ["table"]}', b"\xff" * 10,
     b'{"sql": "' + b"x" * BODY_BYTES_MAX + b'", "form": "table"}'],
)  # fmt: skip
async def test_a_body_that_the_page_does_not_send_is_refused(
    opened: OpenWarehouse, body: bytes
) -> None:
    """With words, and without a trace of it at the door."""
    async with page(opened) as client:
        answer = await client.post("/sql/run", content=body, headers=OURS)
        assert answer.status_code == 400
        assert answer.json()["problem"]


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({"dashboard_show_recipients": True}, True),
        ({"dashboard_show_recipients": False}, False),
        ({"dashboard_show_recipients": False, "dashboard_token": SecretStr(TOKEN)}, False),
        ({"dashboard_show_recipients": True, "dashboard_token": SecretStr(TOKEN)}, True),
    ],
)
async def test_it_shows_no_address_to_who_may_not_see_one(
    opened: OpenWarehouse, settings: dict[str, Any], is_open: bool
) -> None:
    """Nor to whoever has no token of a door that asks for one."""
    signed_in = {"authorization": f"Bearer {TOKEN}"}
    async with page(opened, **settings) as client:
        assert (await client.get("/sql", headers=signed_in)).status_code == (
            200 if is_open else 403
        )
        answer = await run(client, "SELECT recipient FROM email_events", **signed_in)
        assert answer.status_code == (200 if is_open else 403)
        schema = await client.get("/sql/schema", headers=signed_in)
        assert schema.status_code == (200 if is_open else 403)


async def test_nobody_asks_without_signing_in(opened: OpenWarehouse) -> None:
    """Where the dashboard has a sign-in."""
    async with page(opened, dashboard_token=SecretStr(TOKEN)) as client:
        assert (await run(client, "SELECT 1")).status_code == 401
        assert (await client.get("/sql")).status_code == 303


async def test_only_the_door_is_asked(opened: OpenWarehouse) -> None:
    """The sink's listener has all rights, and a server has its own: they get no query."""
    private = opened.settings.clickhouse_dsn.get_secret_value()
    async with page(opened, dsn=private) as client:
        answer = await run(client, "SELECT 1")
        assert answer.status_code == 503
        assert "something else" in answer.json()["problem"]


async def test_a_server_in_the_doors_place_is_noticed() -> None:
    """Also when it takes the place between two queries."""
    asked: list[str] = []
    answers = iter(({"x-mailpulse-door": "read-only"}, {}))

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request.content.decode())
        return httpx.Response(200, headers=next(answers), content=b"1")

    door = DoorClient("http://default:@127.0.0.1:1/x", httpx.MockTransport(server))
    with pytest.raises(Unavailable, match="something else"):
        await door.run("SELECT 1", FORMS["table"])
    assert asked == ["", "SELECT 1"]


async def test_queries_wait_for_a_place_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can keep the door's places for himself from this page."""
    monkeypatch.setattr(asking, "WAIT_S_MAX", 0.05)
    hangs = asyncio.Event()

    async def server(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            await hangs.wait()
        return httpx.Response(200, headers={"x-mailpulse-door": "read-only"})

    door = DoorClient("http://default:@127.0.0.1:1/x", httpx.MockTransport(server))
    running = [asyncio.ensure_future(door.run("SELECT 1", FORMS["csv"])) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="try again"):
        await door.run("SELECT 1", FORMS["csv"])
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    monkeypatch.setattr(asking, "WAIT_S_MAX", 5.0)
    again = asyncio.ensure_future(door.run("SELECT 1", FORMS["csv"]))
    await asyncio.sleep(0.01)
    assert not again.done(), "it has a place, and waits for the door"
    again.cancel()


@pytest.mark.parametrize("breaks_at", ["http.response.start", "http.response.body", ""])
@pytest.mark.parametrize("form", ["table", "csv", "parquet"])
async def test_a_reader_who_leaves_leaves_its_place(form: str, breaks_at: str) -> None:
    """Whenever it leaves while the result is sent, or if it stays: the next ones are answered."""
    answered = {"x-mailpulse-door": "read-only", "x-clickhouse-format": FORMS[form].name}
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers=answered, content=b'"a"\n"b"\n')
    )
    door = DoorClient("http://default:@127.0.0.1:1/x", transport)
    app = create_app(
        Settings(dashboard_show_recipients=True), _nothing, wall=lambda: 1e9, door=door
    )
    body = json.dumps({"sql": "SELECT 1", "form": form}).encode()

    async def send(message: Any) -> None:
        if message["type"] == breaks_at:
            raise OSError("the connection is gone")

    for _ in range(2 * asking.AT_ONCE):
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive(left: Any = messages) -> Any:
            message = next(left, None)
            if message is None:
                await asyncio.Event().wait()
            return message

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "method": "POST",
            "path": "/sql/run", "raw_path": b"/sql/run", "query_string": b"", "root_path": "",
            "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8081),
            "headers": [(b"host", b"127.0.0.1:8081")]
            + [(name.encode(), value.encode()) for name, value in OURS.items()],
        }  # fmt: skip
        with suppress(OSError, ClientDisconnect):
            await asyncio.wait_for(app(scope, receive, send), 5.0)
    places = [await asyncio.wait_for(door.run("SELECT 1", FORMS[form]), 5.0) for _ in range(2)]
    for place in places:
        await place.close()


async def test_a_query_that_nobody_waits_for_is_killed(opened: OpenWarehouse) -> None:
    """The door's limit of time is not waited for."""
    door = DoorClient(opened.reader_settings_with(DOOR_TOKEN).clickhouse_dsn.get_secret_value())
    kills, running = opened.metrics.kills, opened.engine.watch.running
    before = kills._value.get()
    endless = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"
    asked = asyncio.ensure_future(door.run(endless, FORMS["csv"]))
    while not any(one.query_id != "being judged" for one in running()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    while running():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert kills._value.get() > before
    await door.close()


async def test_figures_arrive_as_they_are(opened: OpenWarehouse) -> None:
    """What JSON has no word for, and what JavaScript would round."""
    async with page(opened) as client:
        sql = (
            "SELECT inf, -inf, nan, NULL, 18446744073709551615,"
            " toDecimal128('12345678901234567890.123', 3), [9007199254740993]"
        )
        told = ["inf", "-inf", "nan", None, "18446744073709551615", "12345678901234567890.123"]
        assert (await run(client, sql)).json()["data"] == [[*told, ["9007199254740993"]]]


async def test_no_text_of_a_csv_is_run_by_a_spreadsheet(opened: OpenWarehouse) -> None:
    """Also one that names a column; a number below 0 stays a number."""
    async with page(opened) as client:
        saved = await run(client, "SELECT '=1+1' AS `@a`, 'x\"\"=1' AS b, -1 AS c", "csv")
        assert saved.text == '"\'@a","b","c"\n"\'=1+1","x""""=1",-1\n'


async def test_schema_has_what_analysts_see_with_its_words(opened: OpenWarehouse) -> None:
    """Views first, their comments and those of columns; nothing that is hidden."""
    async with page(opened) as client:
        found = (await client.get("/sql/schema")).json()["data"]
        tables = {row[0]: row[1] for row in found}
        assert tables["campaign_summary"].startswith("One row per campaign")
        assert "Parameters: a and b" in tables["compare"]
        assert "schema_migrations" not in tables
        told = {(row[0], row[2]): row[4] for row in found}
        assert told["email_events", "recipient"]


async def test_every_starter_runs(opened: OpenWarehouse) -> None:
    """The ten questions, as they stand, also while there are no events."""
    async with page(opened) as client:
        starters = (await client.get("/sql/starters")).json()
        assert len(starters) == 10
        for one in starters:
            assert "?" in one["question"]
            answer = await run(client, one["sql"])
            assert answer.status_code == 200, answer.text


async def test_topics_are_documented_without_a_network(opened: OpenWarehouse) -> None:
    """Every topic with its fields and a sample; the AsyncAPI document and the schemas beside it."""
    async with page(opened) as client:
        text = (await client.get("/docs")).text
        assert text.count("<section") == text.count("</section>") > 10
        assert "first_human" in text
        assert "http://" not in text.replace("http://127", "")
        assert (await client.get("/docs/asyncapi.yaml")).text.startswith("# Made by")
        name = "email.engagement.v1"
        assert (await client.get(f"/docs/{name}.avsc")).json()["name"]
        assert (await client.get(f"/docs/{name}.sample.json")).json()["kind"] == "clicked"
        assert (await client.get("/docs/nothing.avsc")).status_code == 404
        assert "unsafe" not in HEADERS["content-security-policy"]
