"""``mailpulse sources ls`` and ``doctor`` on requests that were refused, over a real warehouse."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from streams.cli import doctor
from streams.cli.context import settings_of
from streams.cli.main import main
from tests.warehouses import OpenWarehouse, migrated_warehouse

NOW_S = int(time.time())
NAMES = ("source", "began_at", "ingress", "sequence", "result", "reason", "ended_at", "requests",
         "first_at", "last_at")  # fmt: skip
CONFIG = """\
[sources.news]
provider = "generic"
secret = "env:KEY"
[sources.shop]
provider = "generic"
secret = "env:KEY"
"""
Answered = tuple[str, str, str, int, int, int]
"""Source, result, reason, requests, and how many seconds ago the first and the last came."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Client]]:
    """A migrated database."""
    with migrated_warehouse(tmp_path_factory.mktemp("requests")) as found:
        yield found


@pytest.fixture
def answered(
    opened: tuple[OpenWarehouse, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[Answered]], None]:
    """Stores counts, for commands in a folder with two sources."""
    warehouse, client = opened
    (tmp_path / "mailpulse.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", "s3cret")
    dsn = warehouse.reader_settings.clickhouse_dsn.get_secret_value()
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
    client.command("TRUNCATE TABLE source_requests")

    def store(some: Sequence[Answered]) -> None:
        rows = [
            [source, _at(first), UUID(int=1), number, result, reason, _at(last), requests,
             _at(first), _at(last)]
            for number, (source, result, reason, requests, first, last) in enumerate(some)
        ]  # fmt: skip
        client.insert("source_requests", rows, column_names=NAMES)

    return store


def _at(ago_s: int) -> datetime:
    return datetime.fromtimestamp(NOW_S - ago_s, UTC)


def _listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        main(["sources", "ls", "--json"])
    assert ended.value.code == 0
    return {one["source"]: one for one in json.loads(capsys.readouterr().out)}


def _rotated(source: str = "news") -> list[Answered]:
    """Accepted until two hours ago, refused since."""
    wrong = ("unauthorized", "bad_signature")
    return [
        (source, "accepted", "", 900, 9_000, 7_200),
        *((source, *wrong, 10, ago, ago - 300) for ago in range(7_100, 0, -600)),
    ]


def test_ls_tells_a_rotated_key_from_a_silent_source(
    answered: Callable[[Sequence[Answered]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """With both times; of the silent one only when it was accepted last."""
    answered([*_rotated(), ("shop", "accepted", "", 3, 40_000, 39_000)])
    found = _listed(capsys)
    news, shop = found["news"], found["shop"]
    assert (news["accepted_24h"], news["refused_24h"]) == (900, 120)
    assert news["accepted_until"] == f"{_at(7_200):%Y-%m-%d %H:%M:%S}"
    assert news["refused_since"] == f"{_at(7_100):%Y-%m-%d %H:%M:%S}"
    assert news["refusal"] == "unauthorized/bad_signature"
    assert (shop["accepted_24h"], shop["refused_24h"], shop["refused_since"]) == (3, 0, None)
    assert shop["accepted_until"] == f"{_at(39_000):%Y-%m-%d %H:%M:%S}"


def test_ls_works_without_clickhouse(
    answered: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources are listed as before."""
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", "http://127.0.0.1:1/mailpulse")
    assert set(_listed(capsys)["news"]) == {
        "source", "provider", "hook", "state", "proven_by",
    }  # fmt: skip


def test_doctor_names_a_source_whose_requests_are_all_refused(
    answered: Callable[[Sequence[Answered]], None],
) -> None:
    """A stranger's few are no fault; sources that are not configured any more are none either."""
    stray = ("", "not_found", "", 70, 600, 10)
    stranger = ("shop", "unauthorized", "missing_token", 2, 900, 100)
    answered([*_rotated(), *_rotated("gone"), ("shop", "accepted", "", 3, 40_000, 39_000), stranger,
              stray])  # fmt: skip
    news, shop = doctor._requests(settings_of())
    assert not news.ok
    assert "news: All 120 requests since" in news.detail
    assert "mailpulse capture news" in news.detail
    assert (shop.ok, "shop: All 2 requests since" in shop.detail) == (True, True)


def test_doctor_counts_what_goes_to_no_source(
    answered: Callable[[Sequence[Answered]], None],
) -> None:
    """A provider may post to a path that is spelt wrong."""
    answered([("", "not_found", "", 70, 600, 10)])
    [fine] = doctor._requests(settings_of())
    assert (fine.ok, "70 to paths that name no source" in fine.detail) == (True, True)


def test_doctor_names_a_source_that_never_was_accepted(
    answered: Callable[[Sequence[Answered]], None],
) -> None:
    """While it is set up each refusal says what is wrong."""
    answered([("shop", "unauthorized", "missing_signature", 1, 100, 100)])
    [shop] = doctor._requests(settings_of())
    assert not shop.ok
    assert "None with events was accepted before" in shop.detail
