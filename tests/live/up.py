"""``mailpulse up`` as a user starts it, posts to it, and what it kept, for tests that harm it."""

import asyncio
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.cli.clickhouse import table_of
from streams.embedded.data_dir import STATE_FILE, Endpoints, running
from tests.live.process import Process, free_port

SECRET = "s3cret"
POSTS_AT_ONCE = 8
EVENTS_OF_A_POST = 20


@dataclass
class Load:
    """Posts signed events until it is stopped.

    Attributes:
        kept: ids of events whose post was answered 200.
    """

    url: str
    kept: set[str] = field(default_factory=set)
    posted: int = 0

    async def run(self, seconds: float) -> None:
        """Posts for a while from several connections; what gets no answer is not sent again."""
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=5) as client:
            await asyncio.gather(*(self._post(client, end) for _ in range(POSTS_AT_ONCE)))

    async def _post(self, client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            self.posted += 1
            ids = [f"{self.posted}-{number}" for number in range(EVENTS_OF_A_POST)]
            body = json.dumps(
                [
                    {"event": "delivered", "id": one, "message_id": one, "campaign_id": "spring",
                     "recipient": f"{one}@example.com"}
                    for one in ids
                ]
            ).encode()  # fmt: skip
            digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            headers = {"x-webhook-signature": digest}
            with suppress(httpx.HTTPError):
                answer = await client.post(self.url, content=body, headers=headers)
                if answer.status_code == 200:
                    self.kept.update(ids)
                    continue
            await asyncio.sleep(0.05)


class Up:
    """``mailpulse up`` as a user starts it.

    Args:
        folder: holds its ``mailpulse.toml`` and its data.
        log: where it writes.
        environ: settings of its own.
    """

    def __init__(self, folder: Path, log: Path, environ: Mapping[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        config = folder / "mailpulse.toml"
        config.write_text('[sources.crm]\nprovider = "generic"\nsecret = "env:CRM"\n', "utf-8")
        self.port = free_port()
        self._process = Process(
            "up",
            [sys.executable, "-P", "-m", "streams.cli", "up", "--port", str(self.port),
             "--data-dir", str(self.data), "--config", str(config)],
            log,
            env={**os.environ, "CRM": SECRET, **(environ or {})},
        )  # fmt: skip

    def start(self) -> Endpoints:
        """Starts it, and waits until it is ready."""
        (self.data / STATE_FILE).unlink(missing_ok=True)
        self._process.start()
        self._process.wait_until(lambda: running(self.data) is not None, "ready", 120)
        found = running(self.data)
        assert found is not None
        return found

    def kill(self) -> None:
        """Kills every process of it at once; returns when they are gone."""
        top = psutil.Process(self._process.pid)
        everyone = [*top.children(recursive=True), top]
        for one in everyone:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        self._process.kill()
        psutil.wait_procs(everyone, timeout=20)

    def stop(self) -> None:
        """Stops it in order."""
        self._process.stop(60)

    def child(self, role: str) -> psutil.Process:
        """The running process of a role, or of the ``broker``."""
        last = "streams.cli" if role != "broker" else "kafka.Kafka"
        for one in psutil.Process(self._process.pid).children():
            with suppress(psutil.NoSuchProcess):
                words = one.cmdline()
                if last in words and (role == "broker" or words[-1] == role):
                    return one
        raise AssertionError(f"no {role} runs\n{self.said()}")

    def said(self) -> str:
        """What it told its user so far, with the logs of its children."""
        return self._process.log.read_text("utf-8")

    def until_said(self, text: str, timeout_s: float = 120) -> None:
        """Waits until it has told its user ``text``."""
        self._process.wait_until(lambda: text in self.said(), text, timeout_s)


def stored(where: Endpoints) -> set[str]:
    """Ids of the events that an analyst finds."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    _, rows = table_of(asked, "SELECT message_id FROM events FINAL LIMIT 10000000")
    return {str(row[0]) for row in rows}


def answers(where: Endpoints) -> bool:
    """Whether the database answers; it does not while it is started again."""
    with suppress(Unavailable):
        figures(where)
        return True
    return False


def figures(where: Endpoints) -> tuple[int, int]:
    """Distinct messages of the campaign, and what its summary counts."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    _, rows = table_of(
        asked,
        "SELECT (SELECT uniqExact(message_id) FROM events),"
        " (SELECT sum(delivered) FROM campaign_summary)",
    )
    return int(rows[0][0]), int(rows[0][1])


def assert_kept(where: Endpoints, kept: set[str]) -> None:
    """Everything that was answered 200 is there within two minutes, and counted once."""
    end = time.monotonic() + 120
    while not answers(where):
        assert time.monotonic() < end, "the database does not answer"
        time.sleep(1)
    while missing := kept - stored(where):
        assert time.monotonic() < end, f"{len(missing)} of {len(kept)} are lost"
        time.sleep(1)
    while (found := figures(where))[0] != found[1]:
        assert time.monotonic() < end, f"{found[0]} messages, counted {found[1]}"
        time.sleep(1)
