"""Ingress beside django-anymail and beside a route that does nothing: one run, one machine.

``run`` starts each server in a process of its own and loads them in turn, round after round, so
that whatever else the machine does hits all of them. What is reported is the median of the rounds.

anymail alone parses and calls a receiver. mailpulse and ``anymail-kafka`` also wait until Kafka has
acknowledged the events. ``…_cpu_us`` is the CPU time of a server's processes per request, which
other load on the machine moves less than it moves rates.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

import psutil

from tests.bench import abuse
from tests.bench.ingress_servers import PATHS
from tests.bench.sendgrid_load import Round, Signed, lua_script, signed_requests, wrk
from tests.ingest.keys import key_pair
from tests.live.process import Process, accepts, free_port

CONNECTIONS = 32
REQUESTS = {1: 2_000, 100: 60}
"""Events per request -> how many different requests."""
UNDER_GUNICORN = {"anymail-gunicorn": "anymail_wsgi", "anymail-kafka": "anymail_kafka_wsgi"}
HALF_CAPACITY_CONNECTIONS = 4
HEALTHY_CONNECTIONS = 2
SECONDS, QUICK_SECONDS = 120, 30


class Contestant:
    """One server: its process, its scripts, its rounds."""

    def __init__(self, name: str, folder: Path, kafka: str, public_key: str) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{PATHS[name]}"
        if name in UNDER_GUNICORN:
            argv = [
                sys.executable, "-P", "-m", "gunicorn",
                f"tests.bench.ingress_servers:{UNDER_GUNICORN[name]}()",
                "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--log-level", "critical",
            ]  # fmt: skip
        else:
            argv = [sys.executable, "-m", "tests.bench.ingress_servers", name, str(self.port)]
        env = os.environ | {
            "BENCH_KAFKA": kafka,
            "BENCH_PUBLIC_KEY": public_key,
            "BENCH_LOG": str(folder / f"{name}.jsonl"),
        }
        self.process = Process(name, argv, folder / f"{name}.log", env=env, death_signal="TERM")
        self.scripts: dict[int, Path] = {}
        self.rounds: dict[int, list[Round]] = {}
        self.cpu_us: dict[int, list[float]] = {}
        self._folder = folder

    def prepare(self, requests: dict[int, list[Signed]]) -> None:
        """Writes the scripts and starts the server."""
        for events, signed in requests.items():
            path = self._folder / f"{self.name}-{events}.lua"
            path.write_text(lua_script(signed, PATHS[self.name]), encoding="ascii")
            self.scripts[events] = path
        self.process.start()
        self.process.wait_until(self._serves, "listening")

    def _serves(self) -> bool:
        """Whether it would answer 200: mailpulse once it has reached Kafka."""
        if not accepts(self.port):
            return False
        if self.name != "mailpulse":
            return True
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200

    def load(self, events: int, seconds: float, connections: int = CONNECTIONS) -> Round:
        """One round.

        Raises:
            RuntimeError: a request was not answered 200.
        """
        result = wrk(self.url, self.scripts[events], seconds, connections)
        if result.bad:
            raise RuntimeError(
                f"{self.name}: {result.bad} requests not answered 200\n{self.process.log_tail()}"
            )
        return result

    def measure(self, events: int, seconds: float) -> None:
        """One round that counts."""
        before_s = self._cpu_s()
        one = self.load(events, seconds)
        self.rounds.setdefault(events, []).append(one)
        cost_us = (self._cpu_s() - before_s) / one.requests * 1e6
        self.cpu_us.setdefault(events, []).append(cost_us)

    def _cpu_s(self) -> float:
        parent = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))

    def per_s(self, events: int) -> float:
        """Median requests a second."""
        return statistics.median(one.per_s for one in self.rounds[events])

    def cost_us(self, events: int) -> float:
        """Median CPU time per request."""
        return statistics.median(self.cpu_us[events])


def run(
    kafka_bootstrap: str,
    quick: bool,
    names: Sequence[str] = tuple(PATHS),
    seconds: float | None = None,
) -> dict[str, float]:
    """Measures and compares; the topics must be there.

    Args:
        kafka_bootstrap: a real Kafka.
        quick: fewer rounds.
        names: which servers.
        seconds: how long to load, all rounds of all servers together; by ``quick`` when not given.

    Raises:
        RuntimeError: wrk is missing, or a server refused.
    """
    private, public = key_pair("ecdsa", 0)
    requests = {
        events: signed_requests(private, count, events) for events, count in REQUESTS.items()
    }
    loads = [
        (name, events) for name in names for events in REQUESTS if (name, events) != ("noop", 100)
    ]
    if seconds is None:
        seconds = QUICK_SECONDS if quick else SECONDS
    rounds = max(2, round(seconds / (2 * (len(loads) + 1))))
    with tempfile.TemporaryDirectory(prefix="mailpulse-bench-") as folder:
        servers = {name: Contestant(name, Path(folder), kafka_bootstrap, public) for name in names}
        try:
            for server in servers.values():
                server.prepare(requests)
            for name, events in loads:
                servers[name].load(events, 1)  # warms up: imports, key caches, connections
            for _ in range(rounds):
                for name, events in loads:
                    servers[name].measure(events, 2)
            ours = servers["mailpulse"]
            quiet = [ours.load(1, 2, HALF_CAPACITY_CONNECTIONS) for _ in range(2)]
            felt = abuse.measure(
                ours.port, PATHS["mailpulse"], Path(folder),
                lambda: ours.load(1, 2 if quick else 5, HEALTHY_CONNECTIONS),
            )  # fmt: skip
        finally:
            for server in servers.values():
                server.process.stop()
    return _figures(servers, quiet) | felt


def _figures(servers: dict[str, Contestant], quiet: list[Round]) -> dict[str, float]:
    ours = servers["mailpulse"]
    figures = {
        "ingress_1_requests_per_s": ours.per_s(1),
        "ingress_100_requests_per_s": ours.per_s(100),
        "ingress_events_per_s": ours.per_s(100) * 100,
        **{f"ingress_{events}_cpu_us": ours.cost_us(events) for events in REQUESTS},
        "ingress_1_p99_ms": min(one.p99_ms for one in quiet),
        "ingress_1_p99_at_per_s": statistics.median(one.per_s for one in quiet),
    }
    for name in ("anymail-gunicorn", "anymail-kafka", "anymail-uvicorn"):
        short = name.removeprefix("anymail-")
        if name in servers:
            for events in REQUESTS:
                theirs = servers[name].per_s(events)
                figures[f"anymail_{short}_{events}_requests_per_s"] = theirs
                figures[f"anymail_{short}_{events}_cpu_us"] = servers[name].cost_us(events)
                figures[f"ingress_{events}_vs_anymail_{short}"] = ours.per_s(events) / theirs
    if "noop" in servers:
        figures["noop_1_requests_per_s"] = servers["noop"].per_s(1)
        figures["ingress_1_share_of_noop"] = ours.per_s(1) / servers["noop"].per_s(1)
    return figures


def main() -> None:
    """``python -m tests.bench.ingress BOOTSTRAP [--seconds N] [--only NAME …]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kafka")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--only", nargs="*", default=list(PATHS))
    given = parser.parse_args()
    print(json.dumps(run(given.kafka, False, given.only, given.seconds), indent=1))


if __name__ == "__main__":
    main()
