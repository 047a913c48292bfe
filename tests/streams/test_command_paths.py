"""Every path that a command takes: absent, a folder, not text, in a folder that is not there.

Invariant: a path that can't be used is named in one line, with what is wrong; no traceback.
"""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer

from streams.cli.main import app, main
from tests.streams.commands import set_apart

READ, WRITTEN = "read", "written"
RULES = ("reprocess", "--from", "1h", "--rules")
PATHS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("check", "body"): (READ, ("check", "crm", "--body")),
    ("check", "certificate"): (READ, ("check", "crm", "--body", "good.toml", "--certificate")),
    ("send-test", "signing_key"): (READ, ("send-test", "crm", "--signing-key")),
    ("reprocess", "rules"): (READ, RULES),
    ("replay", "rules"): (READ, ("replay", *RULES[1:])),
    ("rules accept", "file"): (READ, ("rules", "accept")),
    ("rules propose", "output"): (WRITTEN, ("rules", "propose", "--output")),
    ("rules refresh", "output"): (WRITTEN, ("rules", "refresh", "--output")),
    ("export-person", "output"): (WRITTEN, ("export-person", "a@b.example", "--output")),
    ("suppressions import", "file"): (READ, ("suppressions", "import", "--reason", "manual")),
    ("load", "accounts"): (READ, ("load", "--seconds", "1", "--accounts")),
    ("load", "ledger"): (WRITTEN, ("load", "--seconds", "1", "--ledger")),
    ("capture", "out"): (WRITTEN, ("capture", "crm", "--minutes", "0.01", "--out")),
    ("export", "output"): (WRITTEN, ("export", "campaign_summary", "--output")),
    ("suppressions export", "output"): (WRITTEN, ("suppressions", "export", "--output")),
    ("import", "files"): (READ, ("import", "crm")),
    ("import", "suppressions"): (WRITTEN, ("import", "crm", "bodies", "--suppressions")),
    ("report", "to"): (WRITTEN, ("report", "--to")),
    ("config secrets", "folder"): (WRITTEN, ("config", "secrets")),
}
"""Command, parameter -> what is done with the path, and the words before it."""
CONFIGS = ("check", "capture", "doctor", "up", "sources refresh")
"""Commands with --config, tried once for all: they read it in one place."""
ELSEWHERE = {(name, "data_dir") for name in ("demo", "dev", "up", "backup", "restore", "repair")}
"""Of a pipeline on this machine, if there is one; ``tests/streams/test_data_dir.py`` and
``tests/live/test_backup.py`` have tests."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command's name and its function."""

    def walk(group: typer.Typer, before: str) -> Iterator[tuple[str, Any]]:
        for command in group.registered_commands:
            assert command.callback is not None
            name = command.name or command.callback.__name__.replace("_", "-")
            yield f"{before}{name}", command.callback
        for inner in group.registered_groups:
            assert inner.typer_instance is not None
            callback = inner.typer_instance.registered_callback
            if callback is not None and callback.callback is not None:  # runs alone, too
                yield f"{before}{inner.name}", callback.callback
            yield from walk(inner.typer_instance, f"{before}{inner.name} ")

    return walk(app, "")


def paths_of(function: Any) -> Iterator[str]:
    """Its parameters that are paths."""
    hints = get_type_hints(function)
    for name in inspect.signature(function).parameters:
        kinds = get_args(hints[name]) or (hints[name],)
        if Path in kinds:
            yield name


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with a good configuration; nothing listens on port 1."""
    set_apart(tmp_path, monkeypatch)
    monkeypatch.setenv("MAILPULSE_SECRET_CRM", "s3cret")
    text = '[sources.crm]\nprovider = "generic"\nsecret = "env:MAILPULSE_SECRET_CRM"\n'
    for name in ("mailpulse.toml", "good.toml"):
        Path(name).write_text(text, encoding="utf-8")
    Path("folder").mkdir()
    Path("bodies").mkdir()
    Path("bodies/one.json").write_text("{}", encoding="utf-8")
    Path("binary").write_bytes(b"\xff\xfe\x00[sources")


def said_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that must fail, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    assert ended.value.code in (1, 2, 3, 4), words
    assert "Traceback" not in said.err, said.err
    return said.err


def test_every_path_of_every_command_is_tried() -> None:
    """A new one must be added here."""
    found = {(name, one) for name, function in commands() for one in paths_of(function)}
    configs = {(name, "config") for name in CONFIGS} | {(name, "config_file") for name in CONFIGS}
    assert found - configs - ELSEWHERE == set(PATHS)


@pytest.mark.parametrize("which", ["absent", "folder", "binary", "no/such/folder"])
@pytest.mark.parametrize("parameter", sorted(PATHS), ids=" ".join)
def test_no_path_gives_a_traceback(
    parameter: tuple[str, str], which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that can be used fails later, as Kafka and ClickHouse are away, or works."""
    with pytest.raises(SystemExit) as ended:
        main([*PATHS[parameter][1], which])
    said = capsys.readouterr().err
    assert "Traceback" not in said, said
    assert said
    makes_it = parameter[0] == "config secrets" and which != "binary"
    assert (ended.value.code == 0) == makes_it


@pytest.mark.parametrize("which", ["absent", "folder"])
@pytest.mark.parametrize(
    "parameter", sorted(one for one in PATHS if PATHS[one][0] == READ), ids=" ".join
)
def test_a_file_to_read_is_read_before_any_peer_is_asked(
    parameter: tuple[str, str], which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """So what is wrong with it is what is told."""
    assert which in said_of((*PATHS[parameter][1], which), capsys)


@pytest.mark.parametrize("which", ["folder", "binary"])
@pytest.mark.parametrize("words", [
    ("doctor",), ("up",), ("ingest",), ("worker",), ("deliver",), ("sources", "ls"),
    ("sources", "add", "generic"), ("send-test", "crm"), ("capture", "crm"), ("alerts", "ls"),
], ids=" ".join)  # fmt: skip
def test_a_configuration_that_cannot_be_read_is_named(
    words: tuple[str, ...], which: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By every command that reads it; those that don't may fail for another reason."""
    monkeypatch.setenv("MAILPULSE_CONFIG_FILE", which)
    said = said_of(words, capsys)
    if words[0] not in ("alerts", "worker"):
        assert which in said


@pytest.mark.parametrize("words", [("config", "init"), ("sources", "add", "generic")], ids=" ".join)
def test_a_configuration_in_a_folder_that_is_not_there(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named; nothing is made by mistake."""
    monkeypatch.setenv("MAILPULSE_CONFIG_FILE", "no/such/mailpulse.toml")
    assert "no/such/mailpulse.toml" in said_of(words, capsys)
    assert not os.path.exists("no")
