"""The disk budget of a running pipeline: what goes of Kafka and of ClickHouse, and what stays."""

import asyncio
import hashlib
import hmac
import json
import random
import time
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition

from schemas.settings import Settings
from schemas.topics import RAW
from streams.cli.clickhouse import table_of
from streams.embedded.child import until
from streams.embedded.data_dir import OPERATOR_FILE
from streams.embedded.disk_budget import DiskBudget
from streams.embedded.disk_note import remembered
from streams.embedded.disk_plan import NOTICE_S
from streams.embedded.disk_use import measured
from streams.embedded.supervisor import embedded
from streams.kafka.clients import lone_consumer
from tests.live.roles import clean_environ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

EVENTS, POSTS, PADDING = 100, 60, 8_000
"""48 MB of raw records, more than a segment of 32 MB."""
DAY_S = 86_400
ENVIRON = {**clean_environ(), "MAILPULSE_SECRET_CRM": "s3cret"}


def body(post: int, dice: random.Random, at: float) -> bytes:
    """A batch of events with texts that compress badly."""
    return json.dumps(
        [
            {"event": "delivered", "id": f"{post}-{n}", "message_id": f"{post}-{n}",
             "recipient": f"{post}-{n}@example.com", "campaign_id": "spring", "timestamp": at,
             "metadata": {str(k): dice.randbytes(500).hex() for k in range(PADDING // 1_000)}}
            for n in range(EVENTS)
        ]
    ).encode()  # fmt: skip


async def fill(url: str, at: float) -> None:
    """Posts everything."""
    dice = random.Random(7)
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(POSTS):
            sent = body(number, dice, at)
            digest = hmac.new(b"s3cret", sent, hashlib.sha256).hexdigest()
            headers = {"x-webhook-signature": digest}
            answer = await client.post(f"{url}/hooks/crm", content=sent, headers=headers)
            assert answer.status_code == 200, answer.text


def figures(dsn: str) -> tuple[int, int]:
    """Stored events, and delivered messages as counted."""
    asked = Settings.model_validate({"clickhouse_dsn": dsn})
    _, (events,) = table_of(asked, "SELECT count() FROM events")
    _, (counted,) = table_of(asked, "SELECT sum(delivered) FROM campaign_summary")
    return int(events[0]), int(counted[0])


async def first_offset(kafka: Settings) -> int:
    """Of the raw topic's only partition."""
    tp = TopicPartition(RAW, 0)
    async with lone_consumer(kafka) as consumer:
        return int((await consumer.beginning_offsets([tp]))[tp])


async def test_what_was_announced_goes_and_counts_stay(tmp_path: Path) -> None:
    """Raw records and an old month of events go a day after it was told; nothing unread does."""
    config = tmp_path / "mailpulse.toml"
    config.write_text('[sources.crm]\nprovider = "generic"\nsecret = "env:MAILPULSE_SECRET_CRM"\n')
    settings = Settings(
        data_dir=tmp_path / "data", config_file=config, ingest_port=0, door_port=0, partitions=1,
        disk_bytes_max=20_000_000,
    )  # fmt: skip
    now = time.time()
    said: list[str] = []
    async with embedded(settings, ENVIRON, said.append, tmp_path / "logs") as pipeline:
        where = pipeline.endpoints
        assert where is not None
        await fill(where.ingest_url, now - 20 * DAY_S)

        async def stored() -> bool:
            return await asyncio.to_thread(figures, where.clickhouse_dsn) == (6_000, 6_000)

        assert await until(stored, 120, pause_s=0.5)
        dsn = (settings.data_dir / OPERATOR_FILE).read_text("utf-8").strip()
        budget = DiskBudget(settings, pipeline.kafka, dsn, said.append)
        await budget.look(now)
        raw = len(measured(settings.data_dir).raw)
        assert raw >= 1
        await budget.look(now + NOTICE_S - 60)  # a day is not over
        assert await first_offset(pipeline.kafka) == 0
        assert remembered(settings.data_dir).announced_at == now
        assert not remembered(settings.data_dir).made
        await budget.look(now + 90 * DAY_S)
        assert 0 < await first_offset(pipeline.kafka) <= 6_000
        assert await asyncio.to_thread(figures, where.clickhouse_dsn) == (0, 6_000)
        assert await until(lambda: gone(settings), 90)  # Kafka deletes the files
        made = [what for _, what in remembered(settings.data_dir).made]
        assert any("raw records before" in what for what in made)
        assert any("in ClickHouse (counts stay)" in what for what in made)
        assert sum("disk budget: gone" in line for line in said) == len(made)
        await budget.look(now + 90 * DAY_S + 300)  # nothing settles so soon
        assert len(remembered(settings.data_dir).made) == len(made)


async def gone(settings: Settings) -> bool:
    """Whether closed files of the raw topic are gone."""
    return not measured(settings.data_dir).raw
