"""The read-only registry: standard clients decode our topics with it, and nothing can be
changed."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from starlette.applications import Starlette

from ingest.registry_endpoint import registry_routes
from schemas.codec import FIXED_IDS, HEAD, LATEST, Codec, schema_json
from schemas.topics import ENRICHED, RAW, TOPICS
from tests.builders import enrichment, event, record

CODEC = Codec()


@contextmanager
def serving(ids: Mapping[str, int] = FIXED_IDS) -> Iterator[str]:
    """The endpoint on a real socket."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Starlette(routes=[registry_routes(ids)]), log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/registry"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The endpoint with the fixed ids."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(url: str) -> SchemaRegistryClient:
    """Confluent's own client."""
    return SchemaRegistryClient({"url": url})


def test_confluents_client_decodes_an_enriched_event(client: SchemaRegistryClient) -> None:
    """The id in the framing leads to the schema that the record was written with."""
    record = {"event": event(), "enrichment": enrichment(offset=3)}
    value = CODEC.encode("enriched_event", record)
    decoded = AvroDeserializer(client)(value, SerializationContext(ENRICHED, MessageField.VALUE))
    assert decoded["event"]["campaign_id"] == "spring"
    assert decoded["enrichment"]["offset"] == 3


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_confluents_client_decodes_every_topic(client: SchemaRegistryClient, topic: Any) -> None:
    """Each topic's records, from the topic's name alone."""
    value = CODEC.encode(topic.schema, record(topic.schema))
    decoded = AvroDeserializer(client)(value, SerializationContext(topic.name, MessageField.VALUE))
    assert set(decoded) - {HEAD} == set(record(topic.schema))
    registered = client.get_latest_version(topic.subject)
    assert registered.schema_id == FIXED_IDS[LATEST[topic.schema]]
    assert json.loads(str(registered.schema.schema_str)) == schema_json(LATEST[topic.schema])


def test_confluents_serializer_writes_what_we_read(client: SchemaRegistryClient) -> None:
    """Campaign facts written by a standard client, without registering a schema, are decoded."""
    serialize = AvroSerializer(
        client,
        json.dumps(schema_json(LATEST["raw_event"])),
        conf={"auto.register.schemas": False},
    )
    value = serialize(dict(event()), SerializationContext(RAW, MessageField.VALUE))
    assert CODEC.decode(value, "raw_event") == event()


def test_nothing_can_be_registered(client: SchemaRegistryClient) -> None:
    """The answer is that of a registry in read-only mode."""
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema(f"{RAW}-value", Schema('"string"', "AVRO"))
    assert caught.value.error_code == 42205


def test_subjects_and_versions_are_listed(client: SchemaRegistryClient) -> None:
    """One subject for each topic, versions from 1."""
    assert sorted(client.get_subjects()) == sorted(topic.subject for topic in TOPICS)
    for topic in TOPICS:
        assert client.get_versions(topic.subject)[0] == 1
        assert client.get_version(topic.subject, 1).version == 1


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/schemas/ids/999", 404, 40403),
        ("/schemas/ids/999/versions", 404, 40403),
        ("/subjects/nothing/versions", 404, 40401),
        ("/subjects/nothing/versions/1", 404, 40401),
        ("/subjects/email.events.raw.v1-value/versions/999", 404, 40402),
        ("/subjects/email.events.raw.v1-value/versions/0", 422, 42202),
        ("/subjects/email.events.raw.v1-value/versions/²", 422, 42202),
        ("/subjects/email.events.raw.v1-value/versions/99999999999999999999", 422, 42202),
    ],
)
def test_what_is_not_there_has_confluents_error_code(
    url: str, path: str, status: int, code: int
) -> None:
    """Clients decide by this code."""
    answer = httpx.get(url + path)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, 42201),
        (b"[]", 422, 42201),
        (b'{"schema": 3}', 422, 42201),
        (b'{"schema": "nonsense"}', 422, 42201),
        (b"[" * 100_000, 422, 42201),
        (b" " * 200_001, 413, 42201),
        (b'{"schema": "{}"}', 404, 40403),
    ],
)
def test_bad_lookups_are_answered_not_crashed_on(
    url: str, body: bytes, status: int, code: int
) -> None:
    """Every body gets an answer of the API."""
    answer = httpx.post(f"{url}/subjects/{RAW}-value", content=body)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)


def test_ids_of_a_registry_are_served_when_given() -> None:
    """The endpoint serves the ids that the codec writes."""
    ids = {full: number + 500 for full, number in FIXED_IDS.items()}
    with serving(ids) as url:
        assert httpx.get(f"{url}/schemas/ids/501").status_code == 200
        assert httpx.get(f"{url}/schemas/ids/1").status_code == 404
