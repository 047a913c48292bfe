"""What answers in ClickHouse's place is said not to be it, and is not believed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from analytics.client import connect
from analytics.sink.campaign_facts import known_facts
from analytics.sink.loading import Loader
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.cli.clickhouse import row_of, rows_of, table_of
from streams.cli.context import FAILED
from streams.cli.main import main
from tests.analytics.scenario import KINDS, History, first_revision
from tests.odd_servers import NONSENSE, OddServer, odd_server
from tests.warehouses import migrated_warehouse

BODIES = [pytest.param(body, id=name) for name, body in NONSENSE.items()]


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("https://127.9.9.9/mailpulse", "127.9.9.9:8443"),
        ("HTTP://127.9.9.9", "127.9.9.9:8123"),
        ("http://[::1]:1/mailpulse/", "[::1]:1"),
    ],
)
def test_commands_and_roles_ask_at_the_same_place(dsn: str, place: str) -> None:
    """Whichever library does it: where nobody listens, both say where they asked."""
    settings = Settings(clickhouse_dsn=SecretStr(dsn))
    with pytest.raises(Unavailable, match=re.escape(f"ClickHouse at {place}: ConnectError")):
        row_of(settings, "SELECT 1", tuple[int])
    host, _, port = place.rpartition(":")
    with pytest.raises(Unavailable, match=re.escape(f"host='{host.strip('[]')}', port={port}")):
        connect(settings)


def told(port: int) -> Settings:
    """Settings of one who believes that ClickHouse is there."""
    return Settings(clickhouse_dsn=SecretStr(f"http://default:x@127.0.0.1:{port}/mailpulse"))


@pytest.mark.parametrize("body", BODIES)
def test_the_doctor_says_that_it_is_not_clickhouse(
    body: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a sentence with the address and the setting, for each check that asks it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MAILPULSE_KAFKA_REQUEST_TIMEOUT_MS", "1000")
    with odd_server(body) as odd:
        monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", f"http://127.0.0.1:{odd.port}/mailpulse")
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json"])
    assert ended.value.code == FAILED
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    for what in ("clickhouse", "parts", "reconciliation", "requests"):
        assert not found[what]["ok"]
        assert f"127.0.0.1:{odd.port} is not ClickHouse" in found[what]["detail"]


REFUSED = (
    b"Code: 516. DB::Exception: sink: Authentication failed: password is incorrect, or there is no"
    b" user with such name. (AUTHENTICATION_FAILED) (version 26.3.9.1)\n"
)


def test_the_doctor_tells_a_wrong_password_from_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is told to start what runs already, looks in the wrong place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MAILPULSE_KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("MAILPULSE_KAFKA_REQUEST_TIMEOUT_MS", "1000")
    with odd_server(REFUSED) as odd:
        odd.status = 403
        there = f"127.0.0.1:{odd.port}"
        monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", f"http://sink:x@{there}/mailpulse")
        monkeypatch.setenv("MAILPULSE_SCHEMA_REGISTRY_URL", f"http://ada:x@{there}")
        with pytest.raises(SystemExit):
            main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    for what in ("clickhouse", "parts", "reconciliation", "requests", "registry"):
        assert not found[what]["ok"]
        assert "refuses user or password" in found[what]["mend"], what
        assert "start ClickHouse" not in found[what]["mend"]
    assert "correct user, password or certificate" in found["kafka"]["mend"]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "ask",
    [
        lambda settings: row_of(settings, "SELECT 'a', 1", tuple[str, float]),
        lambda settings: rows_of(settings, "SELECT 1, 'a'", {}, tuple[int, str, str, int]),
        connect,
    ],
)
def test_nonsense_is_unavailable(body: bytes, ask: Callable[[Settings], Any], named: bool) -> None:
    """Never another error and never rows, also with ClickHouse's header before a broken body."""
    with odd_server(body) as odd:
        odd.headers = {"X-ClickHouse-Query-Id": "1"} if named else {}
        try:
            answer = ask(told(odd.port))
        except Unavailable:
            return
        assert named
        assert answer == []  # an empty table is one


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OddServer, Client]]:
    """A relay in front of a warehouse, and a client that knows the relay only."""
    with migrated_warehouse(tmp_path_factory.mktemp("odd")) as (warehouse, _):
        dsn = warehouse.settings.clickhouse_dsn.get_secret_value()
        with odd_server(None, dsn) as odd:
            there = urlsplit(dsn)
            through = there._replace(netloc=f"sink:{there.password}@127.0.0.1:{odd.port}").geturl()
            settings = warehouse.settings.model_copy(update={"clickhouse_dsn": SecretStr(through)})
            client = connect(settings)
            yield odd, client
            client.close()


@pytest.mark.parametrize("body", BODIES)
def test_rows_are_stored_only_if_clickhouse_says_so(
    relayed: tuple[OddServer, Client], body: bytes
) -> None:
    """A 200 of anybody else's lets nothing be committed; the same batch goes in afterwards."""
    odd, client = relayed
    records = History([first_revision(1, 1, KINDS[0], 0, "gmail", "")]).sent()
    client.command("TRUNCATE TABLE events")
    loader = Loader(client, Codec(), records[0].topic)
    odd.body = body
    try:
        with pytest.raises(Unavailable, match="ClickHouse"):
            loader.load(records)
    finally:
        odd.body = None
    assert loader.load(records) == []
    assert client.command("SELECT count() FROM events") == 1


@pytest.mark.parametrize("body", BODIES)
def test_facts_are_not_known_from_nonsense(relayed: tuple[OddServer, Client], body: bytes) -> None:
    """They are asked for again."""
    odd, client = relayed
    odd.body = body
    try:
        with pytest.raises(Unavailable, match="ClickHouse"):
            known_facts(client, ["spring"])
    finally:
        odd.body = None


def test_a_table_has_rows_as_wide_as_its_columns() -> None:
    """So that names and values can be put side by side."""
    with odd_server(NONSENSE["wider rows"]) as odd:
        odd.headers = {"X-ClickHouse-Query-Id": "1"}
        with pytest.raises(Unavailable, match="not ClickHouse"):
            table_of(told(odd.port), "SELECT 1")
