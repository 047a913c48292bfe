"""ClickHouse down and ClickHouse hanging, under a sink that reads real Kafka."""

import asyncio
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.live.fixtures import KafkaCluster
from tests.live.kafka import create_mailpulse_topics
from tests.live.sinking import SinkProcess, produce
from tests.live.test_sink_kills import records_of
from tests.live.warehouse_process import WarehouseProcess

FAULT_S = float(os.environ.get("MAILPULSE_TEST_FAULT_S", "8"))
"""How long a fault lasts; the full proof takes 120."""
RSS_BYTES_MAX = 500 << 20


class Gate:
    """A TCP relay in front of a port: ``open``, ``shut`` (connections refused), ``stuck``
    (accepted, and nothing answered)."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.mode = "open"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                if self.mode == "shut":
                    caller.close()
                    continue
                answerer = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((caller, answerer), (answerer, caller)):
                    threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                while self.mode == "stuck":
                    time.sleep(0.05)
                if self.mode == "shut":
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stops accepting connections."""
        self._listener.close()


def _stored(url: str) -> int:
    request = f"{url}/?database=mailpulse"
    try:
        with urllib.request.urlopen(request, b"SELECT count() FROM email_events", 30) as answer:
            return int(answer.read())
    except urllib.error.HTTPError:  # the sink has not migrated yet
        return 0


def _until(url: str, expected: int, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (found := _stored(url)) != expected:
        assert time.monotonic() < deadline, f"{found} instead of {expected}"
        time.sleep(0.2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["shut", "stuck"])
def test_events_wait_out_a_fault_of_clickhouse(
    fault: str, kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Nothing is lost or counted twice, the group keeps its member, memory stays bounded."""
    bootstrap = kafka_cluster(1)[0].bootstrap
    create_mailpulse_topics(bootstrap)
    records, _ = records_of(20_000)
    folder = tmp_path / "sink"
    folder.mkdir()
    with WarehouseProcess(tmp_path) as warehouse:
        url, gate = warehouse.at.url, Gate(warehouse.at.private)
        with SinkProcess(
            bootstrap,
            folder,
            dsn=warehouse.at.dsn(gate.port),
            sink_rows_max="1000",
            clickhouse_timeout_s="3",
        ) as sink:
            asyncio.run(produce(bootstrap, records[:2_000]))
            _until(url, 2_000)
            gate.mode = fault
            asyncio.run(produce(bootstrap, records[2_000:]))
            time.sleep(FAULT_S)
            assert sink.process.poll() is None
            assert psutil.Process(sink.process.pid).memory_info().rss < RSS_BYTES_MAX
            gate.mode = "open"
            _until(url, 20_000)
            assert sink.stop() == 0
        gate.close()
