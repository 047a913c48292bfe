"""``mailpulse report`` over a real engine."""

import time
from pathlib import Path

import pytest

from streams.cli.main import main
from tests.warehouses import migrated_warehouse

DAY_S = 86_400


def test_the_report_is_of_the_last_whole_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures are those of that week, beside the week before; a wrong period or zone writes
    nothing and says what would be right."""
    today = int(time.time()) // DAY_S * DAY_S
    monday = today - (today // DAY_S + 3) % 7 * DAY_S
    weeks = ((monday - 1, 1_000), (monday - 7 * DAY_S, 234), (monday - 7 * DAY_S - 60, 77))
    with migrated_warehouse(tmp_path / "warehouse") as (opened, client):
        for number, (at, delivered) in enumerate([*weeks, (monday, 9_999)]):
            client.command(
                "INSERT INTO campaign_minutes (campaign_id, mailbox_provider, minute, partition,"
                f" events, delivered) SELECT 'spring', 'gmail', toStartOfMinute(toDateTime({at},"
                f" 'UTC')), {number}, {delivered}, {delivered}"
            )
        (tmp_path / "mailpulse.toml").write_text(
            '[destinations.weekly]\nkind = "email"\nserver = "mail.x.example"\ntopics = []\n'
            'sender = "mailpulse@x.example"\nto = "team@x.example"\n'
        )
        dsn = opened.reader_settings.clickhouse_dsn.get_secret_value()
        monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", dsn)
        monkeypatch.chdir(tmp_path)
        codes = []
        for arguments in (
            ("--to", "week.html"),
            ("--to", "no.html", "--period", "year"),
            ("--to", "no.html", "--zone", "Nowhere/Town"),
            ("--to", "no/folder.html"),
            ("--send", "nobody"),
            ("--period", "week"),
            ("--to", "no.html", "--dry-run"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(["report", *arguments])
            codes.append(ended.value.code)
        said = capsys.readouterr().err
        with pytest.raises(SystemExit) as dry:
            main(["report", "--send", "weekly", "--dry-run"])
        mail = capsys.readouterr().err
    assert dry.value.code in (0, None)
    for words in ("To: team@x.example", "Sent: 1,234", "spring", "by mail.x.example:587"):
        assert words in mail
    assert codes[0] in (0, None)
    assert 0 not in codes[1:]
    for words in (
        "day, week, month",
        "IANA time zones",
        "no/folder.html",
        "no destination of kind",
        "there are: weekly",
        "give --to FILE",
        "about --send",
    ):
        assert words in said
    text = (tmp_path / "week.html").read_text(encoding="utf-8")
    assert "1,234" in text
    assert "before: 77" in text
    assert "9,999" not in text
    assert not (tmp_path / "no.html").exists()
