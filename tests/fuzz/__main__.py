"""Fuzzes each parser for some minutes: ``make fuzz``, or ``python -m tests.fuzz --minutes 10``.

Rounds of ``tests/fuzz`` with new random seeds, one property after the other. A failing example is
minimised, kept in ``tests/fuzz/corpus`` and ends the run with exit code 1.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.fuzz import test_constants, test_door, test_parsers

EXAMPLES = "300"
"""Of a round, and of each provider or schema in it."""


GROUPS = {"parsers": test_parsers, "door": test_door, "constants": test_constants}
"""Files of properties, by the name that ``--only`` takes."""


def properties(group: str) -> list[str]:
    """Names of a file's properties: the tests that Hypothesis feeds."""
    return [
        name
        for name, test in vars(GROUPS[group]).items()
        if name.startswith("test_") and getattr(test, "is_hypothesis_test", False)
    ]


def fuzz(group: str, name: str, seconds: float) -> tuple[int, bool]:
    """Rounds of one property until ``seconds`` are over: how many, and whether all passed."""
    environ = {
        **os.environ, "MAILPULSE_FUZZ_KEEP": "1", "MAILPULSE_TEST_EXAMPLES": EXAMPLES,
    }  # fmt: skip
    file = str(GROUPS[group].__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "0", file, "-k", name]
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
        seed = f"--hypothesis-seed={time.time_ns()}"
        if subprocess.run([*command, seed], env=environ, check=False).returncode:
            return rounds, False
    return rounds, True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    every = {name: group for group in GROUPS for name in properties(group)}
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="of each property; of the door's together"
    )
    parser.add_argument("--only", choices=[*GROUPS, *every], action="append")
    given = parser.parse_args(arguments)
    failed = []
    for name, group in every.items():
        if given.only and not {name, group} & set(given.only):
            continue
        share = len(properties(group)) if group == "door" else 1
        rounds, passed = fuzz(group, name, given.minutes * 60 / share)
        print(f"{name}: {rounds} rounds of {EXAMPLES}, {'passed' if passed else 'FAILED'}")
        failed += [] if passed else [name]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
