"""The limit on open files: raised for the pipeline, or refused with words. In processes apart."""

import subprocess
import sys

import pytest

from streams.embedded.open_files import OPEN_FILES, OPEN_FILES_MIN

PROGRAM = """
import resource, sys
from streams.embedded.open_files import allow_open_files
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(soft: int, hard: int) -> "subprocess.CompletedProcess[str]":
    """What a process with these limits ends with."""
    argv = [sys.executable, "-P", "-c", PROGRAM, str(soft), str(hard)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [
        (1_024, OPEN_FILES + 1, OPEN_FILES),
        (256, OPEN_FILES_MIN, OPEN_FILES_MIN),
        (OPEN_FILES + 1, OPEN_FILES + 1, OPEN_FILES + 1),
    ],
)
def test_soft_limit_is_raised_and_never_lowered(soft: int, hard: int, becomes: int) -> None:
    """The hard limit is the user's own."""
    assert limits_after(soft, hard).stdout.split() == [str(becomes), str(hard)]


def test_too_low_a_limit_is_refused_with_what_to_do() -> None:
    """Before anything is started."""
    refused = limits_after(256, 1_024)
    assert refused.returncode == 1
    assert "a process may open 1024 files here" in refused.stderr
    assert f"ulimit -n {OPEN_FILES_MIN}" in refused.stderr
