"""``mailpulse`` as an operator runs it, with or without roles: a process per command."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from schemas.settings import PREFIX
from tests.live.roles import clean_environ

COMMAND_S_MAX = 120


def run(settings: Mapping[str, str], *words: str) -> str:
    """A command's stdout; the command must end with 0. Settings are given without their prefix."""
    environ = clean_environ() | {PREFIX + name: value for name, value in settings.items()}
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", *words], capture_output=True, text=True,
        env=environ, check=False, timeout=COMMAND_S_MAX,
    )  # fmt: skip
    said = f"{words}: {answer.stdout}{answer.stderr}"
    assert answer.returncode == 0, said
    assert "Traceback" not in said
    return answer.stdout


def lines(settings: Mapping[str, str], *words: str) -> list[Any]:
    """A command's JSON documents, one per line."""
    return [json.loads(line) for line in run(settings, *words, "--json").splitlines()]
