"""The real ``mailpulse ingest`` as a child process, and signed requests for it.

Invariants:
1. The role runs as an operator runs it: by the command, with ``mailpulse.toml`` and environment.
2. Every request is signed for real and holds one event, whose id is known beforehand.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ingest import verify
from ingest.providers import REGISTRY
from ingest.providers.sendgrid import SIGNATURE, TIMESTAMP
from tests.ingest.keys import Example, example
from tests.live.process import Process, accepts, free_port
from tests.live.roles import clean_environ

SOURCE = "news"


class Ingress:
    """A running ingress with one SendGrid source, ``news``.

    Args:
        folder: for its configuration, spool and log.
        bootstrap: Kafka.
        settings: further settings, by their names in lower case.
    """

    def __init__(self, folder: Path, bootstrap: str, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.example: Example = example("sendgrid", name=SOURCE)
        config = folder / "mailpulse.toml"
        [key] = self.example.source.public_key
        config.write_text(f'[sources.{SOURCE}]\nprovider = "sendgrid"\npublic_key = "{key}"\n')
        given = {
            "config_file": config,
            "kafka_bootstrap": bootstrap,
            "ingest_port": self.port,
            "log_format": "json",
            **settings,
        }
        env = clean_environ()
        env |= {f"MAILPULSE_{name.upper()}": str(value) for name, value in given.items()}
        argv = [sys.executable, "-P", "-m", "streams.cli", "ingest"]
        self.process = Process("ingest", argv, folder / "ingest.log", env=env)

    def start(self, *, kafka: bool = True) -> None:
        """Starts it; waits until it listens, and until it is connected unless ``kafka`` is off."""
        self.process.start()
        self.process.wait_until(lambda: accepts(self.port), "listening")
        if kafka:
            self.process.wait_until(lambda: bool(self.state()["kafka"]), "connected")

    def state(self) -> dict[str, object]:
        """What ``/readyz`` says."""
        answer: dict[str, object] = httpx.get(f"{self.url}/readyz", timeout=10).json()
        return answer

    def samples(self, first: int = 1) -> Iterator["Sample"]:
        """Signed requests without end, each with a new event."""
        provider, source = REGISTRY["sendgrid"], self.example.source
        number = first
        while True:
            now = time.time()
            request = provider.sample(source, now, number, self.example.signing_key)
            [event] = provider.parse(request, source, int(now * 1e6)).events
            yield Sample(event["event_id"], request.body, dict(request.headers))
            number += 1

    def signature(self, body: bytes) -> dict[str, str]:
        """Headers that authenticate a body."""
        assert self.example.signing_key is not None
        now = str(int(time.time()))
        return {
            TIMESTAMP: now,
            SIGNATURE: verify.sign_ecdsa(self.example.signing_key, now.encode() + body),
        }

    def memory_peak_bytes(self) -> int:
        """Highest resident memory since the start or the last ``forget_memory_peak``."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def forget_memory_peak(self) -> int:
        """Resets the peak to the memory that is resident now, which it returns, in bytes."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory_peak_bytes()


@dataclass(frozen=True)
class Sample:
    """A signed request with one event."""

    event_id: str
    body: bytes
    headers: dict[str, str]


@dataclass
class Answers:
    """The answers to a load.

    Attributes:
        acknowledged: ids of events answered 200, in order.
        statuses: every status, in order; 0 if the connection failed.
        without_retry: refusals without Retry-After.
    """

    acknowledged: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    without_retry: int = 0


async def post(client: httpx.AsyncClient, url: str, sample: Sample, answers: Answers) -> int:
    """Sends one request and records its answer.

    Raises:
        httpx.TimeoutException: no answer within the client's time-out.
    """
    try:
        answer = await client.post(
            f"{url}/hooks/{SOURCE}", content=sample.body, headers=sample.headers
        )
    except httpx.TimeoutException:
        raise
    except httpx.TransportError:  # killed, or not up again
        answers.statuses.append(0)
        return 0
    answers.statuses.append(answer.status_code)
    if answer.status_code == 200:
        answers.acknowledged.append(sample.event_id)
    elif "retry-after" not in answer.headers:
        answers.without_retry += 1
    return answer.status_code
