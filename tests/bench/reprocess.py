"""The speed of reprocessing: ``mailpulse reprocess`` on a pipeline with history.

``run`` writes ``EVENTS`` to the raw topic, lets one worker and the sink read all of it, and raises
the version of the rules. Figures: records a second of the worker while it folds (from the command's
output, from 5 to 95 %), and over all, from calling the command to its end: the worker's restart,
the fold, its counts. ClickHouse follows meanwhile, on the same machine.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from schemas.settings import PREFIX
from schemas.topics import PARTITIONS_DEFAULT, RAW
from tests.bench.traffic import Shape, fill
from tests.live.roles import Pipeline, clean_environ

EVENTS, QUICK_EVENTS = 200_000, 10_000
SHAPE = Shape(events_per_s=200)
_SAID = re.compile(r"([\d.]+) % of ([\d,]+) records")


def newer_rules(folder: Path) -> Path:
    """The shipped rules with a higher version."""
    text = files("streams.classify.tables").joinpath("machines.toml").read_text("utf-8")
    path = folder / "newer.toml"
    path.write_text(text.replace("version = 2", "version = 3", 1), encoding="utf-8")
    return path


def reprocess(pipeline: Pipeline, rules: Path) -> list[tuple[float, float]]:
    """Runs the command: when it said (seconds since its call) that how many records were done.

    Raises:
        RuntimeError: it failed.
    """
    environ = clean_environ() | {PREFIX + key: text for key, text in pipeline._environ.items()}
    command = [
        sys.executable,
        "-P",
        "-m",
        "streams.cli",
        "reprocess",
        "--from",
        "30d",
        "--rules",
        rules,
    ]
    begun, said = time.monotonic(), []
    with subprocess.Popen(
        [str(word) for word in command], env={**environ, "COLUMNS": "200"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if found := _SAID.search(line):
                done = float(found[1]) / 100 * int(found[2].replace(",", ""))
                said.append((time.monotonic() - begun, done))
    if process.returncode or not said:
        raise RuntimeError(f"reprocess ended with {process.returncode}; it said {said}")
    said.append((time.monotonic() - begun, said[-1][1]))
    return said


def run(bootstrap: str, quick: bool) -> dict[str, float]:
    """See the module."""
    count = QUICK_EVENTS if quick else EVENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Pipeline(
            bootstrap, folder, "", {}, ingests=0, partitions=PARTITIONS_DEFAULT
        ) as pipeline:
            asyncio.run(fill(bootstrap, RAW, count, PARTITIONS_DEFAULT, SHAPE))
            pipeline.wait_caught_up()
            said = reprocess(pipeline, newer_rules(folder))
    amid = [(at, done) for at, done in said if 0.05 * count <= done <= 0.95 * count]
    figures = {"reprocess_records": float(count), "reprocess_all_s": said[-1][0],
               "reprocess_all_per_s": count / said[-1][0]}  # fmt: skip
    if len(amid) > 1:
        (first_s, first), (last_s, last) = amid[0], amid[-1]
        figures["reprocess_fold_per_s"] = (last - first) / (last_s - first_s)
    return figures
