"""Commands that write events store recipients as the pipeline that runs beside them does."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.cli import context, recipients
from streams.cli.recipients import Told, compare, differing
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
    ("dlq", "resend"), ("send-test", "signed"), ("import", "news", "x.jsonl", "--write"),
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
        for folder in ("backfill", "import"):
            assert not (tmp_path / "mailpulse-data" / folder).exists()


# --- on a cluster: by what ingress publishes ------------------------------------------------------

KEYED = {"recipients": "hashed", "recipient_hash_key": "theirs-theirs-theirs-theirs-1234"}
PLAIN = recipients_mark(Settings())
HASHED = recipients_mark(Settings(**KEYED))  # type: ignore[arg-type]
OTHER_KEY = recipients_mark(Settings(**{**KEYED, "recipient_hash_key": "x" * 32}))  # type: ignore[arg-type]
MINUTE_US = 60_000_000


def _told(*some: tuple[int, str, int]) -> list[Told]:
    """``some``: process, mark, and minutes."""
    return [Told(f"{process:032x}", mark, at * MINUTE_US) for process, mark, at in some]


@pytest.mark.parametrize(
    ("told", "own", "says"),
    [
        (_told((1, PLAIN, 9)), PLAIN, ""),
        (_told((1, HASHED, 9), (2, HASHED, 5)), HASHED, ""),
        (_told((1, HASHED, 9)), PLAIN, "the mode hashed, not plain"),
        (_told((1, PLAIN, 9)), HASHED, "the mode plain, not hashed"),
        (_told((1, OTHER_KEY, 9)), HASHED, "another key"),
        (_told((1, PLAIN, 1), (2, HASHED, 60)), HASHED, ""),  # changed, and started anew since
        (_told((1, PLAIN, 1), (2, HASHED, 60)), PLAIN, "the mode hashed, not plain at"),
        (_told((1, PLAIN, 58), (2, HASHED, 60)), HASHED, "ingress processes differ"),
        (_told((1, PLAIN, 58), (2, HASHED, 60)), PLAIN, "ingress processes differ"),
        (_told((1, PLAIN, 2), (1, PLAIN, 1)), PLAIN, ""),
    ],
)
def test_the_processes_that_run_now_decide(told: list[Told], own: str, says: str) -> None:
    """In any order in which partitions bring their records; a key is never shown."""
    for some in (told, told[::-1]):
        problem = differing(some, own)
        assert (says in problem) if says else not problem
        assert not any(mark.partition(" ")[2] in problem for mark in (HASHED, OTHER_KEY))


def test_what_was_not_compared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run goes on without Kafka; whoever is about to write does not."""
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", BROKER)
    monkeypatch.setenv("MAILPULSE_KAFKA_REQUEST_TIMEOUT_MS", "1000")
    settings = context.settings_of()
    compare(settings, Codec(), needed=False)
    assert "are not compared with those of ingress" in capsys.readouterr().err
    with pytest.raises(Unavailable):
        compare(settings, Codec(), needed=True)

    async def nothing(*_: object) -> list[Told]:
        return []

    monkeypatch.setattr(recipients, "_told", nothing)
    compare(settings, Codec(), needed=True)
    assert "no ingress told in 7 days" in capsys.readouterr().err
