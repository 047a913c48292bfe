"""What happened to one recipient's messages, on the real engine, by the page and the command."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import SecretStr

from analytics.client import reader
from analytics.dashboard import create_app
from analytics.dashboard.asking import ClickHouseQuery
from analytics.history.answer import History, history
from analytics.history.questions import ASKED_CHARS_MAX, Mode, asked
from analytics.history.words import Words
from schemas.errors import Unavailable
from schemas.identity import address_identity
from schemas.recipient_hash import keyed_hash
from schemas.settings import Settings
from streams.cli.main import main
from tests.contracts.warehouse import Warehouse
from tests.schemas.test_identity import SAME
from tests.spellings import traces
from tests.warehouses import OpenWarehouse, migrated_warehouse

KEY = b"a key of this test"
NOW = float(int(time.time()))
ADDRESS = "kanarie.b+news@b\u00fccher.example"
TOKEN = "a-token-for-tests-0123456789"
HOSTILE = "m'1\" OR 1=1; --\\x27{value:String}\t\n<script>alert(1)</script>%40&amp;"
AWAY = "someone@else.example"


class Store:
    """A warehouse, and its rows of one mode of privacy."""

    def __init__(self, warehouse: OpenWarehouse, loaded: Warehouse) -> None:
        self.settings = warehouse.reader_settings
        self.loaded = loaded

    def add(self, recipient: str, kind: str, seconds_ago: float, **more: Any) -> None:
        """One event."""
        at = datetime.fromtimestamp(NOW - seconds_ago, UTC)
        identity = recipient if recipient.startswith("h:") else address_identity(recipient)
        row: dict[str, Any] = {
            "campaign_id": "spring", "message_key": uuid.uuid5(uuid.NAMESPACE_URL, recipient),
            "event_id": uuid.uuid4(), "event_time": at, "occurred_at": at, "received_at": at,
            "event_type": kind, "source": "news", "provider": "sendgrid", "message_id": "m-1",
            "recipient": recipient, "recipient_identity": identity,
            "bounce_class": "none", "bounce_reason": "none", "actor": "none", **more,
        }  # fmt: skip
        self.loaded.client.insert("events", [list(row.values())], column_names=list(row))

    async def ask(
        self, text: str, mode: Mode = "plain", *, days: int = 30, rows: int = 100
    ) -> History:
        """The answer, as an analyst's connection gives it."""
        query = ClickHouseQuery(lambda: reader(self.settings))
        try:
            return await history(asked(text, mode, KEY), query, NOW, days, rows)
        finally:
            query.close()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One engine for all tests."""
    with migrated_warehouse(tmp_path_factory.mktemp("history")) as (warehouse, client):
        yield Store(warehouse, Warehouse(warehouse.settings, client))


@pytest.fixture
def store(opened: Store) -> Store:
    """Without rows but those of a stranger."""
    for table in ("events", "suppressions", "scoped_suppressions"):
        opened.loaded.client.command(f"TRUNCATE TABLE {table}")
    opened.add(AWAY, "delivered", 60, message_id="m-else")
    return opened


def course(store: Store, recipient: str) -> None:
    """A message that is put off, delivered, loaded by a machine, then opened by a person."""
    store.add(recipient, "sent", 900)
    store.add(recipient, "deferred", 800, bounce_reason="mailbox_full", diagnostic="452 4.2.2 full")
    store.add(recipient, "delivered", 700)
    store.add(recipient, "opened", 690, actor="machine", actor_reason="apple_mpp")
    store.add(recipient, "opened", 300, actor="human", actor_certainty="high")


def kinds(found: History) -> list[str]:
    """Types of events, in the answer's order."""
    return [row["event_type"] for message in found.messages for row in message.events]


async def test_each_spelling_finds_the_events_in_order(store: Store) -> None:
    """In any case, script and coding, also with a name beside it."""
    course(store, ADDRESS)
    for text in (
        ADDRESS, ADDRESS.upper(), f" {ADDRESS} ", f"Some Body <{ADDRESS}>",
        "kanarie.b+news@xn--bcher-kva.example", "kanarie.b%2Bnews%40b%C3%BCcher.example",
        '"kanarie.b+news"@b\u00fccher.example', f"mailto:{ADDRESS}",
    ):  # fmt: skip
        found = await store.ask(text)
        assert kinds(found) == ["sent", "deferred", "delivered", "opened", "opened"], text
    words = Words(whole=False)
    (message,) = found.messages
    assert words.summary(message) == "delivered, opened by a person"
    said = [words.sentence(row) for row in message.events]
    assert "puts it off" in said[1]
    assert "the mailbox is full" in said[1]
    assert "the receiving server took it" in said[2]
    assert "says nothing about the recipient" in said[3]
    assert said[4] == "Opened by a person."


@pytest.mark.parametrize("spellings", SAME, ids=lambda one: one[0])
async def test_spellings_of_one_mailbox_find_the_same(
    store: Store, spellings: tuple[str, ...]
) -> None:
    """All that identities know to be one."""
    store.add(spellings[0].strip(), "delivered", 60)
    for spelling in spellings:
        assert kinds(await store.ask(spelling)) == ["delivered"], spelling


async def test_hashed_recipients_are_found_by_address_and_by_hash(store: Store) -> None:
    """In another mode it would not be found."""
    hashed = keyed_hash(ADDRESS, KEY)
    course(store, hashed)
    for text in (ADDRESS, ADDRESS.upper(), hashed, "m-1", "<m-1>"):
        assert len(kinds(await store.ask(text, "hashed"))) == 5, text
    assert kinds(await store.ask(ADDRESS, "plain")) == []


async def test_dropped_recipients_are_found_by_message_alone(store: Store) -> None:
    """And the answer to an address says so."""
    store.loaded.client.command("TRUNCATE TABLE events")
    store.add("", "delivered", 60, message_id="m-7", recipient_identity="")
    assert kinds(await store.ask("m-7", "dropped")) == ["delivered"]
    found = await store.ask(ADDRESS, "dropped")
    assert found.messages == []
    (said,) = Words(whole=True).answer(found)
    assert "Addresses are not kept" in said
    assert "Ask for a message id, in angle brackets" in said


@pytest.mark.parametrize("mode", ["plain", "hashed", "dropped"])
@pytest.mark.parametrize("text", ["<0.a@mx.example>", "Message-ID:  <0.a@mx.example> "])
async def test_a_message_id_is_found_as_headers_have_it(
    store: Store, mode: Mode, text: str
) -> None:
    """It looks like an address; the angle brackets tell."""
    store.add("h:0", "delivered", 60, message_id="0.a@mx.example")
    assert kinds(await store.ask(text, mode)) == ["delivered"]
    assert (kinds(await store.ask("0.a@mx.example", mode)) == ["delivered"]) == (mode == "plain")


async def test_each_id_of_a_message_finds_all_of_its_events(store: Store) -> None:
    """Some have the provider's id alone, some the sender's Message-ID alone (SendGrid)."""
    rfc = "order-7@shop.example"
    store.add(ADDRESS, "delivered", 700, rfc_message_id=rfc)
    store.add(ADDRESS, "opened", 600, actor="human")
    bounce = {"event_id": uuid.uuid4(), "message_id": "", "rfc_message_id": rfc}
    former = {"campaign_id": "", "message_key": uuid.uuid4()}
    store.add(ADDRESS, "bounced", 500, **bounce, version=2**40)
    store.add(ADDRESS, "bounced", 500, **bounce, **former)
    store.add(ADDRESS, "bounced", 500, **bounce, **former, version=2**40, is_deleted=1)
    for text in ("m-1", "<m-1>", f"<{rfc}>"):
        found = await store.ask(text)
        assert kinds(found) == ["delivered", "opened", "bounced"], text
        assert len(found.messages) == 1


async def test_settings_unlike_those_of_ingress_are_told(store: Store) -> None:
    """«Nothing was found» would be taken for an answer."""
    store.loaded.client.command("TRUNCATE TABLE events")
    store.add(keyed_hash(ADDRESS, KEY), "delivered", 60)
    modes: tuple[Mode, ...] = ("plain", "dropped")
    for mode in modes:
        said = " ".join(Words(whole=True).answer(await store.ask(ADDRESS, mode)))
        assert f"stored hashed here, but MAILPULSE_RECIPIENTS is {mode}" in said
    store.loaded.client.command("TRUNCATE TABLE events")
    store.add(AWAY, "delivered", 60)
    said = " ".join(Words(whole=True).answer(await store.ask(ADDRESS, "hashed")))
    assert "stored plain here" in said
    assert "stored" not in " ".join(Words(whole=True).answer(await store.ask(ADDRESS)))


async def test_nothing_found_says_which_time_was_searched(store: Store) -> None:
    """Events outside of it are not found."""
    store.add(ADDRESS, "delivered", 9 * 86_400)
    found = await store.ask(ADDRESS, days=7)
    said = Words(whole=True).answer(found)
    since = datetime.fromtimestamp(NOW - 7 * 86_400, UTC)
    assert said[0].startswith(f"Nothing was found from {since:%Y-%m-%d %H:%M} to ")
    assert len(kinds(await store.ask(ADDRESS, days=10))) == 1


async def test_revisions_and_tombstones_are_one_event(store: Store) -> None:
    """As FINAL would show them, without reading the whole table."""
    event = uuid.uuid4()
    at = datetime.fromtimestamp(NOW - 60, UTC)
    same = {"event_id": event, "event_time": at}
    store.add(ADDRESS, "opened", 60, actor="human", version=1, **same)
    store.add(ADDRESS, "opened", 60, actor="machine", version=2, is_deleted=1, **same)
    store.add(ADDRESS, "opened", 60, actor="machine", version=2, campaign_id="autumn", **same)
    found = await store.ask(ADDRESS)
    assert [(row["actor"], row["campaign_id"]) for m in found.messages for row in m.events] == [
        ("machine", "autumn")
    ]


async def test_the_index_of_identities_is_used(store: Store) -> None:
    """So that a look-up reads few granules, whatever is stored."""
    sql = (
        "EXPLAIN indexes = 1 SELECT event_id FROM events WHERE recipient_identity = 'x'"
        " AND event_time >= toDateTime(1, 'UTC')"
    )
    plan = "\n".join(str(row[0]) for row in store.loaded.rows(sql))
    assert "identity_filter" in plan


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "' OR '1'='1", "a'; DROP TABLE events; --", "\\", "\\'", "m\tn", "m\nn", "%", "*",
     "{value:String}", "\u202e", "a@b.de' OR 1=1 --", "x" * ASKED_CHARS_MAX, "\ud800",
     "/* */ UNION SELECT 1"],
)  # fmt: skip
async def test_what_is_asked_for_is_no_sql(store: Store, text: str) -> None:
    """It is compared, whatever is in it: the stranger's event is not found, its own is."""
    if text.isprintable() or text == HOSTILE:
        store.add(ADDRESS, "delivered", 60, message_id=text)
        found = await store.ask(text)
        assert [row["message_id"] for m in found.messages for row in m.events] == [text]
        return
    assert kinds(await store.ask(text)) == []


async def test_many_events_are_cut_and_told(store: Store) -> None:
    """A hundred thousand: the newest are given, and the answer says that there are more."""
    store.loaded.client.command(
        "INSERT INTO events (campaign_id, message_key, event_id, event_time, occurred_at,"
        " received_at, event_type, provider, message_id, recipient, recipient_identity, version)"
        " SELECT 'c', toUUID('00000000-0000-0000-0000-000000000001'), generateUUIDv4(),"
        f" toDateTime64({NOW}, 3, 'UTC') - number, now64(3), now64(3), 'opened', 'ses', 'm',"
        f" '{AWAY}', '{AWAY}', 1 FROM numbers(100000)"
    )
    found = await store.ask(AWAY, rows=50)
    assert (found.events, found.more) == (50, True)
    newest = max(row["at_ms"] for m in found.messages for row in m.events)
    assert newest == int(NOW * 1000)
    assert "only the newest 50" in " ".join(Words(whole=True).answer(found))


async def test_a_suppressed_recipient_is_named_as_such(store: Store) -> None:
    """Also if no event is in the range."""
    store.loaded.client.insert(
        "suppressions",
        [[address_identity(ADDRESS), "hard_bounce", datetime.fromtimestamp(NOW, UTC), 1]],
        column_names=["recipient", "reason", "since", "version"],
    )
    said = Words(whole=True).answer(await store.ask(ADDRESS))
    assert "must not be mailed: hard bounce" in said[-1]


async def test_suppressions_of_lists_are_told_with_their_list(store: Store) -> None:
    """Beside that of all mail, ended and lifted ones left out, and not without end."""
    identity, since = address_identity(ADDRESS), datetime.fromtimestamp(NOW, UTC)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    store.loaded.client.insert(
        "suppressions",
        [[identity, "complaint", since, 1]],
        column_names=["recipient", "reason", "since", "version"],
    )
    rows = [
        [identity, "group:7", "news", "unsubscribe", since, None, 1, 0],
        [identity, "group:8", "news", "unsubscribe", past, past, 1, 0],
        [identity, "group:9", "news", "unsubscribe", since, None, 1, 1],
        [address_identity(AWAY), "group:6", "news", "unsubscribe", since, None, 1, 0],
    ]
    columns = ["recipient", "scope", "source", "reason", "since", "until", "version", "is_deleted"]
    store.loaded.client.insert("scoped_suppressions", rows, column_names=columns)
    said = [one for one in Words(whole=True).answer(await store.ask(ADDRESS)) if "must not" in one]
    assert "must not be mailed: complaint" in said[0]
    assert "must not be mailed through group:7 of news: unsubscribe" in said[1]
    assert len(said) == 2
    many = [[identity, f"group:{n}", "shop", "manual", since, None, 1, 0] for n in range(100, 400)]
    store.loaded.client.insert("scoped_suppressions", many, column_names=columns)
    said = Words(whole=True).answer(await store.ask(ADDRESS))
    assert "more lists and groups" in said[-1]
    assert len(said) < 30


# --- the page -------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes it."""
        self.seen.append(tag)


@asynccontextmanager
async def page(store: Store, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a dashboard, signed in by the token."""
    query = ClickHouseQuery(lambda: reader(store.settings))
    given = {"dashboard_token": SecretStr(TOKEN), "recipient_hash_key": KEY.decode(), **settings}
    app = create_app(Settings(**given), query, wall=lambda: NOW)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1234))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as http:
        yield http
    query.close()


async def test_the_page_answers_masked_and_logs_who_asked(store: Store) -> None:
    """The log line has the hash; the address is in no line and, masked, not on the page."""
    course(store, ADDRESS)
    with structlog.testing.capture_logs() as lines:
        async with page(store) as http:
            answer = await http.post("/recipient", data={"who": ADDRESS, "days": "7"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.text.partition("</form>")[2].partition("Look up")[2]
    assert "Delivered, opened by a person" in body
    assert "k•••@b\u00fccher.example" in body
    assert not traces(body)
    (line,) = [line for line in lines if line["event"] == "looked up"]
    assert line["identity_hash"] == keyed_hash(ADDRESS, KEY)
    assert line["operator"] == "token at 127.0.0.1"
    assert not traces(json.dumps(lines, default=str))


async def test_the_page_shows_addresses_where_the_setting_says_so(store: Store) -> None:
    """As on the other pages."""
    course(store, ADDRESS)
    async with page(store, dashboard_show_recipients=True) as http:
        answer = await http.post("/recipient", data={"who": "m-1"})
    assert ADDRESS in answer.text


async def test_the_page_is_for_people_who_signed_in(store: Store) -> None:
    """Without a sign-in of the dashboard for nobody; from another site's page for nobody."""
    course(store, ADDRESS)
    async with page(store) as http:
        asking = {"data": {"who": ADDRESS}}
        del http.headers["authorization"]
        assert (await http.get("/recipient")).headers["location"].startswith("/login?next=")
        assert (await http.post("/recipient", **asking)).status_code in (303, 401)  # type: ignore[arg-type]
        http.headers["authorization"] = f"Bearer {TOKEN}"
        cross = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        other = await http.post("/recipient", headers=cross, **asking)  # type: ignore[arg-type]
        assert other.status_code == 403
    async with page(store, dashboard_token=SecretStr("")) as http:
        answer = await http.post("/recipient", data={"who": ADDRESS})
        assert answer.status_code == 403
        assert "MAILPULSE_DASHBOARD_TOKEN" in answer.text
        assert "Delivered" not in answer.text


async def test_nothing_on_the_page_is_markup(store: Store) -> None:
    """Whatever was asked for, and whatever a provider sent."""
    evil = "<img src=x onerror=alert(1)>\"'</table><script>1</script>"
    store.add(ADDRESS, "bounced", 60, bounce_class="hard", diagnostic=evil, click_url=evil,
              campaign_id=evil, message_id=evil, native_type=evil, provider="x")  # fmt: skip
    async with page(store, dashboard_show_recipients=True) as http:
        found = await http.post("/recipient", data={"who": ADDRESS})
        echoed = await http.post("/recipient", data={"who": evil, "days": evil})
    for answer in (found, echoed):
        assert answer.status_code == 200
        assert "&lt;img" in answer.text
        seen = Tags(answer.text).seen
        assert "img" not in seen
        assert seen.count("script") == 1  # the theme's


@pytest.mark.parametrize("who", ["", "x" * 4_000, "a\0b"])
async def test_the_page_says_what_may_be_asked_for(store: Store, who: str) -> None:
    """And a database that is away is no error page."""
    async with page(store) as http:
        assert (await http.post("/recipient", data={"who": who})).status_code == 400

    async def away(_sql: str, _given: Mapping[str, Any]) -> list[dict[str, Any]]:
        raise Unavailable("no database")

    app = create_app(Settings(dashboard_token=SecretStr(TOKEN)), away, wall=lambda: NOW)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://127.0.0.1",
        headers={"authorization": f"Bearer {TOKEN}"},
    ) as http:
        answer = await http.post("/recipient", data={"who": "m-1"})
        assert (answer.status_code, "no database. Try again." in answer.text) == (503, True)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def command(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:  # fmt: skip
    """``mailpulse trace``: its exit code, and what it wrote on stdout."""
    monkeypatch.chdir(tmp_path)
    dsn = store.settings.clickhouse_dsn.get_secret_value()
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
    monkeypatch.setenv("MAILPULSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MAILPULSE_RECIPIENT_HASH_KEY", KEY.decode())

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["trace", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_the_command_answers_masked_and_logs_who_asked(
    store: Store, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """In words and as JSON; whole addresses on request."""
    course(store, ADDRESS)
    code, text = command(ADDRESS)
    assert code == 0
    assert "Delivered, opened by a person" in text
    assert not traces(text)
    code, text = command(ADDRESS.upper(), "--json", "--days", "3")
    document = json.loads(text)
    assert (document["found"], document["by"]) == (True, "address")
    assert not traces(text)
    assert ADDRESS in command(ADDRESS, "--unmasked")[1]
    code, text = command("nobody@else.example")
    assert code == 1
    assert text.startswith("Nothing was found from ")
    lines = (tmp_path / "data" / "lookups.jsonl").read_text().splitlines()
    assert [json.loads(line)["events"] for line in lines] == [5, 5, 5, 0]
    assert json.loads(lines[0])["identity_hash"] == keyed_hash(ADDRESS, KEY)
    assert not traces("".join(lines))


@pytest.mark.parametrize("ident", [HOSTILE, "a\\'b\"c", "tab\there", "a\\nb", "--"])
def test_the_command_finds_a_message_with_any_id(
    store: Store, command: Callable[..., tuple[int, str]], ident: str
) -> None:
    """Quotes, backslashes and line ends included."""
    store.add(ADDRESS, "delivered", 60, message_id=ident)
    assert command("--", ident)[0] == 0
    assert command("--", f"{ident}x")[0] == 1


def test_no_look_up_without_its_line(
    store: Store, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """What can't be logged is not shown."""
    course(store, ADDRESS)
    (tmp_path / "data").write_text("a file")
    assert command(ADDRESS) == (1, "")
