"""The unit for systemd: correct by systemd's own checks, confined, its command exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.cli.context import CONFIG, USAGE
from tests.compose import ROOT, load
from tests.live.fixtures import or_skip
from tests.live.maven import Missing

UNIT = ROOT / "streams" / "deploy" / "systemd" / "mailpulse.service"
EXPOSURE_MAX = 2.0
"""By ``systemd-analyze security``, of 10."""


def settings() -> list[tuple[str, str]]:
    """Name and value of each line, in order."""
    lines = [line for line in UNIT.read_text("utf-8").splitlines() if re.match(r"[A-Z]\w+=", line)]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def analyzer() -> str:
    """Where ``systemd-analyze`` is.

    Raises:
        Missing: not on this machine.
    """
    found = shutil.which("systemd-analyze")
    if found is None:
        raise Missing("systemd-analyze is not installed (Debian: systemd)")
    return found


def analyzed(
    folder: Path, *words: str, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of the unit, or of ``text``, with a program that is here."""
    unit = folder / UNIT.name
    given = UNIT.read_text("utf-8") if text is None else text
    unit.write_text(
        given.replace("/opt/mailpulse/bin/mailpulse up", f"{sys.executable} up"), "utf-8"
    )
    return subprocess.run(
        [or_skip(analyzer), *words, str(unit)], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_PAGER": "", "NO_COLOR": "1"}, timeout=60,
    )  # fmt: skip


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """Not even a word that it ignores; and it does find what is wrong."""
    said = analyzed(tmp_path, "verify", "--man=no")
    assert (said.returncode, said.stderr) == (0, "")
    wrong = UNIT.read_text("utf-8").replace("KillMode=mixed", "KillMode=gently")
    assert "gently" in analyzed(tmp_path, "verify", "--man=no", text=wrong).stderr


def test_it_is_confined(tmp_path: Path) -> None:
    """systemd's own measure of what a service could do beyond its work."""
    said = analyzed(tmp_path, "security", "--offline=true", "--no-pager")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert exposure, said.stdout + said.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


def test_its_command_and_settings_exist() -> None:
    """Options of ``up``, names of settings, exit codes after which no start would help."""
    given = dict(settings())
    _, command, *options = shlex.split(given["ExecStart"])
    assert command == "up"
    helped = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", command, "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
    ).stdout  # fmt: skip
    assert all(option in helped for option in options if option.startswith("--"))
    load(dict(pair.split("=", 1) for pair in given["Environment"].split()))
    assert given["RestartPreventExitStatus"] == f"{USAGE} {CONFIG}"


@pytest.mark.parametrize("path", ["/var/lib/mailpulse"])
def test_it_may_write_where_it_is_told_to_and_nowhere_else(path: str) -> None:
    """All else is read-only: its data directory is systemd's StateDirectory."""
    given = dict(settings())
    assert f"--data-dir {path} " in given["ExecStart"]
    assert (given["ProtectSystem"], f"/var/lib/{given['StateDirectory']}") == ("strict", path)
    assert "ReadWritePaths" not in given
