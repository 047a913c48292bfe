"""The role ``deliver`` as a process, on a real Kafka, to a receiver in another process.

Figures:
    deliver_records_per_s: delivered per second of its CPU time, one destination, one record per
        signed request.
    deliver_p50_s, deliver_p99_s: from the record's making to its arrival, at 500 records/s.
    deliver_slowdown_by_dead: how much longer nine destinations of ten take when the tenth takes
        connections and never answers, than when it works: sums of interleaved runs.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.cloudevents import ENRICH, cloud_event
from schemas.codec import Codec
from tests import builders
from tests.bench.receiver import Counts, receiver
from tests.live.delivering import DeliverProcess

RATE = 500
RECIPIENTS = 5_000
DEADLINE_S = 300.0


def run(bootstrap: str, quick: bool) -> dict[str, float]:
    """All figures; see the module."""
    number, seconds, few = (2_000, 4, 300) if quick else (30_000, 20, 2_000)
    with receiver() as (port, counts):
        figures = {"deliver_records_per_s": _throughput(bootstrap, port, counts, number)}
        figures |= _delays(bootstrap, port, counts, seconds)
    seconds_by_dead = {True: 0.0, False: 0.0}
    for number, dead in enumerate((False, True, True, False)):
        seconds_by_dead[dead] += _nine(bootstrap, few, number, dead=dead)
    return {**figures, "deliver_slowdown_by_dead": seconds_by_dead[True] / seconds_by_dead[False]}


def _table(name: str, port: int, path: str, begin: str, **more: object) -> str:
    lines = [
        f"[destinations.{name}]", f'url = "http://127.0.0.1:{port}/{path}"',
        'allow_networks = ["127.0.0.1"]', f'begin = "{begin}"', 'topics = "engagement"',
        'secret = "env:DELIVER_SECRET"', *(f"{key} = {value}" for key, value in more.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _process(bootstrap: str, toml: str) -> DeliverProcess:
    return DeliverProcess(bootstrap, Path(tempfile.mkdtemp()), toml)


async def _produce(bootstrap: str, number: int, rate: int | None) -> None:
    """Writes engagement whose id has the time of its making; at a rate, or as fast as it goes."""
    codec = Codec()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0 if rate else 20)
    await producer.start()
    try:
        begun = time.monotonic()
        for n in range(number):
            if rate is not None:
                await asyncio.sleep(max(0.0, begun + n / rate - time.monotonic()))
            recipient = f"reader{n % RECIPIENTS}@x.example"
            record = builders.record(
                "engagement", event_id=f"{n:032x}", kind="click", recipient=recipient,
                occurred_at=builders.RECEIVED_AT, campaign_id="spring", offset=n,
            )  # fmt: skip
            identity = f"{int(time.time() * 1e6)}-{n}"
            headers = cloud_event("engagement", ENRICH, identity, builders.RECEIVED_AT)
            value = codec.encode("engagement", record)
            await producer.send(topics.ENGAGEMENT, value, recipient.encode(), headers=headers)
        await producer.flush()
    finally:
        await producer.stop()


def _throughput(bootstrap: str, port: int, counts: Counts, number: int) -> float:
    asyncio.run(_produce(bootstrap, number, None))
    with _process(bootstrap, _table("one", port, "0", "earliest", concurrency=32)) as process:
        process.wait_for(lambda: counts.got[0] > number // 10, "begun", DEADLINE_S)
        assert process.pid is not None
        times = psutil.Process(process.pid).cpu_times
        before, first = times(), counts.got[0]
        process.wait_for(lambda: counts.got[0] >= number, "delivered", DEADLINE_S)
        after = times()
        spent = after.user + after.system - before.user - before.system
        return float((counts.got[0] - first) / spent)


def _delays(bootstrap: str, port: int, counts: Counts, seconds: int) -> dict[str, float]:
    number = seconds * RATE
    with _process(bootstrap, _table("two", port, "1", "now", concurrency=32)) as process:
        process.wait_for(process.is_ready, "ready", DEADLINE_S)
        begin = counts.delays_number.value
        asyncio.run(_produce(bootstrap, number, RATE))
        process.wait_for(lambda: counts.got[1] >= number, "delivered", DEADLINE_S)
    delays = sorted(counts.delays[begin : counts.delays_number.value])
    return {
        "deliver_p50_s": delays[len(delays) // 2],
        "deliver_p99_s": delays[int(len(delays) * 0.99)],
    }


def _nine(bootstrap: str, number: int, run: int, *, dead: bool) -> float:
    """Seconds in which nine of ten destinations got so many new records each.

    Args:
        run: another one each time, as its destinations are new ones.
        dead: the tenth never answers.
    """
    with receiver() as (port, counts):
        paths = [*map(str, range(9)), "hang" if dead else "9"]
        tables = [_table(f"run{run}-{path}", port, path, "now", timeout_s=2) for path in paths]
        with _process(bootstrap, "".join(tables)) as process:
            process.wait_for(process.is_ready, "ready", DEADLINE_S)
            asyncio.run(_produce(bootstrap, number, None))
            begun = time.monotonic()
            process.wait_for(
                lambda: all(counts.got[n] >= number for n in range(9)), "delivered", DEADLINE_S
            )
            return time.monotonic() - begun
