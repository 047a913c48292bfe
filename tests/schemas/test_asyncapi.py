"""The AsyncAPI document says what the code does."""

from typing import Any

import fastavro
import yaml

from schemas.codec import LATEST, schema_json
from schemas.topics import BY_NAME
from tests.asyncapi import PATH, rendered

DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))


def test_document_is_fresh() -> None:
    """It is what the topics and schemas give: ``python -m tests.asyncapi``."""
    assert PATH.read_text(encoding="utf-8") == rendered()


def resolve(reference: str) -> Any:
    """What a reference inside the document points to."""
    node = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_topic_is_described_with_the_schema_it_carries() -> None:
    """Channels are the topics; each message's payload file exists, parses, and is the newest."""
    channels = {name: one for name, one in DOCUMENT["channels"].items() if one["address"]}
    assert {channel["address"] for channel in channels.values()} == set(BY_NAME)
    for channel in channels.values():
        (message,) = (resolve(m["$ref"]) for m in channel["messages"].values())
        path = PATH.parent / message["payload"]["schema"]["$ref"]
        assert path.name == f"{LATEST[BY_NAME[channel['address']].schema]}.avsc"
        fastavro.parse_schema(schema_json(path.name.removesuffix(".avsc")))


def test_every_reference_leads_somewhere() -> None:
    """No operation and no message hangs in the air."""
    for operation in DOCUMENT["operations"].values():
        channel = resolve(operation["channel"]["$ref"])
        sends = operation["action"] == "send"
        assert channel["address"] is None if sends else channel["address"] in BY_NAME
        for message in channel["messages"].values() if sends else ():
            assert resolve(message["headers"]["$ref"])["type"] == "object"
    for message in DOCUMENT["components"]["messages"].values():
        assert resolve(message["headers"]["$ref"])["type"] == "object"
