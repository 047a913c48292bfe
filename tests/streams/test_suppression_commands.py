"""``mailpulse suppressions check`` and ``export`` on the real engine."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from schemas.identity import address_identity
from schemas.recipient_hash import keyed_hash
from streams.cli.main import main
from streams.cli.suppression_entries import BadLine, Entry, read_entries
from tests.schemas.test_identity import DIFFERENT, SAME
from tests.warehouses import OpenWarehouse, migrated_warehouse

KEY = b"a key of this test, 32 characters"
SINCE = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
NOW_US = 1_799_000_000_000_000
CLEAR, SUPPRESSED = 0, 1
Check = Callable[..., int]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Client]]:
    """One engine for all tests."""
    with migrated_warehouse(tmp_path_factory.mktemp("suppressions")) as both:
        yield both


@pytest.fixture
def client(
    opened: tuple[OpenWarehouse, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Client:
    """Of the sink; commands ask the same engine. No address is suppressed."""
    warehouse, client = opened
    for table in ("suppressions", "scoped_suppressions"):
        client.command(f"TRUNCATE TABLE {table}")
    monkeypatch.chdir(tmp_path)
    dsn = warehouse.reader_settings.clickhouse_dsn.get_secret_value()
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
    monkeypatch.setenv("MAILPULSE_RECIPIENT_HASH_KEY", KEY.decode())
    return client


def suppressed(client: Client, *recipients: str, **more: Any) -> None:
    """Rows as the sink writes them: of identities, or their hashes."""
    table = "scoped_suppressions" if "scope" in more else "suppressions"
    row = {"reason": "hard_bounce", "since": SINCE, "source": "news", "version": 1, **more}
    client.insert(
        table, [[one, *row.values()] for one in recipients], column_names=["recipient", *row]
    )


def run(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["suppressions", *arguments])
    return int(ended.value.code or 0)


ODD = ['"a\\"b"@example.com', '"a\\\\b"@example.com', '"a\\\\nb"@example.com', "a'b@example.com"]


@pytest.mark.parametrize("mode", ["plain", "hashed"])
def test_no_spelling_of_a_suppressed_address_is_said_to_be_clear(
    client: Client, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Also with a name beside it, and with characters that ClickHouse reads as escapes."""
    monkeypatch.setenv("MAILPULSE_RECIPIENTS", mode)
    groups = [*SAME, *((one,) for one in ODD)]
    identities = [address_identity(group[0]) for group in groups]
    stored = identities if mode == "plain" else [keyed_hash(one, KEY) for one in identities]
    suppressed(client, *stored)
    for group, kept in zip(groups, stored, strict=True):
        assert run("check", "--", group[-1]) == SUPPRESSED, group
        assert run("check", "--", f"Somebody <{group[0]}>") == SUPPRESSED, group
        if mode == "hashed":
            assert run("check", kept) == SUPPRESSED


@pytest.mark.parametrize("mode", ["plain", "hashed"])
@pytest.mark.parametrize(
    "text",
    ["", " ", "ada", "ada@", "@example.com", "ada@example.com,", "ada@example.com;bob@example.com",
     "ada@example.com bob@example.com", "mailto:ada@example.com", "ada%40example.com", "h:00",
     "<ada@example.com", "deadbeefdeadbeef", "ada@example.com\udcff"],
)  # fmt: skip
def test_what_is_no_address_is_not_said_to_be_clear(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    mode: str, text: str,
) -> None:  # fmt: skip
    """A campaign system that sends on exit code 0 would mail whoever is behind it."""
    monkeypatch.setenv("MAILPULSE_RECIPIENTS", mode)
    suppressed(client, "ada@example.com", keyed_hash("ada@example.com", KEY))
    assert run("check", "--", text) != CLEAR
    assert "not one address" in capsys.readouterr().err


def test_others_are_clear(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses, their hashes, and whoever is suppressed for another list."""
    suppressed(client, "ada@example.com")
    suppressed(client, "bob@example.com", scope="group:1")
    assert run("check", "bob@example.com") == CLEAR
    assert run("check", "bob@example.com", "--source", "news", "--scope", "group:2") == CLEAR
    assert run("check", "bob@example.com", "--source", "news", "--scope", "group:1") == SUPPRESSED
    assert run("check", "--", DIFFERENT[0]) == CLEAR
    monkeypatch.setenv("MAILPULSE_RECIPIENTS", "hashed")
    assert run("check", keyed_hash("bob@example.com", KEY)) == CLEAR


def test_an_export_can_be_imported(client: Client, tmp_path: Path) -> None:
    """Into another installation: every line with its reason, time, list and group.

    What ends by itself is told, not entered for ever.
    """
    reasons = ("hard_bounce", "complaint", "unsubscribe", "manual")
    for reason in reasons:
        said = f'550 5.1.1 <{reason}@example.com>:\nno "such" mailbox\r\n\tat all'
        suppressed(client, f"{reason}@example.com", reason=reason, diagnostic=said)
    suppressed(client, *map(address_identity, ODD))
    until = SINCE + timedelta(days=30_000)
    suppressed(client, "soft@example.com", reason="soft_bounces", until=until)
    suppressed(client, "bob@example.com", scope="group:1", reason="unsubscribe")
    at = int(SINCE.timestamp() * 1_000_000)
    found: list[Entry | BadLine] = []
    for more in ((), ("--scoped",)):
        file = tmp_path / "list.csv"
        assert run("export", "-o", str(file), *more) == 0
        lines = file.read_bytes().decode().split("\n")
        read = read_entries([f"{line}\n" for line in lines], "add", "manual", None, NOW_US)
        found += [one for _, one in read]
    bads = [one for one in found if isinstance(one, BadLine)]
    assert len(bads) == 1, bads
    (bad,) = bads
    assert "by soft bounces ends by itself" in bad.problem
    good = {one for one in found if isinstance(one, Entry)}
    assert good == {
        *(Entry(f"{reason}@example.com", reason, at) for reason in reasons),
        *(Entry(address_identity(one), "hard_bounce", at) for one in ODD),
        Entry("bob@example.com", "unsubscribe", at, "news", "group:1"),
    }


def test_a_check_answers_as_json(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason, and the lists and groups beside it."""
    suppressed(client, "ada@example.com")
    suppressed(client, "ada@example.com", scope="group:1")
    capsys.readouterr()
    assert run("check", "Ada <ADA@example.com>", "--json") == SUPPRESSED
    found = json.loads(capsys.readouterr().out)
    assert (found["suppressed"], found["reason"]) == (True, "hard_bounce")
    assert [one["scope"] for one in found["scopes"]] == ["group:1"]
