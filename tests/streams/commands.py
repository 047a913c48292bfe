"""Runs commands in this process, each test apart from the machine's own settings."""

from pathlib import Path

import pytest

from streams.cli import context
from streams.cli.main import main


def set_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and an environment of its own; no peer listens on port 1."""
    monkeypatch.chdir(folder)
    for name in context.environ():
        if name.startswith("MAILPULSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", "http://127.0.0.1:1/mailpulse")
    monkeypatch.setenv("MAILPULSE_KAFKA_REQUEST_TIMEOUT_MS", "1000")


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)
