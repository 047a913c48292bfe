"""The recipes on the pages, as a new user types them: configuration, keys, signed requests, a
query."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.process import free_port
from tests.live.roles import clean_environ
from tests.readme import all_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

RECIPES = all_blocks("recipe")
START, PATIENCE_S = "mailpulse up &", 90.0
REQUESTS = ("sendgrid", "postmark", "generic")
ACCEPTED = {"accepted": 1, "rejected": 0}
OWN_SECRET = "s3cret-of-acme"


class Reader:
    """A reader who follows the page in an empty folder, on another port.

    Args:
        folder: where everything happens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "mailpulse.toml").write_text(
            RECIPES["config"] + "\n" + RECIPES["own"], encoding="utf-8"
        )
        assert RECIPES["keys"].endswith(f"{START}\n")
        # Everything of the block but the start; what it exports goes on as it would in a shell.
        script = RECIPES["keys"].removesuffix(f"{START}\n") + "env -0 > exported\n"
        self.environ = {**clean_environ(), "ACME_SECRET": OWN_SECRET}
        self.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.environ['PATH']}"
        self.sh(script)
        for line in (folder / "exported").read_text(encoding="utf-8").split("\0"):
            name, _, value = line.partition("=")
            if name:
                self.environ[name] = value
        self._log = (folder / "up.log").open("wb")
        self._up = subprocess.Popen(
            ["mailpulse", "up", "--port", str(self.port)],
            stdout=self._log, stderr=self._log, cwd=folder, env=self.environ,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while "Ctrl-C stops it" not in self.said():
            assert self._up.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        """What ``mailpulse up`` wrote."""
        return (self.folder / "up.log").read_text(encoding="utf-8")

    def sh(self, script: str) -> str:
        """The stdout of a block, its port replaced by ours."""
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(":8080/", f":{self.port}/")],
            capture_output=True, text=True, check=False, timeout=60, cwd=self.folder,
            env=self.environ,
        )  # fmt: skip
        assert answer.returncode == 0, f"{script}\n{answer.stdout}{answer.stderr}"
        return answer.stdout

    def post_own(self, body: str) -> str:
        """The answer to a request of the sender that the page describes, signed as it says."""
        now = int(time.time())
        signature = hmac.new(OWN_SECRET.encode(), f"{now}.{body}".encode(), hashlib.sha256)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/hooks/acme", body.encode(),
            {"Content-Type": "application/json",
             "X-Acme-Signature": f"t={now},v1={signature.hexdigest()}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def close(self) -> None:
        """Ends it as Ctrl-C does."""
        self._up.send_signal(signal.SIGINT)
        try:
            self._up.wait(60)
        except subprocess.TimeoutExpired:
            self._up.kill()
        self._log.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader whose pipeline runs."""
    one = Reader(tmp_path)
    try:
        yield one
    finally:
        one.close()


def test_every_recipe_of_the_readme_is_known_here() -> None:
    """A new recipe must be tested, or this fails."""
    assert set(RECIPES) == {"config", "keys", *REQUESTS, "look", "own", "own-body"}


def test_recipes_work_as_written(reader: Reader) -> None:
    """Each signed request is accepted; the query shows the campaigns of all that name one."""
    for name in REQUESTS:
        assert json.loads(reader.sh(RECIPES[name])) == ACCEPTED, name
    assert json.loads(reader.post_own(RECIPES["own-body"])) == ACCEPTED
    reader.sh("mailpulse send-test acme --url http://127.0.0.1:8080/")
    end = time.monotonic() + PATIENCE_S
    while True:
        rows = [line.split("\t") for line in reader.sh(RECIPES["look"]).splitlines()]
        if [row[:3] for row in rows[1:] if row[0]] == [
            ["autumn", "0", "1"], ["receipts", "1", "0"], ["sample", "1", "0"],
            ["spring", "1", "0"],
        ]:  # fmt: skip
            break
        assert time.monotonic() < end, rows
        time.sleep(0.5)
    assert rows[0] == ["campaign_id", "delivered", "clicked", "bounce_rate", "click_rate"]
