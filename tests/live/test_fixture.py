"""``mailpulse dev`` as a developer of a consumer uses it."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.live.roles import clean_environ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_consumer_finds_topics_records_and_schemas(tmp_path: Path) -> None:
    """Kafka and registry at the printed addresses; records come on; Ctrl-C ends it in order."""
    command = [sys.executable, "-P", "-m", "streams.cli"]
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "dev", "--rate", "20"],
            cwd=tmp_path, env=clean_environ(), stdout=output, stderr=output,
        )  # fmt: skip
    try:
        end = time.monotonic() + 180
        while "Ctrl-C stops it" not in log.read_text("utf-8"):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.2)
        said = log.read_text("utf-8").splitlines()
        given = dict(
            line.split("=", 1) for line in said if line.startswith(("KAFKA=", "REGISTRY="))
        )
        with urllib.request.urlopen(f"{given['REGISTRY']}/subjects", timeout=30) as answer:
            assert "email.engagement.v1-value" in json.load(answer)
        environ = clean_environ() | {"MAILPULSE_KAFKA_BOOTSTRAP": given["KAFKA"]}
        tail = [*command, "tail", "engagement", "--from", "2h", "--json"]
        first = subprocess.run(tail, env=environ, cwd=tmp_path, capture_output=True, check=True)
        lines = [json.loads(line)["value"] for line in first.stdout.splitlines()]
        assert len(lines) > 50
        places = [(one["log_id"], one["partition"], one["offset"]) for one in lines]
        assert len(set(places)) < len(places), "some come twice"
        again = subprocess.run(tail, env=environ, cwd=tmp_path, capture_output=True, check=True)
        assert len(again.stdout.splitlines()) > len(lines), "they come on"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text("utf-8")
