"""How fast events become queryable, and how fast questions about them are answered.

Laws of this file:
1. The sink is the product's own process (``mailpulse sink``) on a real broker; what is measured is
   from the first stored row to the last, seen from outside through the door.
2. The limit it is compared with is clickhouse-connect inserting the same columns from memory.
3. Views are asked warm, one at a time, from a process that owns the directory.

Keys: ``sink_rows_per_s``, ``sink_share_of_limit``, ``limit_rows_per_s``, ``p95_ms_<question>``,
``p95_ms_<question>_loaded``, ``bytes_per_event``, ``visible_p50_s``, ``visible_p99_s``.
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from analytics.client import connect, insert_avro
from analytics.loading import Loader
from analytics.reading import door_url
from analytics.rows import STATEMENTS
from schemas import topics
from schemas.codec import Codec
from schemas.settings import Settings
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import Load

Item = TypeVar("Item")

EVENTS = 5_000_000
EVENTS_QUICK = 100_000
CAMPAIGNS = 200
ASKED = 40
LOADED_ROWS_PER_S = 10_000
VISIBLE_PER_S = 2_000
VISIBLE_S = 20

ONE = "campaign_id = 'campaign-0100'"
QUESTIONS: dict[str, str] = {
    "campaign_summary_one": f"SELECT * FROM campaign_summary WHERE {ONE}",
    "campaign_summary_all": "SELECT * FROM campaign_summary",
    "campaign_timeline_24h": (
        "SELECT * FROM campaign_timeline(campaign = 'campaign-0100', from = '{begin}',"
        " to = '{end}', step = 60)"
    ),
    "bounce_reasons": f"SELECT * FROM bounce_reasons WHERE {ONE}",
    "links": f"SELECT * FROM links WHERE {ONE}",
    "mailbox_providers": f"SELECT * FROM mailbox_providers WHERE {ONE}",
    "campaign_totals_from_events": (
        "SELECT countIf(event_type = 'delivered' AND first_of_kind), countIf(event_type = 'opened'"
        f" AND first_human), countIf(event_type = 'clicked' AND first_human) FROM events FINAL"
        f" WHERE {ONE}"
    ),
    "campaign_totals_from_minutes": (
        f"SELECT delivered, opened, clicked FROM campaign_summary WHERE {ONE}"
    ),
}


def run(kafka_bootstrap: str, quick: bool = False, events: int = 0) -> dict[str, float]:
    """Measures everything on ``events`` events (default: 5,000,000; quick: 100,000).

    Raises:
        AssertionError: an event is missing, or counted twice.
    """
    count = events or (EVENTS_QUICK if quick else EVENTS)
    begin = int(time.time()) // 86_400 * 86_400 - 31 * 86_400
    load = Load(count, min(CAMPAIGNS, max(101, count // 1000)), begin)
    with tempfile.TemporaryDirectory(prefix="mailpulse-bench-") as folder:
        settings = _settings(kafka_bootstrap, Path(folder))
        asyncio.run(_produce(kafka_bootstrap, load))
        figures = {"sink_rows_per_s": _drain(settings, count)}
        figures |= _visible(settings, 3 if quick else VISIBLE_S)
        client = connect(settings)
        try:
            _load_minutes(client, load)
            figures |= _limit(client, min(count, 100_000), figures["sink_rows_per_s"])
            figures |= _ask(client, load, "")
            with _inserting(settings, begin):
                figures |= _ask(client, load, "_loaded")
            figures["bytes_per_event"] = _bytes_per_event(client)
        finally:
            client.close()
    return figures


def _settings(bootstrap: str, folder: Path) -> Settings:
    return Settings(
        kafka_bootstrap=bootstrap,
        clickhouse_dsn=SecretStr(f"chdb://{folder}/ch"),
        data_dir=folder,
        door_port=0,
    )


async def _produce(bootstrap: str, load: Load) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1)
    await producer.start()
    batches = {number: producer.create_batch() for number in range(4)}
    sent = []
    for partition, value in load:
        batch = batches[partition]
        if batch.append(key=None, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, topics.ENRICHED, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(key=None, value=value, timestamp=None)
    for partition, batch in batches.items():
        sent.append(await producer.send_batch(batch, topics.ENRICHED, partition=partition))
    for each in sent:
        await each
    await producer.stop()


@contextmanager
def _sink(settings: Settings) -> Iterator[str]:
    """The product's sink process, ready; yields the address of its door."""
    environment = {
        **os.environ,
        "MAILPULSE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MAILPULSE_CLICKHOUSE_DSN": settings.clickhouse_dsn.get_secret_value(),
        "MAILPULSE_DATA_DIR": str(settings.data_dir),
        "MAILPULSE_DOOR_PORT": "0",
        "MAILPULSE_LOG_LEVEL": "WARNING",
    }
    command = [str(Path(sys.executable).with_name("mailpulse")), "sink"]
    process = subprocess.Popen(command, env=environment, cwd=settings.data_dir)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the sink ended"
            assert time.monotonic() < deadline, "the door did not open"
            url = door_url(settings)
            if url:
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _number(url: str, sql: str) -> int:
    with urllib.request.urlopen(url, data=sql.encode(), timeout=60) as answer:
        return int(answer.read().strip() or 0)


def _drain(settings: Settings, count: int) -> float:
    """Rows a second between the first rows seen and the last."""
    with _sink(settings) as url:
        first: tuple[float, int] | None = None
        while True:
            stored = _number(url, "SELECT count() FROM events")
            now = time.perf_counter()
            if stored and first is None:
                first = now, stored
            if stored >= count:
                break
            time.sleep(0.05)
        assert first is not None
        assert _number(url, "SELECT count() FROM events FINAL") == count, "counted twice or lost"
        return (count - first[1]) / max(now - first[0], 1e-3)


def _visible(settings: Settings, seconds: int) -> dict[str, float]:
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

    with _sink(settings) as url:
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
    return {"visible_p50_s": _quantile(waits, 0.5), "visible_p99_s": _quantile(waits, 0.99)}


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


def _elsewhere(value: bytes) -> bytes:
    """The same event in another campaign, so that it is another row."""
    return value.replace(b"campaign-0000", b"visible--0000")


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _load_minutes(client: Client, load: Load) -> None:
    loader = Loader(client, Codec(), topics.MINUTES)
    for chunk in _chunks(load.minute_values(), 100_000):
        records = [Sent(topics.MINUTES, 0, at, 0, None, value) for at, value in enumerate(chunk)]
        assert loader.load(records) == []


def _limit(client: Client, rows: int, sink: float) -> dict[str, float]:
    """clickhouse-connect inserting the same columns from memory, and the sink's share of that."""
    client.command("CREATE TABLE limit_events AS events")
    result = client.query(f"SELECT * FROM events LIMIT {rows}", column_oriented=True)
    columns = [list(column) for column in result.result_columns]
    started = time.perf_counter()
    client.insert("limit_events", columns, column_names=result.column_names, column_oriented=True)
    rate = len(columns[0]) / (time.perf_counter() - started)
    client.command("DROP TABLE limit_events SYNC")
    return {"limit_rows_per_s": rate, "sink_share_of_limit": sink / rate}


def _ask(client: Client, load: Load, suffix: str) -> dict[str, float]:
    figures = {}
    day = load.start_s + int(100 / load.campaigns * (load.days - 3) * 86_400)
    times = {"begin": _clock(day), "end": _clock(day + 86_400)}
    for name, template in QUESTIONS.items():
        sql = template.replace("{begin}", times["begin"]).replace("{end}", times["end"])
        for _ in range(3):
            client.query(sql)
        took = []
        for _ in range(ASKED):
            started = time.perf_counter()
            client.query(sql)
            took.append((time.perf_counter() - started) * 1000)
        figures[f"p95_ms_{name}{suffix}"] = _quantile(took, 0.95)
    return figures


def _clock(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))


@contextmanager
def _inserting(settings: Settings, begin: int) -> Iterator[None]:
    """Inserts ``LOADED_ROWS_PER_S`` events a second, in batches as the sink makes them."""
    from analytics.avro_file import container

    stop = threading.Event()
    rows = LOADED_ROWS_PER_S // 2
    values = [value for _, value in Load(rows, 1, begin)]
    client = connect(settings)

    def insert() -> None:
        for number in itertools.count():
            started = time.perf_counter()
            fresh = [value.replace(b"campaign-0000", b"loaded-%06d" % number) for value in values]
            insert_avro(
                client, STATEMENTS[topics.ENRICHED], container("enriched_event.v1", fresh), {}
            )
            if stop.wait(max(0.0, 0.5 - (time.perf_counter() - started))):
                return

    worker = threading.Thread(target=insert)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
        client.close()


def _bytes_per_event(client: Client) -> float:
    client.command("OPTIMIZE TABLE events FINAL")
    size, rows = client.query(
        "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts"
        " WHERE database = currentDatabase() AND table = 'events' AND active"
    ).result_rows[0]
    return float(size) / float(rows)
