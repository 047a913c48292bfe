"""What an event costs: CPU of each role and of Kafka, bytes on topics, in state, in ClickHouse.

``python -m tests.bench.capacity [EVENTS]`` sends signed requests of 100 events through the whole
line, once for warming up and once for measuring, and prints what ``streams/cli/capacity.py`` holds
as constants. CPU seconds are counted, not the clock's: other work on the machine changes them
little.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from confluent_kafka import Producer
from psutil import Process

from analytics.client import connect
from schemas.topics import RAW, TOPICS
from tests.bench.sendgrid_load import Signed, signed_requests
from tests.ingest.keys import key_pair
from tests.live.kafka import Kafka
from tests.live.roles import Pipeline

EVENTS = 60_000
EVENTS_EACH = 100
SENDERS = 8
WRITE_BYTES, WRITE_S = 1_000, 10.0
"""Size of a record, and how long, where it is measured what a broker can write."""


def _cpu_s(pid: int) -> float:
    times = Process(pid).cpu_times()
    return float(times.user + times.system)


def _bytes(folder: Path, prefix: str = "") -> int:
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and (not prefix or path.parent.name.rpartition("-")[0] == prefix)
        and path.suffix not in (".index", ".timeindex")
    )  # fmt: skip


def _send(url: str, requests: list[Signed]) -> None:
    with httpx.Client(trust_env=False, timeout=30) as client, ThreadPoolExecutor(SENDERS) as pool:

        def one(request: Signed) -> None:
            while True:
                answer = client.post(f"{url}/hooks/news", headers=request.headers,
                                     content=request.body)  # fmt: skip
                if answer.status_code == 200:
                    return
                time.sleep(0.2)

        list(pool.map(one, requests))


def measure(events: int) -> dict[str, float]:
    """Figure -> value, per event."""
    private, public = key_pair("ecdsa", 1)
    config = f'[sources.news]\nprovider = "sendgrid"\npublic_key = "{public}"\n'
    with Kafka() as broker, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Pipeline(broker.bootstrap, folder, config, {}) as pipeline:
            requests = signed_requests(private, 2 * events // EVENTS_EACH, EVENTS_EACH)
            half = len(requests) // 2
            _send(pipeline.ingest_url, requests[:half])
            pipeline.wait_caught_up()
            cpu = {role.kind: _cpu_s(role.pid) for role in pipeline}
            data, state = broker.folder / "data", folder / "state"
            broker_cpu = _cpu_s(broker.pid)
            held = {topic.name: _bytes(data, topic.name) for topic in TOPICS}
            kept = _bytes(state)
            _send(pipeline.ingest_url, requests[half:])
            pipeline.wait_caught_up()
            figures = {
                f"{role.kind}_cpu_us": (_cpu_s(role.pid) - cpu[role.kind]) / events * 1e6
                for role in pipeline
            }
            figures |= {
                f"{topic}_bytes": (_bytes(data, topic) - before) / events
                for topic, before in held.items()
            }
            figures["state_bytes"] = (_bytes(state) - kept) / events
            figures["broker_cpu_us"] = (_cpu_s(broker.pid) - broker_cpu) / events * 1e6
            pipeline.stop()
            figures["clickhouse_bytes"] = clickhouse_bytes(pipeline)
            return figures | broker_writes(broker)


def clickhouse_bytes(pipeline: Pipeline) -> float:
    """Bytes per row of table events, merged; for a pipeline whose sink has let go of it."""
    client = connect(pipeline.settings)
    client.command("OPTIMIZE TABLE events FINAL")
    [[size]] = client.query(
        "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND table = 'events'"
    ).result_rows
    client.close()
    return float(size)


def broker_writes(broker: Kafka) -> dict[str, float]:
    """What one broker writes while one client sends as fast as it takes it, and its CPU for that.

    Uncompressed, acknowledged, one replica. A client of the same machine takes part of it.
    """
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 5})
    value, sent, began, cpu = b"x" * WRITE_BYTES, 0, time.monotonic(), _cpu_s(broker.pid)
    while time.monotonic() - began < WRITE_S:
        try:
            producer.produce(RAW, value, key=b"%d" % sent)
            sent += 1
        except BufferError:
            producer.poll(0.05)
    producer.flush()
    took = time.monotonic() - began
    size = sent * WRITE_BYTES
    return {
        "broker_bytes_per_s": size / took,
        "broker_bytes_per_cpu_s": size / (_cpu_s(broker.pid) - cpu),
    }


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    print(json.dumps({key: round(value, 1) for key, value in measure(wanted).items()}, indent=1))
