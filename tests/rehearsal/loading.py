"""Compose's own loader (``loader``, compose-go), and the Go that builds it.

``python -m tests.rehearsal.loading`` prints which Go that is; exit code 1: there is none.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.live.maven import Missing

LOADER = Path(__file__).parent / "loader"
OWN_GO = Path(__file__).parents[2] / ".venv" / "go" / "bin" / "go"
"""What ``make .venv/go/installed`` brings, for machines without a Go that is new enough."""
BUILD_S_MAX = 300


def go(installed: Sequence[Path]) -> Path:
    """The first Go that is as new as ``go.mod`` asks.

    Raises:
        Missing: none is.
    """
    wanted = _numbers((LOADER / "go.mod").read_text("utf-8"), r"^go (\d+)\.(\d+)")
    for program in installed:
        if program.exists():
            told = subprocess.run(
                [program, "version"],
                env=_environ(), capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            if _numbers(told.stdout, r"^go version go(\d+)\.(\d+)") >= wanted:
                return program
    least = ".".join(map(str, wanted))
    raise Missing(f"needs Go {least} or newer, for Compose's own loader: make .venv/go/installed")


def known() -> list[Path]:
    """Where Go may be: the machine's own comes first."""
    machines = shutil.which("go")
    return [*([] if machines is None else [Path(machines)]), OWN_GO]


def _numbers(text: str, pattern: str) -> tuple[int, ...]:
    """A version in a text; nothing where there is none, which is older than any."""
    found = re.search(pattern, text, re.MULTILINE)
    return () if found is None else tuple(map(int, found.groups()))


def _environ() -> dict[str, str]:
    # Go that finds itself too old would fetch a newer one; and it needs no C compiler here
    return {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def loaded(file: Path, profiles: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """The whole project as the loader prints it.

    Args:
        variables: for ``${NAME}``; no others are seen.

    Raises:
        Missing: no Go on this machine, or the loader can't be built.
        ValueError: Compose refuses the file.
    """
    program = Path(os.environ.get("TMPDIR", "/tmp")) / f"mailpulse-loader-{os.getpid()}"
    try:
        built = subprocess.run(
            [go(known()), "build", "-buildvcs=false", "-o", str(program), "."],
            cwd=LOADER, env=_environ(), capture_output=True, text=True, check=False,
            timeout=BUILD_S_MAX,
        )  # fmt: skip
        if built.returncode != 0:
            raise Missing(f"Compose's loader can't be built:\n{built.stderr.strip()}")
        answer = subprocess.run(
            [str(program), str(file), *profiles],
            env=dict(variables), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        program.unlink(missing_ok=True)
    if answer.returncode != 0:
        raise ValueError(f"Compose refuses {file.name}: {answer.stderr.strip()}")
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


if __name__ == "__main__":
    try:
        print(go(known()))
    except Missing as error:
        sys.exit(str(error))
