"""``mailpulse dev`` as a developer of a consumer uses it, with the consumers that count."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.embedded.fixture import BEGUN_MESSAGES
from streams.embedded.fixture_records import CAMPAIGNS, Story
from tests.live.node_project import compiled
from tests.live.roles import clean_environ
from tests.readme import all_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

COMMAND = [sys.executable, "-P", "-m", "streams.cli"]
PATIENCE_S = 180.0
RATE_PER_S = 0.5
"""Messages; slow, so that a consumer catches up between two."""
LINES_MAX = 120
"""A consumer that counts wrongly never prints what is right."""
LATER_MAX = 600
"""Messages that can follow those written at the begin, while a consumer starts."""


@dataclass(frozen=True)
class Running:
    """``mailpulse dev`` while it runs; ``addresses`` has the variables that it prints."""

    folder: Path
    addresses: dict[str, str]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Started, and at the end stopped by Ctrl-C, in order."""
    folder = tmp_path_factory.mktemp("dev")
    log = folder / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "dev", "--rate", str(RATE_PER_S)],
            cwd=folder, env=clean_environ(), stdout=output, stderr=output,
        )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_S
        while "Ctrl-C stops it" not in log.read_text("utf-8"):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.2)
        said = log.read_text("utf-8").splitlines()
        lines = [line.split("=", 1) for line in said if line.startswith(("KAFKA=", "REGISTRY="))]
        yield Running(folder, {name: value for name, value in lines})
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text("utf-8")


def test_a_consumer_finds_topics_records_and_schemas(dev: Running) -> None:
    """Kafka and registry at the printed addresses; some records come twice; more come on."""
    registry = f"{dev.addresses['REGISTRY']}/subjects"
    with urllib.request.urlopen(registry, timeout=30) as answer:
        assert "email.engagement.v1-value" in json.load(answer)
    environ = clean_environ() | {"MAILPULSE_KAFKA_BOOTSTRAP": dev.addresses["KAFKA"]}
    tail = [*COMMAND, "tail", "engagement", "--from", "2h", "--json"]

    def told() -> list[dict[str, Any]]:
        found = subprocess.run(tail, env=environ, cwd=dev.folder, capture_output=True, check=True)
        return [json.loads(line)["value"] for line in found.stdout.splitlines()]

    end = time.monotonic() + PATIENCE_S
    while len(lines := told()) <= 50:  # those of the begin are being written
        assert time.monotonic() < end, len(lines)
    places = [(one["log_id"], one["partition"], one["offset"]) for one in lines]
    assert len(set(places)) < len(places), "some come twice"
    while len(told()) == len(lines):
        assert time.monotonic() < end, "they come on"


def opens_after_each_message() -> list[dict[str, int]]:
    """Opens by people for each campaign, as the story's own rates would have them, after each of
    its messages."""
    story = Story()
    after = []
    for number in range(BEGUN_MESSAGES + LATER_MAX):
        list(story.message(number))
        counts = {name: story.counts(name)["opened"] for name in CAMPAIGNS}
        after.append({name: opens for name, opens in counts.items() if opens})
    return after


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_a_recipe_counts_every_repeat_once(dev: Running, tmp_path: Path, language: str) -> None:
    """What it prints is the story's own count after one of its messages, then after a later one,
    although one record in ten comes twice and some opens are corrected."""
    source = all_blocks("consumer")[f"opens-{language}"]
    if language == "typescript":
        command = compiled(tmp_path, "opens", source)
    else:
        (tmp_path / "opens.py").write_text(source, encoding="utf-8")
        command = [sys.executable, "-P", "opens.py"]
    right = opens_after_each_message()
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clean_environ() | dev.addresses, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    counted: set[int] = set()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if not line.startswith("{"):
                continue
            found = json.loads(line)
            # while it catches up it has seen some of one partition, and more of another
            if found in right[BEGUN_MESSAGES - 1 :]:
                counted.add(sum(found.values()))
            if len(counted) == 2 or len(said) == LINES_MAX:
                break
    finally:
        process.kill()
        with closing(process.stdout):
            process.wait()
    assert len(counted) == 2, "".join(said)[-2_000:]
