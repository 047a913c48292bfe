"""How fast events become queryable, and how fast questions about them are answered.

Invariants:
1. The sink is the product's own process (``mailpulse sink``) on a real broker, beside ``mailpulse
   warehouse``; what is measured is from the first stored row to the last, seen from outside through
   the analysts' listener.
2. The limit it is compared with is clickhouse-connect inserting the same columns from memory, in
   the engine's own process, without HTTP.
3. Views are asked as ``tests/bench/analytics_views.py`` says.
4. Memory is bounded: events are made, sent and forgotten; what stays is one small record for each
   campaign minute.

Keys: ``sink_rows_per_s``, ``sink_share_of_limit``, ``limit_rows_per_s``, ``p95_ms_<question>``,
``p95_ms_<question>_loaded``, ``loaded_ratio_<question>``, ``bytes_per_event``, ``visible_p50_s``,
``visible_p99_s``.

``BENCH_EVENTS=5000000 python -m tests.bench --only analytics`` is the whole proof.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import clickhouse_connect
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from analytics.client import connect, reader
from analytics.sink.loading import Loader
from schemas import topics
from schemas.codec import Codec
from schemas.settings import Settings
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import Load
from tests.bench.analytics_views import ask, quantile
from tests.live.process import free_port
from tests.live.warehouse_process import WarehouseProcess

Item = TypeVar("Item")

EVENTS = 5_000_000
EVENTS_QUICK = 100_000
CAMPAIGNS = 200
VISIBLE_PER_S = 2_000
VISIBLE_S = 20
UNSENT_MAX = 64
"""Batches that Kafka has not acknowledged: bounds what the generator is ahead."""
TOLD_EACH = 500_000


def run(kafka_bootstrap: str, quick: bool = False, events: int = 0) -> dict[str, float]:
    """Measures everything on ``events`` events.

    Args:
        kafka_bootstrap: a broker with mailpulse's topics.
        quick: 100,000 events and few questions.
        events: how many; default: ``BENCH_EVENTS``, else 5,000,000 or the quick number.

    Raises:
        AssertionError: an event is missing, or counted twice.
    """
    count = events or int(os.environ.get("BENCH_EVENTS", "0"))
    count = count or (EVENTS_QUICK if quick else EVENTS)
    say = _teller()
    begin = int(time.time()) // 86_400 * 86_400 - 31 * 86_400
    load = Load(count, min(CAMPAIGNS, max(101, count // 1000)), begin, pack=True)
    with tempfile.TemporaryDirectory(prefix="mailpulse-bench-") as folder:
        asyncio.run(_produce(kafka_bootstrap, load, say))
        with WarehouseProcess(Path(folder), {"LOG_LEVEL": "WARNING"}) as warehouse:
            settings = _settings(kafka_bootstrap, Path(folder), warehouse)
            figures = {"sink_rows_per_s": _drain(settings, warehouse, count, say)}
            figures |= _visible(settings, warehouse, 3 if quick else VISIBLE_S)
            say("visibility measured")
            client, analyst = connect(settings), reader(_analysts(settings, warehouse))
            try:
                _load_minutes(client, load)
                say("minutes loaded")
                figures |= ask(analyst, settings, load, quick, say)
                figures["bytes_per_event"] = _bytes_per_event(client)
                say("merged")
            finally:
                client.close()
                analyst.close()
            assert warehouse.stop() == 0
        directory = Path(folder) / "clickhouse"
        figures |= _limit(directory, min(count, 100_000), figures["sink_rows_per_s"])
    return figures


def _teller() -> Callable[[str], None]:
    """Tells on stderr how far the run is, with the seconds since its start."""
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {line}", file=sys.stderr, flush=True)

    return say


def _settings(bootstrap: str, folder: Path, warehouse: WarehouseProcess) -> Settings:
    return Settings(
        kafka_bootstrap=bootstrap, data_dir=folder, clickhouse_dsn=SecretStr(warehouse.at.dsn())
    )


def _analysts(settings: Settings, warehouse: WarehouseProcess) -> Settings:
    dsn = SecretStr(f"{warehouse.at.url}/mailpulse")
    return settings.model_copy(update={"clickhouse_dsn": dsn})


async def _produce(bootstrap: str, load: Load, say: Callable[[str], None]) -> None:
    """Writes every event; what waits for Kafka is bounded."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=1 << 18)
    await producer.start()
    batches = {number: producer.create_batch() for number in range(4)}
    sent: deque[asyncio.Future[object]] = deque()
    for count, (partition, value) in enumerate(load, 1):
        batch = batches[partition]
        if batch.append(key=None, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, topics.ENRICHED, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(key=None, value=value, timestamp=None)
            while len(sent) > UNSENT_MAX:
                await sent.popleft()
        if count % TOLD_EACH == 0:
            say(f"{count:,} of {load.events:,} events on the topic")
    for partition, batch in batches.items():
        sent.append(await producer.send_batch(batch, topics.ENRICHED, partition=partition))
    for each in sent:
        await each
    await producer.stop()


@contextmanager
def _sink(settings: Settings, warehouse: WarehouseProcess) -> Iterator[str]:
    """The product's sink process, its tables made; yields the analysts' address."""
    port = free_port()
    told = {**warehouse.at.sink_settings(), "KAFKA_BOOTSTRAP": settings.kafka_bootstrap}
    told |= {"METRICS_PORT": str(port)}
    told |= {"DATA_DIR": str(settings.data_dir), "LOG_LEVEL": "WARNING"}
    environment = {**os.environ, **{f"MAILPULSE_{name}": value for name, value in told.items()}}
    command = [str(Path(sys.executable).with_name("mailpulse")), "sink"]
    process = subprocess.Popen(command, env=environment, cwd=settings.data_dir)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the sink ended"
            assert time.monotonic() < deadline, "the sink did not get ready"
            with suppress(OSError):  # it has no partitions before it has made its tables
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            time.sleep(0.1)
        yield warehouse.at.url
    finally:
        process.terminate()
        process.wait(60)


def _number(url: str, sql: str) -> int:
    with urllib.request.urlopen(url, data=sql.encode(), timeout=60) as answer:
        return int(answer.read().strip() or 0)


def _drain(
    settings: Settings, warehouse: WarehouseProcess, count: int, say: Callable[[str], None]
) -> float:
    """Rows a second between the first rows seen and the last."""
    with _sink(settings, warehouse) as url:
        first: tuple[float, int] | None = None
        told = 0
        while True:
            stored = _number(url, "SELECT count() FROM events")
            now = time.perf_counter()
            if stored and first is None:
                first = now, stored
            if stored >= told + TOLD_EACH or stored >= count:
                told = stored
                say(f"{stored:,} of {count:,} events stored")
            if stored >= count:
                break
            time.sleep(0.05)
        assert first is not None
        assert _number(url, "SELECT count() FROM events FINAL") == count, "counted twice or lost"
        return (count - first[1]) / max(now - first[0], 1e-3)


def _visible(settings: Settings, warehouse: WarehouseProcess, seconds: int) -> dict[str, float]:
    """Seconds between Kafka's acknowledgement and an answer that counts the event."""
    load = Load(VISIBLE_PER_S * seconds, 1, int(time.time()) - 86_400 * 3)
    acknowledged: list[float] = []
    seen: list[tuple[float, int]] = []

    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")
        await producer.start()
        started = time.perf_counter()
        for number, chunk in enumerate(_chunks(load, 100)):
            await asyncio.gather(
                *[
                    await producer.send(topics.ENRICHED, _elsewhere(value), partition=partition)
                    for partition, value in chunk
                ]
            )
            acknowledged.extend([time.perf_counter()] * len(chunk))
            ahead = (number + 1) * 100 / VISIBLE_PER_S - (time.perf_counter() - started)
            await asyncio.sleep(max(0.0, ahead))
        await producer.stop()

    with _sink(settings, warehouse) as url:
        before = _number(url, "SELECT count() FROM events")
        worker = threading.Thread(target=lambda: asyncio.run(produce()))
        worker.start()
        deadline = time.monotonic() + seconds + 120
        while not seen or seen[-1][1] < VISIBLE_PER_S * seconds:
            assert time.monotonic() < deadline, "events did not become visible"
            stored = _number(url, "SELECT count() FROM events") - before
            seen.append((time.perf_counter(), stored))
            time.sleep(0.02)
        worker.join()
    waits = []
    looked = iter(seen)
    at, stored = next(looked)
    for number, when in enumerate(acknowledged, 1):
        while stored < number:
            at, stored = next(looked)
        waits.append(max(0.0, at - when))
    return {"visible_p50_s": quantile(waits, 0.5), "visible_p99_s": quantile(waits, 0.99)}


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


def _elsewhere(value: bytes) -> bytes:
    """The same event in another campaign, so that it is another row."""
    return value.replace(b"campaign-0000", b"visible--0000")


def _load_minutes(client: Client, load: Load) -> None:
    loader = Loader(client, Codec(), topics.MINUTES)
    for chunk in _chunks(load.minute_values(), 100_000):
        records = [Sent(topics.MINUTES, 0, at, 0, None, value) for at, value in enumerate(chunk)]
        assert loader.load(records) == []


def _limit(directory: Path, rows: int, sink: float) -> dict[str, float]:
    """clickhouse-connect inserting the same columns from memory, and the sink's share of that."""
    client = clickhouse_connect.get_client(interface="chdb", path=str(directory))
    try:
        client.database = "mailpulse"
        client.command("CREATE TABLE limit_events AS events")
        result = client.query(f"SELECT * FROM events LIMIT {rows}", column_oriented=True)
        columns, names = [list(column) for column in result.result_columns], result.column_names
        started = time.perf_counter()
        client.insert("limit_events", columns, column_names=names, column_oriented=True)
        rate = len(columns[0]) / (time.perf_counter() - started)
    finally:
        client.close()
    return {"limit_rows_per_s": rate, "sink_share_of_limit": sink / rate}


def _bytes_per_event(client: Client) -> float:
    client.command("OPTIMIZE TABLE events FINAL")
    size, rows = client.query(
        "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts"
        " WHERE database = currentDatabase() AND table = 'events' AND active"
    ).result_rows[0]
    return float(size) / float(rows)
