"""Schemas in a real registry: registered, decoded by a standard client, bad changes refused."""

import asyncio
import copy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro.schema import parse_schema, to_parsing_canonical_form

from schemas.codec import FIXED_IDS, LATEST, Codec, frame_of, schema_json
from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings
from schemas.topics import BY_NAME, CAMPAIGNS, DEAD_LETTERS, ENRICHED, RAW, TOPICS
from streams.kafka import admin
from streams.kafka.registry import RegistryClient, register_all
from tests.builders import enrichment, event, record
from tests.live import operator_commands, story
from tests.live.fixtures import KafkaCluster, or_skip
from tests.live.kafka import Kafka, create_topics
from tests.live.process import free_port
from tests.live.recount import read_topic
from tests.live.registry import Registry

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """One registry for the tests of this file."""
    with or_skip(Registry) as running:
        yield running


@pytest.fixture(scope="module")
def ids(registry: Registry) -> dict[str, int]:
    """Our schemas, registered after others: no id equals a fixed one by chance."""
    with RegistryClient(registry.url) as client:
        for number in range(len(FIXED_IDS)):
            fields = [{"name": f"n{number}", "type": "long"}]
            client.register("theirs", {"type": "record", "name": "Theirs", "fields": fields})
    return register_all(registry.url)


def canonical(document: dict[str, Any]) -> str:
    """What two documents of one schema have in common (Avro's parsing canonical form)."""
    return str(to_parsing_canonical_form(parse_schema(document)))


def test_every_released_schema_is_registered_under_its_topic(
    registry: Registry, ids: dict[str, int]
) -> None:
    """Each has an id of the registry, each subject the rule of its topic."""
    assert set(ids) == set(FIXED_IDS)
    subjects = httpx.get(f"{registry.url}/subjects").json()
    assert set(subjects) >= {topic.subject for topic in TOPICS}
    for topic in TOPICS:
        config = httpx.get(f"{registry.url}/config/{topic.subject}").json()
        assert config["compatibilityLevel"] == topic.compatibility
    with RegistryClient(registry.url) as client:
        for full, schema_id in ids.items():
            # a registry may leave out what is implied, such as an inherited namespace
            assert canonical(client.schema(schema_id)) == canonical(schema_json(full))


def test_registering_again_changes_nothing(registry: Registry, ids: dict[str, int]) -> None:
    """Every role does so at every start."""
    assert register_all(registry.url) == ids


def test_a_standard_client_decodes_what_we_produce(
    kafka: Kafka, registry: Registry, ids: dict[str, int]
) -> None:
    """confluent-kafka reads our enriched event by the id in its framing, times as datetimes."""
    topic = f"registry.{time.time_ns()}"
    create_topics(kafka.bootstrap, topic, partitions=1)
    codec = Codec(ids)
    record = {
        "event": event(tags=["a", "b"], metadata={"k": "ü"}),
        "enrichment": enrichment(log_id="here", offset=7),
    }
    value = codec.encode("enriched_event", record)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(30) == 0

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "unused"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry.url}))
    decoded = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
    assert frame_of(value) == ids[LATEST["enriched_event"]]
    assert decoded["event"]["recipient"] == "ada@example.com"
    assert decoded["event"]["metadata"] == {"k": "ü"}
    assert decoded["event"]["occurred_at"].timestamp() * 1e6 == event()["occurred_at"]
    assert decoded["enrichment"]["offset"] == 7


def changed(schema: str, **field: Any) -> dict[str, Any]:
    """The newest version of a schema with one field more."""
    document = copy.deepcopy(schema_json(LATEST[schema]))
    document["fields"].append({"doc": "New.", **field})
    return document


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize("topic", [RAW, ENRICHED])
def test_an_incompatible_change_is_refused(registry: Registry, topic: str) -> None:
    """Old records have no value for a required field: the registry refuses it."""
    described = BY_NAME[topic]
    with (
        RegistryClient(registry.url) as client,
        pytest.raises(ConfigError, match="409"),
    ):
        client.register(described.subject, changed(described.schema, name="x", type="long"))


@pytest.mark.usefixtures("ids")
def test_a_field_with_a_default_is_accepted(registry: Registry) -> None:
    """The intended way for a schema to grow; the registered schema can be read back."""
    described = BY_NAME["email.engagement.v1"]
    document = changed(described.schema, name="x", type=["null", "long"], default=None)
    with RegistryClient(registry.url) as client:
        assert client.schema(client.register(described.subject, document)) == document


def test_a_registry_that_is_away_is_unavailable() -> None:
    """A role can wait for it; the message holds neither address nor password."""
    url = f"http://user:hidden-password@127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable) as caught:
        register_all(url, backoff_s=0.01)
    assert "hidden-password" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_something_that_is_no_registry_is_a_config_error(registry: Registry) -> None:
    """The operator has to correct a wrong path: no waiting for it."""
    wrong = f"http://127.0.0.1:{registry.port}/nowhere{os.getpid()}"
    with pytest.raises(ConfigError, match="MAILPULSE_SCHEMA_REGISTRY_URL"):
        register_all(wrong)


def test_commands_read_and_write_by_the_ids_of_the_registry(
    kafka_cluster: KafkaCluster, registry: Registry, ids: dict[str, int], tmp_path: Path
) -> None:
    """Commands show what roles wrote, and roles read what commands write. About 20 seconds."""
    assert not set(ids.values()) & set(FIXED_IDS.values())
    (broker,) = kafka_cluster()
    (tmp_path / "mailpulse.toml").write_text(
        story.CONFIG.replace("SHOP_SECRET", "MAILPULSE_SECRET_SHOP"), encoding="utf-8"
    )
    asyncio.run(admin.topics_apply(Settings(kafka_bootstrap=broker.bootstrap)))
    codec, now = Codec(ids), int(time.time())
    letter = record(
        "dead_letter", dead_letter_id="ab" * 16, stage="ingest", source="shop", provider="generic",
        reason="not_yet", occurred_at=now * 1_000_000,
        content=json.dumps(story.event("delivered", "d1", "bob", now)).encode(),
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
    producer.produce(RAW, codec.encode("raw_event", event()))
    producer.produce(DEAD_LETTERS, codec.encode("dead_letter", letter))
    assert producer.flush(30) == 0

    settings = {
        "KAFKA_BOOTSTRAP": broker.bootstrap, "SCHEMA_REGISTRY_URL": registry.url,
        "CONFIG_FILE": str(tmp_path / "mailpulse.toml"), "DATA_DIR": str(tmp_path),
        "SECRET_SHOP": story.SECRET,
    }  # fmt: skip
    [shown] = operator_commands.lines(settings, "tail", "raw")
    assert shown["value"]["campaign_id"] == "spring"
    [[listed]] = operator_commands.lines(settings, "dlq", "ls")
    assert listed["reason"] == "not_yet"
    [opened] = operator_commands.lines(settings, "dlq", "show", "ab" * 4)
    assert opened["stage"] == "ingest"
    [sent] = operator_commands.lines(settings, "dlq", "resend", "--yes")
    assert sent == {"letters": 1, "records": 1, "requests": 0, "sent": True, "still_bad": {}}
    operator_commands.run(settings, "campaigns", "set", "spring", "--name", "Spring")

    written = asyncio.run(read_topic(broker.bootstrap, RAW))
    assert {codec.decode(one.value, "raw_event")["message_id"] for one in written} == {
        "message-1", "m-bob",
    }  # fmt: skip
    [facts] = asyncio.run(read_topic(broker.bootstrap, CAMPAIGNS))
    assert codec.decode(facts.value, "campaign")["name"] == "Spring"
