"""``mailpulse status`` over answers that are given here."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.cli import status
from streams.kafka import admin
from streams.kafka.admin import Lag
from tests.streams.commands import run, set_apart

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    status._NEWEST: [("news", 12.0)],
    status._LATELY: [("news", 1_204)],
    status._LETTERS: [("news", "not_json", 3)],
    status._INCIDENTS: [("spring", "gmail", "hard_bounce_rate", "critical", 0.0712)] * 7,
    status._SILENT: [("crm", "", 7_200.0), ("news", "delivered", 300.0)],
}

DSN = "http://reader:hidden@warehouse.example:8123/mail"


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Any, ...]]]:
    """What ClickHouse answers; Kafka has a worker that lags."""
    set_apart(tmp_path, monkeypatch)
    (tmp_path / "mailpulse.toml").write_text(
        '[sources.news]\nprovider = "sendgrid"\npublic_key = "env:NOBODY"\n'
        '[sources.crm]\nprovider = "generic"\nsecret = "env:NOBODY"\n',
        encoding="utf-8",
    )
    found = dict(ANSWERS)

    async def lag(settings: Settings) -> list[Lag]:
        group = settings.consumer_group
        return [Lag(group, "email.events.raw.v1", number, 5, 10, 5) for number in (0, 1)]

    monkeypatch.setattr(admin, "lag", lag)
    monkeypatch.setattr(status, "rows_of", lambda _settings, sql, _given, _row: found[sql])
    return found


def test_everything_is_on_one_screen(
    answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources with their newest event, lag by role, and what to look at; 24 lines at most."""
    assert run("status") == 0
    shown = capsys.readouterr().out
    for words in (
        "news", "sendgrid", "12 s ago", "1,204", "crm", "worker 10", "3 of news (not_json)",
        "spring at gmail: hard_bounce_rate 7.12 %, critical", "and 2 more incidents",
        "nothing from crm, last 2 h ago", "no delivered from news, last 5 min ago",
    ):  # fmt: skip
        assert words in shown
    assert len(shown.splitlines()) <= 24


@pytest.mark.parametrize(
    ("sql", "row", "what"),
    [
        (status._LETTERS, ("news", "not_json", 3), "reasons of dead letters"),
        (status._INCIDENTS, ("spring", "", "open_rate", "warning", 0.1), "incidents"),
        (status._SILENT, ("crm", "", 7_200.0), "silences"),
    ],
)
def test_what_has_no_room_is_counted(
    answers: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    sql: str,
    row: tuple[Any, ...],
    what: str,
) -> None:
    """Of every kind: five lines are not all there is."""
    answers[sql] = [row] * (status.SHOWN_MAX + 3)
    assert run("status") == 0
    assert f"and 3 more {what}" in capsys.readouterr().out


def test_who_is_asked_is_named(
    answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a pipeline of its own a directory shows another one's figures; no secret is shown."""
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", DSN)
    assert run("status") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Kafka at 127.0.0.1:1 and ClickHouse at http://warehouse.example:8123/mail" in shown
    assert "hidden" not in shown


def test_nothing_to_look_at_is_said(
    answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a short screen is not taken for a broken one."""
    for sql in (status._LETTERS, status._INCIDENTS, status._SILENT):
        answers[sql] = []
    assert run("status") == 0
    assert "Nothing to look at" in capsys.readouterr().out


def test_what_does_not_answer_is_named_and_the_rest_is_shown(
    answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4."""

    async def away(_settings: Settings) -> list[Lag]:
        raise Unavailable("Kafka at 127.0.0.1:1: refused")

    monkeypatch.setattr(admin, "lag", away)
    assert run("status", "--json") == 4
    found = json.loads(capsys.readouterr().out)
    assert "127.0.0.1:1" in found["unavailable"]["kafka"]
    assert found["events_lately"] == {"news": 1_204}
    assert run("status") == 4
    shown = capsys.readouterr().out
    assert "kafka does not answer" in shown
    assert "1,204" in shown
