"""What ``mailpulse sources add`` does to a file that others read too."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from schemas.sources import load_sources
from streams.cli import context, source_setup
from tests.streams.commands import run
from tests.streams.test_source_setup import _apart

__all__ = ["_apart"]
OLD = '[sources.old]\nprovider = "generic"\ntoken = "env:OLD"\n'


def names(tmp_path: Path) -> list[str]:
    """The sources of the file, which is right as a whole."""
    text = (tmp_path / "mailpulse.toml").read_text(encoding="utf-8-sig")
    return sorted(load_sources(text, {}, lambda path: str(path), whole=False))


@pytest.mark.parametrize("before", [
    b"", b"\n\n", OLD.encode(), OLD.rstrip().encode(), OLD.replace("\n", "\r\n").encode(),
    b"\xef\xbb\xbf" + OLD.encode(), (OLD + "# the end").encode(), b"[alerts]\n", b"[sources]",
    b'sources.old.provider = "generic"\nsources.old.token = "env:OLD"',
])  # fmt: skip
def test_whatever_the_file_holds_is_kept(before: bytes, tmp_path: Path) -> None:
    """No line end at the end, that of Windows, its mark; the rest of the file is byte for byte."""
    file = tmp_path / "mailpulse.toml"
    file.write_bytes(before)
    assert run("sources", "add", "generic", "--name", "new") == 0
    after = file.read_bytes()
    assert after.startswith(before)
    assert names(tmp_path) == (["new", "old"] if b"old" in before else ["new"])
    assert (b"\r\n" in before) == (b"\n" not in after.replace(b"\r\n", b""))
    assert run("sources", "ls", "--json") == 0  # off, as no secret is set
    assert run("sources", "add", "generic", "--name", "new") == 3
    assert file.read_bytes() == after


@pytest.mark.parametrize("before", [
    'sources = {old = {provider = "generic"}}\n', "[[sources]]\n", "sources = 1\n", "[sources\n",
    'sources = {}', "[sources.new.history]\n",
])  # fmt: skip
def test_a_file_that_cannot_take_the_lines_stays_as_it_is(
    before: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another form, or broken: it would be read by nobody any more."""
    file = tmp_path / "mailpulse.toml"
    file.write_text(before, encoding="utf-8")
    assert run("sources", "add", "generic", "--name", "new") == 3
    assert file.read_text(encoding="utf-8") == before
    assert "mailpulse.toml" in capsys.readouterr().err


@pytest.mark.parametrize("given", [
    "tolerance_s=env:X", "mapping=env:X", "history=file:/x", "campaign_from=tag", "rate_per_s=1",
    "secret=env:A B", 'secret=env:A"', "token=file:", "token=env:", "secret=env:A\nB",
    "account=\udcff", "secret=file:\udcff",
])  # fmt: skip
def test_a_value_that_would_break_the_file_is_refused(given: str, tmp_path: Path) -> None:
    """No reference, no text, or of a field that takes none."""
    assert run("sources", "add", "generic", "--set", given) in (2, 3)
    assert not (tmp_path / "mailpulse.toml").exists()


@pytest.mark.parametrize("text", ['x"\n[sources.evil]\nprovider = "generic', "\\", "\x7f\x00\x1f",
                                  "ü\u2028\x85", "'''", '"""'])  # fmt: skip
def test_what_is_typed_is_a_text_and_no_more(text: str, tmp_path: Path) -> None:
    """Quotes, line ends and control characters stay in their value."""
    if run("sources", "add", "generic", "--name", "a", "--set", f"account={text}") == 0:
        [table] = tomllib.loads((tmp_path / "mailpulse.toml").read_text())["sources"].values()
        assert table["account"] == text


def test_each_source_has_variables_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that differ in case or in a dash alone would share one secret."""
    for name in ("a-b", "a_b", "A_B"):
        assert run("sources", "add", "generic", "--name", name) == 0
    told = capsys.readouterr().err
    tables = tomllib.loads((tmp_path / "mailpulse.toml").read_text())["sources"]
    variables = {one[field] for one in tables.values() for field in one if field != "provider"}
    assert len(variables) == 3
    assert all(one.removeprefix("env:") in told for one in variables)


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with half a line."""
    file = tmp_path / "mailpulse.toml"
    file.write_text(OLD, encoding="utf-8")

    def full(opened: object, content: bytes) -> None:
        with file.open("ab") as half:
            half.write(content[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_setup, "_write", full)
    assert run("sources", "add", "generic", "--name", "new") == 3
    assert "No space left" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == OLD


def test_commands_at_once_add_each_source_once(tmp_path: Path) -> None:
    """Four processes, two names: the file has both, and is right."""
    command = [sys.executable, "-P", "-m", "streams.cli", "sources", "add", "generic", "--name"]
    running = [
        subprocess.Popen([*command, name], cwd=tmp_path, env=context.environ(),
                         stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        for name in ("one", "two", "one", "two")
    ]  # fmt: skip
    ended = sorted(one.wait(120) for one in running)
    assert ended == [0, 0, 3, 3]
    assert names(tmp_path) == ["one", "two"]
    assert os.listdir(tmp_path) == ["mailpulse.toml"]
