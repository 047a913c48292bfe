"""``mailpulse deliver diff``: a provider's lists against the suppressions that hold."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.main import main
from streams.deliver.suppress.changes import REASONS, Suppressed
from streams.deliver.suppress.differences import differences, wanted
from streams.deliver.suppress.exchange import Entry
from streams.deliver.suppress.providers import PROVIDERS
from tests.streams.provider_replicas import SendGrid
from tests.streams.replica_server import Fault, ReplicaServer, serving_beside
from tests.streams.test_suppress_providers import PLACES, rules
from tests.warehouses import OpenWarehouse, migrated_warehouse

SINCE = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
TABLE = """
[destinations.crm]
url = "https://crm.example"
topics = "suppressions"
[destinations.sg]
kind = "suppress:sendgrid"
key = "env:SENDGRID_KEY"
url = "{url}"
allow_networks = "127.0.0.1"
source = "own"
[destinations.sg.scopes.mailer]
"tag:news" = "group:12"
"""
OK, MISSING, USAGE, CONFIG, UNAVAILABLE = range(5)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Client]]:
    """One engine for all tests."""
    with migrated_warehouse(tmp_path_factory.mktemp("lists")) as both:
        yield both


@pytest.fixture
def there(
    opened: tuple[OpenWarehouse, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ReplicaServer, Client]]:
    """A replica, and a client to enter suppressions; the command's settings name both."""
    warehouse, client = opened
    for table in ("suppressions", "scoped_suppressions"):
        client.command(f"TRUNCATE TABLE {table}")
    replica = SendGrid()
    replica.groups = {"12": {}}
    with serving_beside(replica) as server:
        config = tmp_path / "mailpulse.toml"
        config.write_text(TABLE.format(url=server.url))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MAILPULSE_CONFIG_FILE", str(config))
        monkeypatch.setenv("SENDGRID_KEY", SendGrid.key)
        dsn = warehouse.reader_settings.clickhouse_dsn.get_secret_value()
        monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
        yield server, client


def suppressed(client: Client, address: str, reason: str, **more: Any) -> None:
    """A row as the sink writes it."""
    table = "scoped_suppressions" if "scope" in more else "suppressions"
    row = {"recipient": address, "reason": reason, "since": SINCE, "source": "mailer",
           "version": 1, **more}  # fmt: skip
    client.insert(table, [list(row.values())], column_names=list(row))


def diff(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["deliver", "diff", *arguments])
    return int(ended.value.code or 0)


def test_what_is_missing_there_and_what_is_only_there(
    there: tuple[ReplicaServer, Client], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is changed at the provider."""
    server, client = there
    for address in ("both@x.example", "missing@x.example"):
        suppressed(client, address, "unsubscribe")
    suppressed(client, "own@x.example", "unsubscribe", source="own")
    suppressed(client, "ended@x.example", "unsubscribe", until=SINCE + timedelta(days=1))
    suppressed(client, "hard@x.example", "hard_bounce")
    suppressed(client, "group@x.example", "unsubscribe", scope="tag:news")
    suppressed(client, "other@x.example", "unsubscribe", scope="tag:other")
    assert isinstance(server.replica, SendGrid)
    server.replica.everyone = dict.fromkeys(
        ["BOTH@X.example", "own@x.example", "theirs@x.example", "hard@x.example"], 1
    )
    assert diff("sg", "--json") == MISSING
    shown = json.loads(capsys.readouterr().out)
    assert shown["lists"] == [
        {"name": "unsubscribes", "wanted": 2, "listed": 4, "missing": ["missing@x.example"],
         "only_there": ["theirs@x.example"]},
        {"name": "unsubscribes of group:12", "wanted": 1, "listed": 0,
         "missing": ["group@x.example"], "only_there": []},
    ]  # fmt: skip
    left_out = {(one["because"], one["about"]): one["records"] for one in shown["left_out"]}
    assert left_out == {("own", ""): 1, ("not_held", "hard_bounce"): 1,
                        ("not_mapped", "tag:other of mailer"): 1}  # fmt: skip
    assert diff("sg", "--addresses") == MISSING
    output = capsys.readouterr()
    assert "unsubscribes of group:12: group@x.example" in output.out.splitlines()
    assert "1 not written (tag:other of mailer): this scope is not mapped" in output.err
    assert server.replica.writes == []


def test_lists_that_agree_are_ok(
    there: tuple[ReplicaServer, Client], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0."""
    server, client = there
    suppressed(client, "both@x.example", "manual")
    assert isinstance(server.replica, SendGrid)
    server.replica.everyone = {"both@x.example": 1}
    assert diff("sg") == OK


def test_what_can_not_be_read_is_no_difference(
    there: tuple[ReplicaServer, Client], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each has an exit code of its own."""
    server, _ = there
    server.faults.append(Fault(500))
    assert diff("sg") == UNAVAILABLE
    assert "unsubscribes: 500: out of order" in capsys.readouterr().err
    assert diff("crm") == USAGE
    assert "only suppress:PROVIDER has lists" in capsys.readouterr().err
    monkeypatch.setenv("MAILPULSE_RECIPIENTS", "hashed")
    monkeypatch.setenv("MAILPULSE_RECIPIENT_HASH_KEY", "k" * 32)
    assert diff("sg") == CONFIG
    assert diff("none") == CONFIG


RECORDS = st.lists(
    st.builds(
        lambda address, scope, reason: Suppressed(f"{address}@x.example", "other", scope, reason),
        st.sampled_from("abcd"), st.sampled_from(["", "tag:news"]), st.sampled_from(REASONS),
    ),
    max_size=8, unique_by=lambda one: (one.recipient, one.scope),
)  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
@given(records=RECORDS, theirs=st.sets(st.sampled_from("abcdef")))
def test_missing_and_only_there_by_the_definition(
    name: str, records: list[Suppressed], theirs: set[str]
) -> None:
    """One by one: what is written to the whole account, against the same list at the provider."""
    whole, there = PLACES[name][0], {f"{one}@x.example" for one in theirs}
    entries = [Entry(f"{one}@X.example") for one in theirs]
    given_rules = rules(name)
    listed = {one: entries if one.place == whole else [] for one in given_rules.targets}
    found = differences(PROVIDERS[name], wanted(given_rules, records), listed)
    by_name = {one.name: one for one in found}
    known = {one.recipient: one.reason for one in records if not one.scope}
    for target in given_rules.targets:
        if target.place != whole:
            continue
        one = by_name.get(str(target)) or by_name[f"{', '.join(PROVIDERS[name].lists)}"]
        lists = one.name.split(" of ")[0].split(", ")
        ours = {address for address, reason in known.items()
                if set(lists) & set(PROVIDERS[name].defaults.get(reason, ()))}  # fmt: skip
        assert one.wanted == len(ours)
        assert set(one.missing) == ours - there
        assert set(one.only_there) == there - set(known)
