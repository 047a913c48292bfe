"""Shared by the live tests of ``deliver``: records, the role as a process, a receiver."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from schemas import topics
from schemas.cloudevents import ENRICH, cloud_event
from schemas.codec import Codec
from streams.cli.main import app
from tests import builders
from tests.live.process import free_port
from tests.streams.beside import beside
from tests.streams.receiving import Receiver, receiver

Record = tuple[str, bytes, bytes | None, str]
"""Topic, key, value, CloudEvents id."""


def engagement(recipient: str, number: int, **fields: Any) -> Record:
    """The ``number``-th engagement of a recipient."""
    record = builders.record(
        "engagement", event_id=f"{number:032x}", kind="click", occurred_at=builders.RECEIVED_AT,
        recipient=recipient, campaign_id="spring", offset=number, **fields,
    )  # fmt: skip
    value = Codec().encode("engagement", record)
    return topics.ENGAGEMENT, recipient.encode(), value, f"{recipient[:3]}-{number}"


async def produce(bootstrap: str, records: Sequence[Record]) -> None:
    """Writes records in order, placed by their keys."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        sent = []
        for topic, key, value, ce_id in records:
            headers = cloud_event("engagement", ENRICH, ce_id, builders.RECEIVED_AT)
            sent.append(await producer.send(topic, value, key, headers=headers))
        for one in sent:
            await one
    finally:
        await producer.stop()


def receiving() -> AbstractContextManager[Receiver]:
    """A receiver in a thread of its own, so that a test may block."""
    return beside(receiver)


class DeliverProcess:
    """``mailpulse deliver`` as a process; killed when the block ends.

    Args:
        bootstrap: of Kafka.
        folder: where its ``mailpulse.toml`` and its log are.
        toml: the text of that file.
    """

    def __init__(self, bootstrap: str, folder: Path, toml: str) -> None:
        self.config = folder / "mailpulse.toml"
        self.config.write_text(toml)
        self._log = folder / "deliver.log"
        self.environ = {
            **os.environ,
            "MAILPULSE_KAFKA_BOOTSTRAP": bootstrap,
            "MAILPULSE_CONFIG_FILE": str(self.config),
            "MAILPULSE_DATA_DIR": str(folder),
            "MAILPULSE_GROUP_INSTANCE_ID": "one",
            "MAILPULSE_SESSION_TIMEOUT_MS": "6000",
            "MAILPULSE_REBALANCE_TIMEOUT_MS": "6000",
            "MAILPULSE_METRICS_PORT": str(port := free_port()),
            "DELIVER_SECRET": "whsec_" + "a2V5" * 8,
        }
        self._health = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streams.cli", "deliver"], env=self.environ,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def command(self, *arguments: str) -> str:
        """Runs another command of ``mailpulse`` here, against the same Kafka; returns its output.

        Raises:
            AssertionError: it did not end with 0.
        """
        done = CliRunner().invoke(app, arguments, env=self.environ)
        assert done.exit_code == 0, done.output
        return done.output

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            urllib.request.urlopen(f"{self._health}/readyz", timeout=5).close()
            return True
        except OSError:
            return False

    def figure(self, name: str) -> float | None:
        """A metric of the destination ``crm``; ``None`` if it is not there."""
        start = f'{name}{{destination="crm"'
        line = next((one for one in self.metrics() if one.startswith(start)), None)
        return None if line is None else float(line.split()[-1])

    @property
    def pid(self) -> int | None:
        """Of the process; ``None`` before it was started."""
        return None if self._process is None else self._process.pid

    def metrics(self) -> list[str]:
        """Every line of its metrics."""
        with urllib.request.urlopen(f"{self._health}/metrics", timeout=5) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return lines

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def wait_for(self, reached: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Waits while the process runs.

        Raises:
            AssertionError: it ended, or not in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert self._process is not None
            tail = self._log.read_text()[-3_000:]
            assert self._process.poll() is None, f"ended: {tail}"
            assert time.monotonic() < deadline, f"{what}: not in time: {tail}"
            time.sleep(0.02)

    def __enter__(self) -> "DeliverProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
