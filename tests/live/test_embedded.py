"""The embedded pipeline from inside: it survives its broker, and loses nothing by a stop."""

import asyncio
import hashlib
import hmac
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from schemas import topics
from schemas.errors import ConfigError
from schemas.settings import Settings
from streams.cli.clickhouse import table_of
from streams.embedded.child import until
from streams.embedded.data_dir import STATE_FILE
from streams.embedded.supervisor import Embedded, embedded
from streams.kafka import admin
from tests.live.roles import clean_environ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

ENVIRON = {**clean_environ(), "MAILPULSE_SECRET_CRM": "s3cret"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Its own directory, one generic source, any free port."""
    config = tmp_path / "mailpulse.toml"
    config.write_text(
        '[sources.crm]\nprovider = "generic"\nsecret = "env:MAILPULSE_SECRET_CRM"\n',
        encoding="utf-8",
    )
    return Settings(data_dir=tmp_path / "data", config_file=config, ingest_port=0, door_port=0)


async def post(url: str, *ids: str) -> int:
    """Signed events of one campaign; the status, 0 without an answer."""
    body = json.dumps(
        [
            {"event": "delivered", "id": one, "message_id": one, "recipient": f"{one}@example.com",
             "campaign_id": "spring"}
            for one in ids
        ]
    ).encode()  # fmt: skip
    digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.post(
                f"{url}/hooks/crm", content=body, headers={"x-webhook-signature": digest}
            )
        except httpx.HTTPError:
            return 0
    return answer.status_code


def delivered(dsn: str) -> int:
    """Messages of the campaign, as an analyst sees them."""
    asked = Settings.model_validate({"clickhouse_dsn": dsn})
    _, rows = table_of(asked, "SELECT sum(delivered) FROM campaign_summary")
    return int(rows[0][0])


async def soon(holds: Callable[[], bool]) -> None:
    """Waits for something that must happen."""

    async def asked() -> bool:
        return await asyncio.to_thread(holds)

    assert await until(asked, 90, pause_s=0.3)


async def test_pipeline_goes_on_when_its_broker_dies(settings: Settings) -> None:
    """Same addresses, same log, without a hand; the others wait for it."""
    said: list[str] = []
    async with embedded(settings, ENVIRON, said.append, settings.data_dir / "logs") as pipeline:
        where = pipeline.endpoints
        assert where is not None
        log_id = await admin.log_id(pipeline.kafka)
        assert await post(where.ingest_url, "a", "b") == 200
        os.kill(pipeline.pids()["broker"], signal.SIGKILL)
        await soon(lambda: pipeline.pids().get("broker") is not None)

        async def taken() -> bool:
            return await post(where.ingest_url, "c") == 200

        assert await until(taken, 60)
        await soon(lambda: delivered(where.clickhouse_dsn) == 3)
        assert await admin.log_id(pipeline.kafka) == log_id
    assert any("broker ended with signal SIGKILL" in line for line in said)


async def test_what_was_answered_200_is_stored_before_it_stops(settings: Settings) -> None:
    """Stopped right after the answer; the next start finds every event in ClickHouse."""
    ids = [f"m{number}" for number in range(500)]
    async with embedded(settings, ENVIRON, lambda line: None) as pipeline:
        assert pipeline.endpoints is not None
        assert await post(pipeline.endpoints.ingest_url, *ids) == 200
        pids = list(pipeline.pids().values())
    assert not (settings.data_dir / STATE_FILE).exists()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    async with embedded(settings, ENVIRON, lambda line: None) as pipeline:
        assert pipeline.endpoints is not None
        dsn = pipeline.endpoints.clickhouse_dsn
        assert await asyncio.to_thread(delivered, dsn) == len(ids)


async def test_role_with_bad_settings_stops_the_start_with_its_words(settings: Settings) -> None:
    """The source's secret is missing: no role is restarted repeatedly, nothing is left running."""
    environ = {k: v for k, v in ENVIRON.items() if k != "MAILPULSE_SECRET_CRM"}
    pipeline = Embedded(settings, environ, lambda line: None, settings.data_dir / "logs")
    try:
        with pytest.raises(ConfigError, match="MAILPULSE_SECRET_CRM"):
            await pipeline.start()
    finally:
        await pipeline.stop(drain=False)
    assert pipeline.pids() == {}


@pytest.mark.parametrize("frozen", ["sink", "broker"])
async def test_a_stop_that_cannot_store_everything_says_so_and_the_next_start_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, frozen: str
) -> None:
    """How many records of which topics, or that nobody knows; and where they are kept."""
    monkeypatch.setattr("streams.embedded.supervisor.DRAIN_S", 4.0)
    monkeypatch.setattr("streams.embedded.child.GRACE_S", 2.0)
    said: list[str] = []
    async with embedded(settings, ENVIRON, said.append) as pipeline:
        where = pipeline.endpoints
        assert where is not None
        os.kill(pipeline.pids()["sink"], signal.SIGSTOP)
        assert await post(where.ingest_url, *(f"m{number}" for number in range(500))) == 200
        if frozen == "broker":
            os.kill(pipeline.pids()["broker"], signal.SIGSTOP)
    (line,) = (line for line in said if line.startswith("Not yet in ClickHouse"))
    assert str(settings.data_dir / "kafka") in line
    if frozen == "broker":
        assert "unknown number" in line
    else:
        assert f"500 of {topics.ENRICHED}" in line
    async with embedded(settings, ENVIRON, said.append) as pipeline:
        where = pipeline.endpoints
        assert where is not None
        await soon(lambda: delivered(where.clickhouse_dsn) == 500)


async def test_directory_of_an_earlier_form_is_refused(settings: Settings) -> None:
    """ClickHouse's tables without Kafka's data: they count a log that is gone."""
    (settings.data_dir / "clickhouse").mkdir(parents=True)
    pipeline = Embedded(settings, ENVIRON, lambda line: None)
    with pytest.raises(ConfigError, match="did not keep Kafka's data"):
        await pipeline.start()
    await pipeline.stop(drain=False)
