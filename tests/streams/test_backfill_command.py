"""``mailpulse backfill`` as an operator types it, against a replica and without Kafka."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.cli import backfill_effects, context
from streams.cli.main import main
from tests.ingest.history_server import serving
from tests.ingest.replicas import KEY, REPLICAS, WEBHOOK, Replica, happened
from tests.streams.commands import set_apart
from tests.streams.test_visible import HOSTILE, is_harmless

KEY_NAME = "MAILPULSE_SECRET_HISTORY"
SOURCES = """\
[sources.news]
provider = "{provider}"
signing_key = "env:NOT_SET"
[sources.news.history]
api_key = "env:{key}"
url = "{url}"
{more}
[sources.bare]
provider = "mailgun"
signing_key = "env:NOT_SET"
[sources.crm]
provider = "generic"
secret = "env:NOT_SET"
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory and an environment of its own, without secrets of webhooks; no peer listens."""
    set_apart(tmp_path, monkeypatch)
    monkeypatch.setenv(KEY_NAME, KEY)


def config(url: str, provider: str = "mailgun", more: str = "") -> None:
    text = SOURCES.format(provider=provider, key=KEY_NAME, url=url, more=more)
    Path("mailpulse.toml").write_text(text, encoding="utf-8")


@contextmanager
def replica_of(provider: str, count: int = 60) -> Iterator[Replica]:
    """A replica that is served, and configured as source ``news``."""
    make, kinds = REPLICAS[provider]
    at = time.time()
    replica = make(happened(kinds, at - 86_000, at - 4000, count, 1), page=10)
    with serving(replica) as url:
        config(url, provider, f'webhook_id = "{WEBHOOK}"' if provider == "resend" else "")
        yield replica


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["backfill", *words])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_without_a_source_it_says_what_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """And what to put into mailpulse.toml; without any secret of a webhook."""
    config("http://127.0.0.1:1")
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert "[sources.bare.history]" in out
    assert 'api_key = "env:MAILGUN_API_KEY"' in out
    rows = {one["source"]: one["history"] for one in json.loads(run(capsys, "--json")[1])}
    assert rows["news"] == "ready"
    assert "missing" in rows["bare"]
    assert "no history of generic" in rows["crm"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("bare", "--from", "1d"), 3, "sources.bare.history: missing"),
        (("crm", "--from", "1d"), 3, "no history of generic is read"),
        (("nobody", "--from", "1d"), 3, "no such source"),
        (("news",), 2, "--from is needed"),
        (("news", "--from", "31d"), 1, "too_old"),
        (("news", "--from", "20m"), 1, "too_young"),
        (("news", "--from", "2d", "--to", "3d"), 1, "bad_range"),
        (("news", "--from", "1d"), 4, "Kafka at 127.0.0.1:1"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    """With the documented exit code, and before the provider is asked."""
    config("http://127.0.0.1:1")
    got, out, err = run(capsys, *words)
    assert (got, said in err) == (code, True), err
    assert KEY not in out + err


def test_a_key_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its setting and its variable."""
    config("http://127.0.0.1:1")
    monkeypatch.delenv(KEY_NAME)
    code, _, err = run(capsys, "news", "--from", "1d")
    assert code == 3
    assert f"sources.news.history.api_key: environment variable {KEY_NAME} is not set" in err


@pytest.mark.parametrize("provider", REPLICAS)
def test_a_dry_run_counts_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], provider: str
) -> None:
    """Nor does it need Kafka; that ClickHouse is away is said."""
    with replica_of(provider) as replica:
        code, _, err = run(capsys, "news", "--from", "1d", "--dry-run")
        assert code == 0, err
        assert "ClickHouse did not answer" in err
        told = json.loads(run(capsys, "news", "--from", "1d", "--dry-run", "--json")[1])
        kinds = {one.kind for one in replica.happenings} - {"initial_open"}
        happenings = [one for one in replica.happenings if one.kind in kinds]
        read = {"sendgrid": len({one.message for one in happenings})}.get(provider, len(happenings))
        assert told["events"] + told["listed"] == read
        assert told["new"] is None or told["listed"]
    assert not Path("mailpulse-data").exists()


def test_a_history_that_begins_late_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a plan keeps less than was asked for, the API says nothing of it."""
    with replica_of("mailgun"):
        assert "may keep events no longer" in run(capsys, "news", "--from", "4d", "--dry-run")[2]
        assert (
            "may keep events no longer" not in run(capsys, "news", "--from", "1d", "--dry-run")[2]
        )


def test_what_is_known_is_asked_of_clickhouse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In look-ups of bounded size; an answer that fails is not asked for again at once."""
    asked: list[int] = []

    def rows_of(_settings: Any, sql: str, given: dict[str, str], _row: Any) -> list[tuple[int]]:
        assert "stored_among" in sql
        asked.append(given["ids"].count(",") + 1)
        return [(1,)]

    monkeypatch.setattr(backfill_effects, "IDS_AT_ONCE", 2)
    monkeypatch.setattr(backfill_effects, "rows_of", rows_of)
    with replica_of("mailgun", 25):
        code, out, err = run(capsys, "news", "--from", "1d", "--dry-run", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert sum(asked) == told["events"] == 25
    assert max(asked) == 2
    assert (told["known"], told["new"]) == (len(asked), 25 - len(asked))


@pytest.mark.parametrize("status", [200, 404])
def test_a_hostile_api_reaches_no_terminal(capsys: pytest.CaptureFixture[str], status: int) -> None:
    """Nothing of its answers is shown."""
    with replica_of("mailgun") as replica:
        text = HOSTILE.replace("\0", "").replace("\ud800", "")
        for content in (text, {"items": [{"event": text, "id": text, "recipient": text}, text]}):
            replica.content = lambda *_, told=content: (status, told)  # type: ignore[method-assign]
            _, out, err = run(capsys, "news", "--from", "1d", "--dry-run")
            assert is_harmless(out + err)
            assert "FORGED" not in out + err


def test_ctrl_c_answers_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    """While the provider's API is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config(f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", "backfill", "news", "--from", "1d",
             "--dry-run"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=context.environ(),
        )  # fmt: skip
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped: nothing was written." in err
    assert "Traceback" not in err
