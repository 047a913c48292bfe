"""A machine is lost and restored from its backup: every figure as before, and traffic goes on.

Once with Kafka lost, once with Kafka kept and ClickHouse and state lost. The long form kills the
backup and the restores with SIGKILL again and again: ``make test-backup``.
"""

import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from schemas.settings import Settings
from streams.cli.clickhouse import table_of
from streams.embedded.data_dir import Endpoints, running
from tests.live.roles import clean_environ
from tests.live.up import SECRET, Up

KILLS = int(os.environ.get("MAILPULSE_TEST_BACKUP_KILLS", "0"))
"""Of the backup, and of each restore. None in the short form, which leaves out the second one."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420 + 240 * KILLS)]

MESSAGES = 60
SEEN = {
    "campaign_summary": "SELECT * FROM campaign_summary ORDER BY ALL",
    "minutes": "SELECT * FROM campaign_minutes FINAL ORDER BY ALL",
    "events with their coordinates": "SELECT * FROM events FINAL ORDER BY event_id",
    "suppressions": "SELECT * FROM suppressions FINAL ORDER BY ALL",
}
ODD = "SELECT sum(missing), sum(unexplained) FROM reconciliation"
"""Of minutes that are five minutes old."""
GONE = "u7@example.com"
KINDS = ("delivered", "opened", "clicked", "bounced")


def bodies(first: int, at_s: int) -> list[bytes]:
    """Requests about messages that no other ``first`` has; the same whenever they are made."""
    out = []
    for number in range(first, first + MESSAGES):
        message = f"m{number}"
        out.append(
            json.dumps(
                [
                    {"event": kind, "id": f"{message}-{kind}", "message_id": message,
                     "campaign_id": f"c{number % 3}", "recipient": f"u{number}@example.com",
                     "time": at_s + place}
                    for place, kind in enumerate(KINDS[: 1 + number % 4])
                ]
            ).encode()
        )  # fmt: skip
    return out


def post(where: Endpoints, requests: list[bytes]) -> None:
    """Posts signed requests; each is answered 200."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        for body in requests:
            digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            headers = {"x-webhook-signature": digest}
            answer = client.post(f"{where.ingest_url}/hooks/crm", content=body, headers=headers)
            assert answer.status_code == 200, answer.text


def seen(where: Endpoints) -> dict[str, Any]:
    """What an analyst sees."""
    settings = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    return {name: table_of(settings, sql) for name, sql in SEEN.items()}


def events_in(requests: list[bytes]) -> int:
    """How many events requests have."""
    return sum(len(json.loads(body)) for body in requests)


def settled(where: Endpoints, events: int) -> dict[str, Any]:
    """What is seen once so many events are stored, and everything that follows from them."""
    end = time.monotonic() + 120
    before: dict[str, Any] = {}
    while time.monotonic() < end:
        time.sleep(1)
        now = seen(where)
        if now == before and len(now["events with their coordinates"][1]) == events:
            return now
        before = now
    count = len(before["events with their coordinates"][1])
    raise AssertionError(f"{count} of {events} events, or they do not settle")


def is_done(said: str) -> bool:
    """Whether a restore says that an earlier one had done everything: one that was killed when only
    its Kafka was still to be stopped."""
    return "restored here before" in said or "not_empty" in said


class Commands:
    """``mailpulse`` as its user runs it."""

    def __init__(self, up: Up, place: Path, environ: Mapping[str, str]) -> None:
        self.up, self.place = up, place
        self._environ = {**clean_environ(), **environ}

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Starts one."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", *words], env=self._environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        """Runs one to its end; returns all that it said."""
        return "".join(self._run(words, code))

    def document(self, *words: str) -> Any:
        """The document that one prints."""
        return json.loads(self._run((*words, "--json"), 0)[0])

    def _run(self, words: Sequence[str], code: int) -> tuple[str, str]:
        process = self.begin(*words)
        out, said = process.communicate(timeout=300)
        assert process.returncode == code, out + said
        return out, said

    def killed(self, *words: str, turn: int) -> str:
        """Starts one, and kills it and its children, each turn a while later.

        Returns:
            What it said if it had ended by itself before; empty: it was killed.
        """
        process = self.begin(*words)
        with suppress(subprocess.TimeoutExpired):
            out, said = process.communicate(timeout=2.0 + 2.5 * turn)
            assert process.returncode == 0 or is_done(said), out + said
            return out + said
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
        process.kill()
        process.communicate()
        return ""

    def backup(self) -> dict[str, Any]:
        """Backs up, after as many runs that were killed as the form has."""
        words = ("backup", str(self.place), "--data-dir", str(self.up.data))
        for turn in range(KILLS):
            self.killed(*words, turn=turn)
        found: dict[str, Any] = self.document(*words)
        return found

    def restore(self, name: str) -> str:
        """Restores, after as many runs that were killed as the form has."""
        words = (
            "restore", str(self.place), "--name", name, "--data-dir", str(self.up.data),
        )  # fmt: skip
        for turn in range(KILLS):
            if said := self.killed(*words, turn=3 + turn):
                return said
        process = self.begin(*words)
        said = "".join(process.communicate(timeout=300))
        assert process.returncode == 0 or (KILLS and is_done(said)), said
        return said


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A pipeline in a folder of its own; nothing of it outlives the test."""
    one = Up(tmp_path, tmp_path / "up.log", {"MAILPULSE_SNAPSHOT_INTERVAL_S": "2"})
    yield one
    with suppress(psutil.NoSuchProcess):
        one.kill()


def test_a_lost_machine_comes_back(up: Up, tmp_path: Path) -> None:
    """Backed up under traffic, lost, restored: figures equal, repeats are repeats."""
    commands = Commands(up, tmp_path / "place", {"MAILPULSE_DATA_DIR": str(up.data)})
    at_s = int(time.time()) - 600
    old, under_way, new = (bodies(first, at_s) for first in (0, 1_000, 2_000))
    where = up.start()
    post(where, old)
    traffic = threading.Thread(target=post, args=(where, under_way))
    traffic.start()
    commands.backup()
    traffic.join()
    events = events_in(old) + events_in(under_way)
    before = settled(where, events)
    second = commands.backup()
    assert second["new_bytes"] < second["bytes"]
    words = ("restore", str(commands.place), "--data-dir", str(up.data))
    assert "stop it first" in commands.run(*words, code=1)

    post(where, bodies(3_000, at_s))  # which no backup has, and the state that is left knows
    up.kill()
    for path in up.data.iterdir():
        if path.name != "state":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "Kafka" in commands.restore(second["name"])
    if KILLS:
        assert "restored here before" in commands.run(*words, code=1)
    where = up.start()
    assert seen(where) == before
    third = commands.backup() if KILLS else second
    settings = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    assert table_of(settings, ODD)[1][0] in ([0, 0], [None, None])
    post(where, old + under_way + new)
    events += events_in(new)
    after = settled(where, events)
    events_before, events_after = (
        one["events with their coordinates"][1] for one in (before, after)
    )
    assert [one for one in events_after if one in events_before] == events_before
    if KILLS:
        kafka_is_kept(up, commands, third["name"], after)


def kafka_is_kept(up: Up, commands: Commands, name: str, wanted: dict[str, Any]) -> None:
    """ClickHouse and state are lost; Kafka has all that came since the backup, and the erasure of
    somebody who is in the backup."""
    where = running(up.data)
    assert where is not None
    commands.run("forget", GONE, "--yes")
    wanted = settled(where, len(wanted["events with their coordinates"][1]))
    up.stop()
    assert "not_empty" in commands.run(
        "restore", str(commands.place), "--data-dir", str(up.data), code=1
    )
    for folder in ("clickhouse", "state"):
        shutil.rmtree(up.data / folder)
    said = commands.restore(name)
    assert "not_empty" in said or ("Kafka was kept" in said and "1 people" in said)
    where = up.start()
    found = settled(where, len(wanted["events with their coordinates"][1]))
    assert found == wanted
    assert GONE not in str(found)
    up.stop()
