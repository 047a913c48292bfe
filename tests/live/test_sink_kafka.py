"""The sink on real Kafka: several sinks, a graceful stop, poison, and a recreated topic."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas import topics
from schemas.settings import Settings
from schemas.topics import PARTITIONS_DEFAULT
from tests.analytics.scenario import Sent
from tests.live.fixtures import KafkaCluster
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.live.sinking import SinkProcess, produce
from tests.live.test_sink_kills import RECOUNT, SUMMARY, expected_counts, records_of
from tests.live.warehouse_process import WarehouseProcess

COUNT = "SELECT count() FROM email_events"


@pytest.fixture
def bootstrap(kafka_cluster: KafkaCluster) -> str:
    """Its own Kafka, with mailpulse's topics."""
    node: Kafka = kafka_cluster(1)[0]
    create_mailpulse_topics(node.bootstrap)
    return node.bootstrap


@pytest.mark.timeout(480)
def test_poison_goes_to_the_dead_letter_topic_and_is_listed(bootstrap: str, tmp_path: Path) -> None:
    """Garbage among valid records: every valid one is stored, each bad one has its reason."""
    records, load = records_of(500)
    good = records[0].value or b""
    bad = [
        Sent(topics.ENRICHED, 1, 0, 0, b"k", b"garbage"),
        Sent(topics.ENRICHED, 1, 0, 0, b"k", good[:90]),
        Sent(topics.MINUTES, 0, 0, 0, b"k", good),
        Sent(topics.CAMPAIGNS, 0, 0, 0, b"k", b"\x00\x00\x00\x00\x09\x01"),
    ]
    asyncio.run(produce(bootstrap, records[:100] + bad + records[100:]))
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(RECOUNT, expected_counts(load))
        sink.wait_for(
            "SELECT topic, reason, stage FROM dead_letter_counts ORDER BY ALL",
            [
                [topics.MINUTES, "wrong_schema", "sink"],
                [topics.CAMPAIGNS, "broken_avro", "sink"],
                [topics.ENRICHED, "bad_framing", "sink"],
                [topics.ENRICHED, "broken_avro", "sink"],
            ],
        )


@pytest.mark.timeout(480)
def test_stop_stores_what_is_held_and_a_restart_repeats_nothing(
    bootstrap: str, tmp_path: Path
) -> None:
    """After SIGTERM the offsets are committed; the next run stores only what is new."""
    records, load = records_of(600)
    asyncio.run(produce(bootstrap, records))
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(SUMMARY, expected_counts(load))
        sink.wait_for(COUNT, [[600]])
        assert sink.stop() == 0
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(COUNT, [[600]])
        # rows as inserted, repeats included, tell whether anything was read again
        assert sink.ask("SELECT sum(rows) FROM system.parts WHERE table = 'events' AND active") == [
            [600]
        ]


@pytest.mark.timeout(480)
def test_same_events_on_a_recreated_topic_count_once(
    bootstrap: str, tmp_path: Path, own_kafka: Kafka
) -> None:
    """Another broker, offsets from 0, the same data directory: invariant 6 of the design."""
    records, load = records_of(400)
    expected = expected_counts(load)
    asyncio.run(produce(bootstrap, records))
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(SUMMARY, expected)
        sink.wait_for(RECOUNT, expected)
        assert sink.stop() == 0
    second = own_kafka.bootstrap
    create_mailpulse_topics(second)
    more, _ = records_of(400)
    # A block of the same bytes as one before is dropped by ClickHouse, so rows can't tell that all
    # was read again; what lies behind the last record of each partition can.
    behind = [Sent(topics.ENRICHED, number, 0, 0, b"k", b"garbage") for number in range(4)]
    behind.append(Sent(topics.MINUTES, 0, 0, 0, b"k", b"garbage"))
    asyncio.run(produce(second, more + behind))
    with SinkProcess(second, tmp_path) as sink:
        sink.wait_for("SELECT sum(letters) FROM dead_letter_counts", [[len(behind)]])
        sink.wait_for(RECOUNT, expected)
        sink.wait_for(SUMMARY, expected)


@pytest.mark.timeout(480)
def test_two_sinks_share_the_partitions_and_one_takes_over(bootstrap: str, tmp_path: Path) -> None:
    """Both write through one ClickHouse; when one is killed the other goes on alone."""
    records, _ = records_of(2_000)
    half = len(records) // 2
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with WarehouseProcess(tmp_path) as warehouse:
        dsn, url = warehouse.at.dsn(), warehouse.at.url
        with (
            SinkProcess(bootstrap, tmp_path / "one", dsn=dsn) as one,
            SinkProcess(bootstrap, tmp_path / "two", dsn=dsn) as two,
        ):
            asyncio.run(produce(bootstrap, records[:half]))
            _wait(url, "SELECT count() > 0 FROM events", "1")
            one.kill()
            asyncio.run(produce(bootstrap, records[half:]))
            _wait(url, "SELECT count() FROM email_events", "2000")
            assert two.process.poll() is None
            assert two.stop() == 0


def _wait(url: str, sql: str, expected: str, timeout_s: float = 90.0) -> None:
    import time
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + timeout_s
    found = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                f"{url}/?database=mailpulse", data=sql.encode(), timeout=30
            ) as answer:
                found = answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            found = error.read().decode()
        if found in (expected, "true" if expected == "1" else expected):
            return
        time.sleep(0.2)
    raise AssertionError(f"{sql}: {found} instead of {expected}")


@pytest.mark.timeout(480)
def test_silence_is_not_lag_and_lag_is_told(bootstrap: str, tmp_path: Path) -> None:
    """Complete through a moment ago while nothing comes; not any more while the workers have not
    read what came; again when they have."""
    records, _ = records_of(200)
    complete = (
        "SELECT countIf(through > now64(3) - INTERVAL 12 SECOND) FROM sink_progress FINAL"
        f" WHERE topic = '{topics.ENRICHED}'"
    )
    asyncio.run(produce(bootstrap, records))
    with SinkProcess(bootstrap, tmp_path) as sink:
        sink.wait_for(COUNT, [[200]])
        sink.wait_for(complete, [[PARTITIONS_DEFAULT]], all_rights=True)
        sink.wait_for(
            "SELECT max(seconds_behind) < 12, min(seconds_silent) > 600 FROM freshness"
            " WHERE part = 'events'",
            [[True, True]],
        )
        asyncio.run(produce(bootstrap, [Sent(topics.RAW, 1, 0, 0, b"k", b"not read yet")]))
        sink.wait_for(complete, [[PARTITIONS_DEFAULT - 1]], all_rights=True)
        group = Settings().consumer_group
        worker = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
        worker.commit(offsets=[TopicPartition(topics.RAW, 1, 1)], asynchronous=False)
        worker.close()
        sink.wait_for(complete, [[PARTITIONS_DEFAULT]], all_rights=True)
