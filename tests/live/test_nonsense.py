"""Nonsense through the whole pipeline: nothing crashes, no other record is lost, nothing
vanishes."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.codec import Codec
from tests.live import story
from tests.live.fixtures import KafkaCluster
from tests.live.log_reading import all_records
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(480)

HUGE = "x" * 200_000
NONSENSE: dict[str, dict[str, Any]] = {
    "before 2000": {"time": -5_000_000_000},
    "year 1": {"time": "0001-01-01T00:00:00Z"},
    "far future": {"time": 253_402_300_799},
    "milliseconds": {"time": int(time.time() * 1000)},
    "nanoseconds": {"time": time.time_ns()},
    "infinite": {"time": 1e308},
    "no time": {"time": None},
    "time of words": {"time": "yesterday"},
    "nobody": {"recipient": None},
    "empty recipient": {"recipient": ""},
    "no address": {"recipient": "@@ @"},
    "recipient is a list": {"recipient": ["a@b.example"]},
    "huge recipient": {"recipient": f"{HUGE}@b.example"},
    "huge campaign": {"campaign_id": HUGE},
    "huge link": {"event": "clicked", "url": f"https://b.example/{HUGE}"},
    "huge agent": {"event": "opened", "user_agent": HUGE},
    "huge diagnostic": {"event": "bounced", "bounce": {"class": "hard", "diagnostic": HUGE}},
    "surrogate": {"campaign_id": "lone \ud800 half", "user_agent": "\udfff", "event": "opened"},
    "surrogate recipient": {"recipient": "\ud83d@b.example"},
    "NUL": {"campaign_id": "nul\0inside", "recipient": "a\0b@b.example", "message_id": "\0"},
    "no message": {"message_id": None, "event": "opened"},
    "unknown type": {"event": "teleported"},
    "unknown class": {"event": "bounced", "bounce": {"class": "purple", "reason": "mauve"}},
    "code of words": {"event": "bounced", "bounce": {"class": "soft", "smtp_code": "many"}},
    "code too large": {"event": "bounced", "bounce": {"class": "soft", "smtp_code": 10**30}},
    "bounce is a text": {"event": "bounced", "bounce": "hard"},
    "address of words": {"event": "opened", "ip": "localhost", "user_agent": story.AGENT},
    "unknown machine": {"event": "opened", "machine": "toaster"},
    "tags of numbers": {"tags": [1, None, {"a": 1}]},
    "metadata is a list": {"metadata": [1, 2]},
}


def neighbour(number: int) -> dict[str, Any]:
    """A valid event."""
    return story.event("delivered", f"good-{number}", f"good{number}", int(time.time()) - 60)


def tell(url: str) -> tuple[int, int]:
    """Posts each piece of nonsense between two valid events.

    Returns:
        How many events were accepted, and how many refused.
    """
    accepted = rejected = 0
    for number, (name, wrong) in enumerate(NONSENSE.items()):
        odd = {
            **story.event("delivered", f"odd-{number}", f"odd{number}", int(time.time())),
            **wrong,
        }
        chapter = [neighbour(2 * number), odd, neighbour(2 * number + 1)]
        answer = story.post(url, json.dumps(chapter).encode())
        assert answer.status_code == 200, f"{name}: {answer.text}"
        counts = answer.json()
        assert counts["accepted"] + counts["rejected"] == 3, name
        assert counts["accepted"] >= 2, name
        accepted, rejected = accepted + counts["accepted"], rejected + counts["rejected"]
    return accepted, rejected


async def _write_raw(bootstrap: str, good: bytes) -> int:
    """Raw records that no ingress of this version wrote, each with a good one's key.

    Returns:
        How many.
    """
    newer = (9_999).to_bytes(4, "big")
    values = [
        b"\0" + newer + good[5:],  # a schema that this version does not know
        good[:38] + b"\x7e" + good[39:],  # an event type that the schema does not have
        good[:-3],  # cut short
        good + b"more",
        b"",
        b"\0",
        good[:5] + b"\xff" * 40,
        None,
    ]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topics.RAW, value, b"somebody")
    finally:
        await producer.stop()
    return len(values)


def ask(pipeline: Pipeline, sql: str) -> int:
    """The one number that a query answers with."""
    url = pipeline.clickhouse_dsn.replace("/mailpulse", "/?database=mailpulse")
    answer = httpx.post(url, content=f"{sql} FORMAT TSV", trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return int(answer.text)


def test_nonsense_harms_nobody(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """Valid events are all counted; each odd one is an event or a dead letter; roles stay up."""
    (broker,) = kafka_cluster()
    codec = Codec()
    with Pipeline(broker.bootstrap, tmp_path, story.CONFIG, story.SECRETS) as pipeline:
        accepted, rejected = tell(pipeline.ingest_url)
        raw = [record.value for record in all_records(pipeline)[topics.RAW]]
        assert len(raw) == accepted
        by_hand = asyncio.run(_write_raw(broker.bootstrap, next(v for v in raw if v is not None)))
        good = 2 * len(NONSENSE)
        last = story.event("delivered", "last", "last", int(time.time()))
        assert story.post(pipeline.ingest_url, json.dumps(last).encode()).status_code == 200
        pipeline.wait_caught_up()
        end = time.monotonic() + 120
        count = "SELECT count() FROM events FINAL WHERE recipient LIKE 'good%'"
        while ask(pipeline, count) < good and time.monotonic() < end:
            time.sleep(0.3)
        assert ask(pipeline, count) == good, pipeline.log_tails()
        sent = "SELECT toInt64(sum(delivered)) FROM campaign_summary WHERE campaign_id = 'spring'"
        assert ask(pipeline, sent) >= good + 1
        found = all_records(pipeline)
        letters = [codec.decode(r.value, "dead_letter") for r in found[topics.DEAD_LETTERS]]
        stages = [letter["stage"] for letter in letters]
        assert stages.count("ingest") == rejected
        assert stages.count("enrich") == by_hand
        enriched = {
            codec.decode(record.value, "enriched_event")["event"]["event_id"]
            for record in found[topics.ENRICHED]
        }
        assert len(enriched) == accepted + 1
        assert ask(pipeline, "SELECT uniqExact(event_id) FROM events FINAL") == accepted + 1
        assert all(role.running for role in pipeline)
        assert pipeline.stop() == dict.fromkeys(pipeline.roles, 0), pipeline.log_tails()
