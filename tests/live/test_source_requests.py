"""Counts of requests from several ingress processes to ClickHouse: all of them, each once."""

import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from schemas.codec import Codec
from schemas.errors import ConfigError
from schemas.topics import SOURCE_REQUESTS
from streams.cli.recipients import compare
from tests.live import story
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Kafka
from tests.live.roles import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
Counts = dict[tuple[str, str, str], int]
TOTALS = (
    "SELECT source, result, reason, sum(requests) FROM source_requests FINAL"
    " GROUP BY ALL ORDER BY ALL FORMAT TabSeparated"
)


@pytest.fixture
def broker(kafka_cluster: KafkaCluster) -> Kafka:
    """A broker that may be stopped."""
    return kafka_cluster(1)[0]


@pytest.fixture
def pipeline(broker: Kafka, tmp_path: Path) -> Iterator[Pipeline]:
    """With two ingress processes."""
    settings = {"ACK_TIMEOUT_MS": "1500"}
    with Pipeline(
        broker.bootstrap, tmp_path, story.CONFIG, story.SECRETS, ingests=2, settings=settings
    ) as running:
        yield running


def _post(url: str, number: int, secret: str = story.SECRET, path: str = "shop") -> int:
    body = b'[{"event":"delivered","id":"%d","time":%d,"recipient":"a@recipients.example"}]' % (
        number, int(time.time()),
    )  # fmt: skip
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-webhook-signature": f"sha256={signature}"}
    return httpx.post(
        f"{url}/hooks/{path}", content=body, headers=headers, trust_env=False, timeout=30
    ).status_code


def _stored(pipeline: Pipeline) -> Counts:
    pipeline.wait_caught_up()
    time.sleep(1)  # caught up is committed, and committed is stored
    answer = httpx.post(
        pipeline.clickhouse_dsn.rpartition("/")[0], params={"database": "mailpulse"},
        content=TOTALS, trust_env=False,
    ).raise_for_status()  # fmt: skip
    rows = [line.split("\t") for line in answer.text.splitlines()]
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows}


def test_counts_of_all_processes_are_stored_over_restarts_and_an_outage(
    pipeline: Pipeline, broker: Kafka
) -> None:
    """Each process tells its last interval when it ends; what Kafka did not take is told later."""
    ingests = [pipeline["ingest-1"], pipeline["ingest-2"]]
    expected: Counts = {}

    def post(role: int, number: int, **how: str) -> None:
        status = _post(ingests[role].url, number, **how)
        code = {200: "accepted", 401: "unauthorized", 404: "not_found", 503: "unavailable"}[status]
        reason = "bad_signature" if code == "unauthorized" else ""
        key = ("" if code == "not_found" else "shop", code, reason)
        expected[key] = expected.get(key, 0) + 1

    for number in range(12):
        post(number % 2, number)
        post(number % 2, number, secret="the old key")
        post(0, number, path=f"nobody{number}")
    broker.stop()
    post(1, 100)
    assert expected["shop", "unavailable", ""] == 1
    broker.start()
    for role in ingests:
        role.wait_ready()
    pipeline["ingest-1"].stop()
    pipeline["ingest-1"].start()
    pipeline["ingest-1"].wait_ready()
    post(0, 200)
    for role in ingests:
        assert role.stop() == 0
    assert _stored(pipeline) == expected


def test_commands_compare_how_recipients_are_stored(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what ingress published: on a cluster no file says it."""
    monkeypatch.chdir(tmp_path)
    settings = pipeline.settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    hashed = settings.model_copy(
        update={"recipients": "hashed", "recipient_hash_key": SecretStr("k" * 32)}
    )
    compare(hashed, Codec(), needed=True)  # nobody has told yet
    assert _post(pipeline.ingest_url, 1) == 200
    assert pipeline["ingest-1"].stop() == 0
    compare(settings, Codec(), needed=True)
    with pytest.raises(ConfigError, match="the mode plain, not hashed"):
        compare(hashed, Codec(), needed=True)


def test_without_the_topic_events_are_kept_as_ever(pipeline: Pipeline, broker: Kafka) -> None:
    """After an upgrade the topic may be missing for a while."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([SOURCE_REQUESTS])[SOURCE_REQUESTS].result(20)
    ingest = pipeline["ingest-1"]
    assert [_post(ingest.url, number) for number in range(5)] == [200] * 5
    assert ingest.stop() == 0
    assert "request counts not published" in ingest.log_tail(50)
