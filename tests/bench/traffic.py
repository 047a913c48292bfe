"""Raw events for benches and live tests: realistic shapes, a fixed seed, fast.

Invariants:
1. Deterministic but for when it starts: the same arguments give the same events in a process.
2. Messages have lives: delivered or bounced first, opens and clicks after it; 1 in 20 events comes
   twice at different offsets, with the same id.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.codec import Codec
from schemas.event import Event, event_id, message_key, new_event

DOMAINS = (
    "gmail.com",
    "outlook.com",
    "yahoo.com",
    "icloud.com",
    "gmx.de",
    "shop.example",
    "web.de",
)
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0",
)
NOW_MS = int(time.time() * 1000)
"""One number per process: topics keep what is young by its own time stamp."""


MESSAGES_MAX = 10_000_000
"""Messages of one seed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of what. ``campaigns`` of equal weight, or ``hot`` share for the first one."""

    campaigns: int = 200
    duplicates: float = 0.05
    unattributed: float = 0.0
    hot: float = 0.0
    events_per_s: float = 20_000
    begins_before_s: int = 3_600


def _event(dice: random.Random, shape: Shape, number: int, message: int, kind: str) -> Event:
    at_ms = NOW_MS - shape.begins_before_s * 1000 + int(number * 1000 / shape.events_per_s)
    received = at_ms + 50
    event = new_event(
        event_id=event_id("sendgrid", "", f"{kind}-{message}-{number}"),
        event_type=kind,
        occurred_at=(at_ms - dice.randrange(0, 5_000)) * 1000,
        received_at=received * 1000,
        provider="sendgrid",
        native_type=kind,
    )
    domain = DOMAINS[message % len(DOMAINS)]
    campaign = 0 if (message * 7919 % 1000) < shape.hot * 1000 else message % shape.campaigns
    event["source"] = "news"
    event["message_id"] = f"filterdrecv-{message:010d}-1-5F8A"
    event["recipient"] = event["recipient_identity"] = f"user{message}@{domain}"
    event["recipient_domain"] = domain
    if kind != "opened" or dice.random() >= shape.unattributed:
        event["campaign_id"] = f"campaign-{campaign:04d}"
        event["campaign_source"] = "metadata"
    event["tags"] = ["spring", "news"]
    event["metadata"] = {"campaign_id": f"campaign-{campaign:04d}", "customer": str(message % 977)}
    if kind in ("opened", "clicked"):
        event["user_agent"] = dice.choice(AGENTS)
        event["ip"] = f"203.0.113.{message % 250}"
    if kind == "clicked":
        event["click_url"] = f"https://shop.example/offer/{dice.randrange(5)}?m={message % 100}"
    if kind == "bounced":
        event["smtp_code"], event["enhanced_status"] = 550, "5.1.1"
        event["diagnostic"] = "550 5.1.1 The email account that you tried to reach does not exist"
    return event


def events(count: int, shape: Shape | None = None, seed: int = 7) -> Iterator[Event]:
    """``count`` events, duplicates among them; messages of another seed are others."""
    shape = shape or Shape()
    dice = random.Random(seed)
    recent: list[int] = []
    message = seed * MESSAGES_MAX
    last: Event | None = None
    for number in range(count):
        if last is not None and dice.random() < shape.duplicates:
            yield last
            continue
        draw = dice.random()
        if draw < 0.6 or not recent:
            message += 1
            recent.append(message)
            kind = "delivered" if dice.random() > 0.03 else "bounced"
            if len(recent) > 50_000:
                del recent[:10_000]
            last = _event(dice, shape, number, message, kind)
        else:
            kind = "opened" if draw < 0.9 else "clicked"
            last = _event(dice, shape, number, dice.choice(recent), kind)
        yield last


async def fill(
    bootstrap: str,
    topic: str,
    count: int,
    partitions: int,
    shape: Shape | None = None,
    seed: int = 7,
) -> None:
    """Writes ``events`` to ``topic``, keyed and placed as ingress does, in whole batches."""
    codec = Codec()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=500_000
    )
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        waiting = []
        for event in events(count, shape, seed):
            key = message_key(event)
            partition = (murmur2(key) & 0x7FFFFFFF) % partitions
            value, at = codec.encode("raw_event", event), event["received_at"] // 1000
            if batches[partition].append(key=key, value=value, timestamp=at) is None:
                waiting.append(
                    await producer.send_batch(batches[partition], topic, partition=partition)
                )
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=at)
        for partition, batch in enumerate(batches):
            if batch.record_count():
                waiting.append(await producer.send_batch(batch, topic, partition=partition))
        for future in waiting:
            await future
    finally:
        await producer.stop()
