"""What a user would build: anymail's receiver writes Avro to Kafka, and 200 means that it is there.

Invariants:
1. The same guarantee as mailpulse's: ``acks=all``, idempotent, every event of the request
   acknowledged before the answer; a delivery that failed is answered 500.
2. As quick as its parts allow without leaving their documented ways: confluent-kafka (librdkafka),
   one producer per process, fastavro with a schema that is parsed once, one flush per request
   (which does not wait for ``linger.ms``).
"""

import io
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import fastavro
from confluent_kafka import Producer

from schemas.topics import RAW

FRAME = b"\x00\x00\x00\x00\x01"
"""A schema registry's framing."""
_TEXT = ["null", "string"]
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "TrackingEvent",
        "fields": [
            {"name": "event_type", "type": "string"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            *[
                {"name": name, "type": _TEXT}
                for name in (
                    "event_id", "message_id", "recipient", "esp_name", "description",
                    "mta_response", "reject_reason", "click_url", "user_agent",
                )
            ],
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "metadata", "type": {"type": "map", "values": "string"}},
        ],
    }
)  # fmt: skip
_failed: list[object] = []


@cache
def producer() -> Producer:
    """The producer of this process."""
    return Producer(
        {"bootstrap.servers": os.environ["BENCH_KAFKA"], "acks": "all", "enable.idempotence": True}
    )


def _delivered(error: object, _message: object) -> None:
    if error is not None:
        _failed.append(error)


def receive(sender: object, event: Any, esp_name: str, **_: object) -> None:
    """anymail's receiver: one event to Kafka, keyed by recipient."""
    record = {
        "event_type": event.event_type, "timestamp": event.timestamp, "event_id": event.event_id,
        "message_id": event.message_id, "recipient": event.recipient, "esp_name": esp_name,
        "description": event.description, "mta_response": event.mta_response,
        "reject_reason": event.reject_reason, "click_url": event.click_url,
        "user_agent": event.user_agent, "tags": event.tags or [],
        "metadata": {key: str(value) for key, value in (event.metadata or {}).items()},
    }  # fmt: skip
    out = io.BytesIO()
    out.write(FRAME)
    fastavro.schemaless_writer(out, SCHEMA, record)
    producer().produce(
        RAW, out.getvalue(), key=(event.recipient or "").encode(), on_delivery=_delivered
    )


def kept_before_answered(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Django middleware: answers once all that the request told of is acknowledged."""
    from django.http import HttpResponse

    def answer(request: Any) -> Any:
        response = get_response(request)
        left = producer().flush(30)
        if left or _failed:
            _failed.clear()
            return HttpResponse(status=500)
        return response

    return answer
