"""Records the metrics of a real pipeline: idle, busy, and with faults (`make record-metrics`).

``python -m tests.alerting.record`` runs Kafka and one process per role, with a real Prometheus that
scrapes them and judges by the rules that are shipped; about half an hour. For each phase
``recorded/PHASE.json`` says what was scraped and which alerts fired; ``test_recorded.py`` judges
them again.

Invariants:
1. Nothing is made up: every sample is what a role exported.
2. A fault is mended before the next phase begins, and the alerts that it set off are silent again;
   but for those of budgets, whose windows are longer than all phases.
3. Times are relative to the phase's begin, as promtool's clock begins at 0.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.alerting.judging import ALERTS, written
from tests.alerting.watching import Prometheus
from tests.live.delivering import DeliverProcess, receiving
from tests.live.kafka import Kafka
from tests.live.poison import put_poison
from tests.live.roles import Pipeline
from tests.live.threads import in_threads
from tests.metrics_table import metrics

FOLDER = Path(__file__).parent / "recorded"
STEP_S = 20
"""Between two samples that are kept; scraped is twice as often."""
SECRET = "s3cret"
POST_EVERY_S = 0.5
EVENTS_OF_A_POST = 20
BAD_ITEMS = 200
SINCE_1970 = {one.name for one in metrics() if "since 1970" in one.meaning}
USUAL = {"MailpulseWatchdog", "MailpulseNoEvents", *(one for one in ALERTS if "Budget" in one)}
"""Alerts that may go on between phases: nothing is posted there, and budgets look further back."""
JOBS = {
    "ingest-1": "ingest-1:8080", "worker-1": "worker-1:9100", "worker-2": "worker-2:9100",
    "sink-1": "sink:9100", "dashboard-1": "dashboard:9100", "warehouse-1": "warehouse:9100",
}  # fmt: skip
"""Role -> its instance in compose."""
TOML = """
[destinations.crm]
url = "{url}"
topics = ["events"]
allow_networks = ["127.0.0.0/8"]
secret = "env:DELIVER_SECRET"
"""


@dataclass
class Scene:
    """A running pipeline, and what a phase may do to it."""

    broker: Kafka
    pipeline: Pipeline
    prometheus: Prometheus
    held: set[str]

    def down(self, name: str) -> None:
        """Kills a role, which stays down."""
        self.held.add(name)
        self.pipeline[name].kill()

    def up(self, name: str) -> None:
        """Lets it be started again."""
        self.held.discard(name)

    def post(self, items: Sequence[object]) -> None:
        """Posts a signed body; what is not answered is not sent again."""
        body = json.dumps(items).encode()
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        with suppress(httpx.HTTPError):
            httpx.post(
                f"{self.pipeline.ingest_url}/hooks/crm", content=body, timeout=5, trust_env=False,
                headers={"x-webhook-signature": digest},
            )  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A stretch of time. ``fault`` begins it, ``mend`` ends it."""

    seconds: float
    load: bool
    fault: Callable[[Scene], None] = lambda scene: None
    mend: Callable[[Scene], None] = lambda scene: None


def _dead_letters(scene: Scene) -> None:
    scene.post(list(range(BAD_ITEMS)))
    asyncio.run(put_poison(scene.broker.bootstrap, 2))


def _start_kafka(scene: Scene) -> None:
    scene.broker.start()


PHASES = {
    "idle": Phase(420, load=False),
    "busy": Phase(420, load=True),
    "worker_away": Phase(
        300, True, lambda one: one.down("worker-1"), lambda one: one.up("worker-1")
    ),
    "clickhouse_away": Phase(
        300, True, lambda one: one.down("warehouse-1"), lambda one: one.up("warehouse-1")
    ),
    "kafka_away": Phase(240, True, lambda one: one.broker.kill(), _start_kafka),
    "dead_letters": Phase(120, True, _dead_letters),
}


@contextmanager
def supervised(scene: Scene) -> Iterator[None]:
    """Starts roles that end, unless they are held down."""

    def watch(over: threading.Event) -> None:
        while not over.wait(1):
            for role in scene.pipeline:
                if not role.running and role.name not in scene.held:
                    role.start()

    with in_threads(watch):
        yield


def _run(scene: Scene, phase: Phase) -> None:
    end, number = time.monotonic() + phase.seconds, 0
    while time.monotonic() < end:
        if phase.load:
            number += 1
            ids = [f"{time.time_ns()}-{number}-{one}" for one in range(EVENTS_OF_A_POST)]
            scene.post(
                [
                    {"event": "delivered", "id": one, "message_id": one, "campaign_id": "spring",
                     "recipient": f"{one}@example.com"}
                    for one in ids
                ]
            )  # fmt: skip
        time.sleep(POST_EVERY_S)


def _samples(scene: Scene, begun: float, ended: float) -> list[dict[str, Any]]:
    """What was scraped: each series' labels, and its values in promtool's notation."""
    found = scene.prometheus.ask(
        "query_range",
        query='{job=~"mailpulse-.+", __name__=~"up|mailpulse_.+", __name__!~".+_created"}',
        start=begun, end=ended, step=STEP_S,
    )["result"]  # fmt: skip
    count = int((ended - begun) // STEP_S) + 1
    out = []
    for series in found:
        at = {round((float(when) - begun) / STEP_S): float(value)
              for when, value in series["values"]}  # fmt: skip
        base = begun if series["metric"]["__name__"] in SINCE_1970 else 0.0
        values = [at.get(number) for number in range(count)]
        out.append(
            {
                "labels": dict(sorted(series["metric"].items())),
                "values": written(v if not v else round(v - base, 3) for v in values),
            }
        )
    return sorted(out, key=lambda one: json.dumps(one["labels"]))


def record(scene: Scene, name: str, seconds: float | None = None) -> None:
    """One phase; writes its file."""
    phase = PHASES[name] if seconds is None else replace(PHASES[name], seconds=seconds)
    begun = time.time()
    phase.fault(scene)
    _run(scene, phase)
    fired, ended = scene.prometheus.firing(), time.time()
    series = _samples(scene, begun, ended)
    document = {
        "step_s": STEP_S, "seconds": (ended - begun) // STEP_S * STEP_S, "fired": sorted(fired),
        "series": series,
    }  # fmt: skip
    lines = json.dumps(document).replace('{"labels"', '\n{"labels"')
    (FOLDER / f"{name}.json").write_text(lines + "\n", "utf-8")
    phase.mend(scene)
    print(f"{name}: {len(series)} series, fired: {sorted(fired)}", flush=True)


@contextmanager
def scenery() -> Iterator[Scene]:
    """A pipeline with every role, and Prometheus."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailpulse-record-")))
        broker = stack.enter_context(Kafka())
        pipeline = stack.enter_context(
            Pipeline(
                broker.bootstrap, folder / "roles",
                '[sources.crm]\nprovider = "generic"\nsecret = "env:CRM"\n', {"CRM": SECRET},
                workers=2, dashboard=True, settings={"SINK_RECONCILE_INTERVAL_S": "30"},
            )
        )  # fmt: skip
        (folder / "deliver").mkdir()
        there = stack.enter_context(receiving())
        deliver = stack.enter_context(
            DeliverProcess(broker.bootstrap, folder / "deliver", TOML.format(url=there.url))
        )
        targets: dict[str, dict[str, int]] = {
            "mailpulse-deliver": {"deliver:9100": int(deliver.environ["MAILPULSE_METRICS_PORT"])}
        }
        for role in pipeline:
            job = targets.setdefault(f"mailpulse-{role.kind}", {})
            job[JOBS[role.name]] = int(role.url.rpartition(":")[2])
        prometheus = stack.enter_context(Prometheus(targets, folder / "prometheus"))
        scene = Scene(broker, pipeline, prometheus, set())
        stack.enter_context(supervised(scene))
        yield scene


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.alerting.record", description=__doc__)
    parser.add_argument("--only", help="phases, comma-separated", default=",".join(PHASES))
    parser.add_argument("--seconds", type=float, help="of each phase, to try the recorder")
    given = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    with scenery() as scene:
        for name in given.only.split(","):
            record(scene, name, given.seconds)
            scene.prometheus.wait_silent(USUAL, timeout_s=900)
            print("silent again", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
