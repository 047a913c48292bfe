"""Commands that write events store recipients as the pipeline that runs beside them does."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from schemas.settings import Settings
from streams.cli import context
from streams.embedded.data_dir import STATE_FILE, Endpoints, recipients_mark
from tests.streams.commands import run
from tests.streams.test_source_setup import _apart

__all__ = ["_apart"]
BROKER = "127.0.0.1:1"
CONFIG = """\
[sources.news]
provider = "mailgun"
signing_key = "env:KEY"
[sources.news.history]
api_key = "env:KEY"
url = "http://127.0.0.1:1"
[sources.signed]
provider = "sendgrid"
public_key = "env:PUBLIC"
"""
COMMANDS = (
    ("backfill", "news", "--from", "1d", "--dry-run"), ("backfill", "news", "--from", "1d"),
    ("dlq", "resend"), ("send-test", "signed"),
)  # fmt: skip


def runs_here(tmp_path: Path, **settings: str) -> None:
    """As if a pipeline of these settings ran on this data directory."""
    folder = tmp_path / "mailpulse-data"
    folder.mkdir(exist_ok=True)
    mark = recipients_mark(Settings(**settings)) if settings else ""  # type: ignore[arg-type]
    found = Endpoints(os.getpid(), BROKER, 1, f"http://{BROKER}", f"http://{BROKER}/mailpulse",
                      f"http://{BROKER}", recipients=mark)  # fmt: skip
    (folder / STATE_FILE).write_text(json.dumps(asdict(found)), encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_recipients_are_stored_in_one_way(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A shell without the service's variables would store plain what ingress hashes; with another
    key, one event would have two ids. Neither writes anything."""
    from tests.ingest.keys import example

    (tmp_path / "mailpulse.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("KEY", "k3y")
    monkeypatch.setenv("PUBLIC", example("sendgrid").source.public_key[0])
    monkeypatch.setenv("MAILPULSE_KAFKA_REQUEST_TIMEOUT_MS", "1000")
    hashed = {"recipients": "hashed", "recipient_hash_key": "theirs-theirs-theirs-theirs-1234"}
    own = {"MAILPULSE_RECIPIENTS": "hashed",
           "MAILPULSE_RECIPIENT_HASH_KEY": hashed["recipient_hash_key"]}  # fmt: skip
    for running_here, mine, differs in (
        (hashed, {}, True),
        (hashed, {**own, "MAILPULSE_RECIPIENT_HASH_KEY": "other-other-other-other-other-12"}, True),
        ({"recipients": "plain"}, own, True),
        (hashed, own, False), ({"recipients": "plain"}, {}, False), ({}, {}, False),
        (hashed, {"MAILPULSE_KAFKA_BOOTSTRAP": "127.0.0.1:2"}, False),
    ):  # fmt: skip
        runs_here(tmp_path, **running_here)
        with monkeypatch.context() as its:
            for name, value in mine.items():
                its.setenv(name, value)
            its.setattr(context, "now", lambda: 0.0)
            if not differs:
                context.stores_as_ingress(context.settings_of())
                continue
            assert run(*command) == 3
        said = capsys.readouterr().err
        assert "MAILPULSE_RECIPIENTS" in said
        assert "theirs" not in said
        assert "other-" not in said
        assert not (tmp_path / "mailpulse-data" / "backfill").exists()
