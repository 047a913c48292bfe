"""Measurements that need a process of their own, each with a time limit."""

import json
import subprocess
import sys

TIME_LIMIT_S = 240


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts one contender; its words go to stderr."""
    argv = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str], name: str) -> dict[str, float]:
    """What a contender printed last.

    Raises:
        RuntimeError: it failed, or ran into its time limit.
    """
    try:
        out, _ = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        raise RuntimeError(f"{name} did not end within {TIME_LIMIT_S} s: {out[-500:]}") from None
    lines = out.strip().splitlines()
    if process.returncode != 0 or not lines:
        raise RuntimeError(f"{name} ended with status {process.returncode}: {out[-500:]}")
    figures: dict[str, float] = json.loads(lines[-1])
    return figures
