"""Engagement records written by hand, as enrichments are: they come with every fifth event.

Law of this file: pure, and exactly what fastavro writes for the same record; a test compares.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from schemas import primitives
from schemas.primitives import boolean, integer, optional_double

_text = lru_cache(maxsize=16_384)(primitives.text)
_optional_text = lru_cache(maxsize=16_384)(primitives.optional_text)
"""For what repeats: kinds, campaigns, links."""


def encode_engagement(record: Mapping[str, Any]) -> bytes:
    """An ``engagement`` record without framing."""
    return b"".join(
        (
            primitives.text(record["event_id"]),
            _text(record["kind"]),
            integer(record["occurred_at"]),
            primitives.text(record["message_id"]),
            primitives.optional_text(record["recipient"]),
            _optional_text(record["campaign_id"]),
            _optional_text(record["click_url"]),
            optional_double(record["seconds_since_delivery"]),
            _text(record["provider"]),
            boolean(record["withdrawn"]),
            _text(record["log_id"]),
            integer(record["partition"]),
            integer(record["offset"]),
        )
    )
