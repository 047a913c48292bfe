"""Fuzzes each parser for some minutes: ``make fuzz``, or ``python -m tests.fuzz --minutes 10``.

Round after round of ``tests/fuzz`` with new random seeds, one property after the other. What fails
is minimised, kept in ``tests/fuzz/corpus`` and ends the run with exit code 1.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import test_parsers

EXAMPLES = "300"
"""Of a round, and of each provider or schema in it."""


def properties() -> list[str]:
    """Names of the properties: the tests that Hypothesis feeds."""
    return [
        name
        for name, test in vars(test_parsers).items()
        if name.startswith("test_") and getattr(test, "is_hypothesis_test", False)
    ]


def fuzz(name: str, seconds: float) -> tuple[int, bool]:
    """Rounds of one property until ``seconds`` are over: how many, and whether all passed."""
    environ = {
        **os.environ, "MAILPULSE_FUZZ_KEEP": "1", "MAILPULSE_TEST_EXAMPLES": EXAMPLES,
    }  # fmt: skip
    file = Path(test_parsers.__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "0", str(file), "-k", name]
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
        seed = f"--hypothesis-seed={time.time_ns()}"
        if subprocess.run([*command, seed], env=environ, check=False).returncode:
            return rounds, False
    return rounds, True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of each property")
    parser.add_argument("--only", choices=properties(), action="append")
    given = parser.parse_args(arguments)
    failed = []
    for name in given.only or properties():
        rounds, passed = fuzz(name, given.minutes * 60)
        print(f"{name}: {rounds} rounds of {EXAMPLES}, {'passed' if passed else 'FAILED'}")
        failed += [] if passed else [name]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
