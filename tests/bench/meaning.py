"""What meaning costs and how fresh it is: enrichment, judging, rolling rates, diagnostics.

Invariants:
1. ``meaning_rate_kept`` compares the shipped worker with itself without its meaning
   (``tests.bench.meaning_worker``), over the same topic, in turn, round after round.
   ``meaning_cpu_kept`` is the same by CPU time per event, which other load moves less.
2. ``rates_p99_s`` is seen from outside: from Kafka's acknowledgement of an event on the raw topic
   until a subscriber has a rate record whose total includes it. (Windows of whole minutes show it
   when its minute has ended.) The worker has joined its group
   and opened its state by then: ``WARM_S`` of the same traffic went before.
3. Inclusion is told by counting: the k-th event of a campaign is included when the campaign's
   total is at least k. Events of one campaign are acknowledged in any order, so the k-th is the
   k-th acknowledged.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.codec import Codec
from schemas.event import Event, event_id, message_key, new_event
from schemas.partition import partition_of
from schemas.topics import ENRICHED, PARTITIONS_DEFAULT, RATES, RAW
from tests.bench.diagnostics import agreement
from tests.bench.processes import result_of, start
from tests.bench.traffic import fill
from tests.live.kafka import empty_topic
from tests.live.process import free_port
from tests.live.roles import Role

EVENTS_PER_S = 2_000
TICK_S = 0.01
CAMPAIGNS = 50
WARM_S = 2.0
LATE_S = 30.0
"""How long rates may take at the end before the bench gives up."""


def kept(bootstrap: str, events: int, rounds: int) -> dict[str, float]:
    """The rate over the raw topic's ``events`` with meaning ÷ without; medians of rounds."""
    rates: dict[str, list[float]] = {"full": [], "bare": []}
    costs: dict[str, list[float]] = {"full": [], "bare": []}
    for number in range(rounds):
        order = ("full", "bare") if number % 2 else ("bare", "full")
        for variant in order:
            empty_topic(bootstrap, ENRICHED)  # nobody shall restore what the one before wrote
            with tempfile.TemporaryDirectory() as directory:
                process = start("meaning_worker", variant, bootstrap, str(events), directory)
                figures = result_of(process, variant)
            rates[variant].append(figures["events_per_s"])
            costs[variant].append(figures["cpu_us_per_event"])
    full, bare = (statistics.median(rates[variant]) for variant in ("full", "bare"))
    return {
        "meaning_rate_kept": full / bare,
        "meaning_cpu_kept": statistics.median(costs["bare"]) / statistics.median(costs["full"]),
        "enrich_events_per_s_with_meaning": full,
        "enrich_events_per_s_without_meaning": bare,
    }


def _event(number: int, campaign: str) -> Event:
    """A delivery that happens now, each of a message of its own."""
    now_us = time.time_ns() // 1000
    event = new_event(
        event_id=event_id("sendgrid", "", f"{campaign}-{number}"),
        event_type="delivered",
        occurred_at=now_us,
        received_at=now_us,
        provider="sendgrid",
        native_type="delivered",
    )
    event["source"] = "news"
    event["message_id"] = f"{campaign}-{number:010d}"
    event["recipient"] = f"fresh{number}@gmail.com"
    event["recipient_domain"] = "gmail.com"
    event["campaign_id"] = campaign
    event["campaign_source"] = "metadata"
    return event


class Watch:
    """Acknowledgements and rates of each campaign, as monotonic seconds.

    Args:
        bootstrap: of the broker.
        run: makes the campaigns' names.
    """

    def __init__(self, bootstrap: str, run: str) -> None:
        self.bootstrap = bootstrap
        self.campaigns = [f"{run}-{number:02d}" for number in range(CAMPAIGNS)]
        self.acknowledged: dict[str, list[float]] = defaultdict(list)
        self.included: dict[str, int] = defaultdict(int)
        self.delays_s: list[float] = []
        self.sent = 0

    async def send(self, producer: AIOKafkaProducer, count: int) -> None:
        """Sends ``count`` events at ``EVENTS_PER_S``."""
        codec = Codec()
        begun = time.monotonic()
        while self.sent < count:
            due = min(count, int((time.monotonic() - begun) * EVENTS_PER_S))
            for number in range(self.sent, due):
                campaign = self.campaigns[number % CAMPAIGNS]
                event = _event(number, campaign)
                key = message_key(event)
                future = await producer.send(
                    RAW, codec.encode("raw_event", event), key,
                    partition=partition_of(key, PARTITIONS_DEFAULT),
                )  # fmt: skip
                future.add_done_callback(
                    lambda _, of=campaign: self.acknowledged[of].append(time.monotonic())
                )
            self.sent = max(self.sent, due)
            await asyncio.sleep(TICK_S)
        await producer.flush()

    async def listen(self, consumer: AIOKafkaConsumer) -> None:
        """Notes for ever which events each rate record includes."""
        codec = Codec()
        mine = set(self.campaigns)
        async for record in consumer:
            at = time.monotonic()
            value = codec.decode(record.value, "campaign_rates")
            campaign = value["campaign_id"]
            if campaign not in mine:
                continue
            counts = next(w for w in value["windows"] if w["window"] == "total")["counts"]
            times = self.acknowledged[campaign]
            before, total = self.included[campaign], counts["delivered"]
            # a record may be here before its acknowledgement is: that is no delay
            self.delays_s += [max(0.0, at - when) for when in times[before:total]]
            self.included[campaign] = max(before, min(total, len(times)))


async def _freshness(bootstrap: str, seconds: float) -> list[float]:
    """Delays of every event, in seconds.

    Raises:
        RuntimeError: rates did not include all events in time.
    """
    watch = Watch(bootstrap, f"fresh{time.time_ns() % 1_000_000_000}")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2)
    consumer = AIOKafkaConsumer(RATES, bootstrap_servers=bootstrap, group_id=None)
    await producer.start()
    await consumer.start()
    listening = asyncio.create_task(watch.listen(consumer))
    count = int(seconds * EVENTS_PER_S)
    try:
        await watch.send(producer, count)
        end = time.monotonic() + LATE_S
        while len(watch.delays_s) < count:
            if time.monotonic() > end or listening.done():
                raise RuntimeError(f"{len(watch.delays_s)} of {count} events are in the rates")
            await asyncio.sleep(0.05)
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        await consumer.stop()
        await producer.stop()
    return watch.delays_s


def freshness(bootstrap: str, seconds: float) -> dict[str, float]:
    """How long until rates include an event, with one worker as shipped."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        environ = {
            "KAFKA_BOOTSTRAP": bootstrap, "DATA_DIR": directory, "METRICS_PORT": str(port),
            "CONSUMER_GROUP": f"bench-fresh-{port}", "LOG_ID": "bench", "LOG_FORMAT": "json",
        }  # fmt: skip
        worker = Role("worker-1", Path(directory), environ, port, {})
        worker.start()
        try:
            worker.wait_ready()
            asyncio.run(_freshness(bootstrap, WARM_S))
            delays = sorted(asyncio.run(_freshness(bootstrap, seconds)))
        finally:
            worker.kill()
    return {
        "rates_p50_s": delays[len(delays) // 2],
        "rates_p99_s": delays[min(len(delays) - 1, len(delays) * 99 // 100)],
    }


def run(bootstrap: str, quick: bool) -> dict[str, float]:
    """Measures everything; see the module. Freshness first, while the raw topic is empty."""
    seconds, events, rounds = (5.0, 40_000, 1) if quick else (30.0, 300_000, 5)
    fresh = freshness(bootstrap, seconds)
    asyncio.run(fill(bootstrap, RAW, events, PARTITIONS_DEFAULT))
    return {
        **fresh,
        **kept(bootstrap, events + int((WARM_S + seconds) * EVENTS_PER_S), rounds),
        **agreement(),
    }
