"""Dead letters: requests and records that could not be processed, with reason and origin.

Invariants:
1. Pure.
2. The identity depends on content and origin only: the same request or record gives the same
   letter, however often a stage tries it.
"""

import hashlib
from typing import Any

CONTENT_BYTES_MAX = 1_000_000
"""How much of a record its dead letter holds; with the rest of the letter this is below a broker's
default limit, 1 MiB, which the record itself may have reached. Its own topic has all of it."""
KEY_BYTES_MAX = 4_096
DESTINATION = "destination"
"""In ``headers`` of letters of ``deliver``: the name of the destination."""


def of_request(
    content: bytes,
    *,
    source: str,
    provider: str,
    content_type: str | None,
    reason: str,
    detail: str,
    received_at: int,
) -> dict[str, Any]:
    """The ``dead_letter`` record of a request, or an item of one, that ingress can't read.

    Args:
        content: the bytes received.
        received_at: microseconds since 1970.
    """
    return {
        "dead_letter_id": _identity("ingest", source, content=content),
        "stage": "ingest",
        "reason": reason,
        "detail": detail,
        "occurred_at": received_at,
        "source": source,
        "provider": provider,
        "headers": {"content-type": content_type} if content_type else {},
        "content": content,
    }


def of_record(
    stage: str,
    topic: str,
    partition: int,
    offset: int,
    *,
    key: bytes | None,
    value: bytes | None,
    timestamp_ms: int,
    reason: str,
    detail: str,
    log_id: str | None = None,
    destination: str = "",
    ce_id: str = "",
) -> dict[str, Any]:
    """The ``dead_letter`` record of a Kafka record that a stage can't process.

    Args:
        stage: ``enrich``, ``campaigns``, ``sink`` or ``deliver``.
        timestamp_ms: the record's own, milliseconds since 1970.
        log_id: incarnation of the topic, where the stage knows it.
        destination: of ``deliver``: the one that did not take it; another one's is another letter.
        ce_id: of ``deliver``: the id that the record was sent with, to send it again with.
    """
    content = (value or b"")[:CONTENT_BYTES_MAX]
    place = (topic, log_id or "", str(partition), str(offset), *filter(None, (destination,)))
    headers = {DESTINATION: destination, "ce_id": ce_id} if destination else {}
    return {
        "dead_letter_id": _identity(stage, *place, content=content),
        "stage": stage,
        "reason": reason,
        "detail": detail,
        "occurred_at": timestamp_ms * 1000,
        "topic": topic,
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
        "key": key and key[:KEY_BYTES_MAX],
        "headers": headers,
        "content": content,
    }


def _identity(*place: str, content: bytes) -> str:
    """32 hexadecimal digits: half of SHA-256 over each part, preceded by its length."""
    digest = hashlib.sha256()
    for part in (*(text.encode() for text in place), content):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:32]
