"""``schemas/asyncapi.yaml``, generated from the topics and schemas that the code uses.

``python -m tests.asyncapi`` writes it; ``tests/schemas/test_asyncapi.py`` fails if it is stale.
AsyncAPI 3.0, Kafka bindings 0.5.0.
"""

from pathlib import Path
from typing import Any

import yaml

from schemas.cloudevents import SOURCES, cloud_event
from schemas.codec import LATEST, schema_json
from schemas.topics import BY_NAME, PARTITIONS_DEFAULT, TOPICS, Topic
from schemas.trace import TRACEPARENT
from streams.deliver.bodies import KINDS
from tests import webhook_schemas

PATH = Path(__file__).parent.parent / "schemas" / "asyncapi.yaml"
CE_TYPE = "io.mailpulse.{schema}.v1"
_EXAMPLE = cloud_event("alert", SOURCES[0], "", 0)
"""What headers there are, by the code that makes them."""


def name_of(topic: Topic) -> str:
    """Of a channel: its schema, with the topic's own word where that has several topics."""
    own = topic.name.removeprefix("email.").removesuffix(".v1").split(".")[1:]
    first = next(other for other in TOPICS if other.schema == topic.schema)
    return topic.schema if topic == first else "_".join((topic.schema, *own))


def _identifier(topic: Topic) -> str:
    return name_of(topic).title().replace("_", "")


def _channel(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": ["compact" if topic.compacted else "delete"]}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": schema_json(LATEST[topic.schema])["doc"],
        "messages": {topic.schema: {"$ref": f"#/components/messages/{_identifier(topic)}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": PARTITIONS_DEFAULT,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(topic: Topic) -> dict[str, Any]:
    full = LATEST[topic.schema]
    return {
        "name": topic.schema,
        "title": schema_json(full)["name"],
        "contentType": "application/avro",
        "headers": {"$ref": "#/components/schemas/CloudEvents"},
        "payload": {
            "schemaFormat": "application/vnd.apache.avro;version=1.9.0",
            "schema": {"$ref": f"./avro/{full}.avsc"},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"By {topic.key}."},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicNameStrategy",
                "bindingVersion": "0.5.0",
            }
        },
    }


def _sent(topic: Topic) -> dict[str, Any]:
    """The requests that ``mailpulse deliver`` makes of a topic's records."""
    return {
        "address": None,
        "description": f"What mailpulse deliver sends of {topic.name} to a destination's URL.",
        "messages": {
            "request": {
                "name": f"{topic.schema}_request",
                "contentType": "application/json",
                "headers": {"$ref": "#/components/schemas/StandardWebhooks"},
                "payload": webhook_schemas.body(topic.name),
            }
        },
    }


STANDARD_WEBHOOKS: dict[str, Any] = {
    "type": "object",
    "description": "Standard Webhooks 1.0.0. At-least-once: go by webhook-id. Several records in a"
    " request (records_per_request) are the data of a body of type batch.",
    "required": ["webhook-id", "webhook-timestamp"],
    "properties": {
        "webhook-id": {"type": "string", "description": "The body's id: the same on every try."},
        "webhook-timestamp": {"type": "string", "description": "Of this try, seconds since 1970."},
        "webhook-signature": {
            "type": "string",
            "description": "v1 signatures, one for each secret, with spaces between.",
        },
    },
}


_CLOUD_EVENTS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, binary mode of the Kafka protocol binding.",
    "required": [*(name for name, _ in _EXAMPLE)],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"enum": [CE_TYPE.format(schema=t.schema) for t in TOPICS]},
        "ce_source": {
            "enum": [*SOURCES],
            "description": "The stage that wrote it.",
        },
        "ce_id": {
            "type": "string",
            "description": "The same when the same thing is written again.",
        },
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "To the second; the record's own fields are finer.",
        },
        "content-type": {"const": "application/avro"},
        TRACEPARENT: {
            "type": "string",
            "description": (
                "W3C Trace Context, only on raw and enriched events and dead "
                "letters of ingress whose request carried it; the last header."
            ),
        },
    },
}


def document() -> dict[str, Any]:
    """The whole document."""
    sent = [BY_NAME[name] for name in KINDS]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mailpulse topics",
            "version": "1.0.0",
            "description": (
                "Email delivery events and what follows from them. Values are Avro in Confluent "
                "framing. A record may come again after a crash, with the same CloudEvents id and "
                "the same coordinates; the newest of a key holds."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {
            **{name_of(topic): _channel(topic) for topic in TOPICS},
            **{f"{name_of(topic)}_request": _sent(topic) for topic in sent},
        },
        "operations": {
            f"receive_{name_of(topic)}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name_of(topic)}"},
                "summary": f"Subscribe to {topic.name}, keyed by {topic.key}.",
            }
            for topic in TOPICS
        }
        | {
            f"send_{name_of(topic)}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name_of(topic)}_request"},
                "summary": f"POST to a destination, in the order of each {topic.key}.",
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            }
            for topic in sent
        },
        "components": {
            "messages": {_identifier(topic): _message(topic) for topic in TOPICS},
            "schemas": {
                "StandardWebhooks": STANDARD_WEBHOOKS,
                "CloudEvents": _CLOUD_EVENTS,
            },
        },
    }


def rendered() -> str:
    """The document as YAML."""
    head = "# Made by `python -m tests.asyncapi` from schemas/topics.py and schemas/avro/.\n"
    return head + yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
