"""Which records a destination gets.

Invariants:
1. Pure. A record passes if every filter that is set lets it pass.
2. What takes something back passes whenever what it takes back did: a withdrawn engagement has the
   same fields, and a lifted suppression, which has none, always passes.
"""

from collections.abc import Callable
from typing import Any

from schemas import topics
from schemas.codec import AvroRecord
from streams.campaigns.patterns import matcher
from streams.deliver.bodies import ENGAGED
from streams.deliver.destinations import AnyDestination

Passes = Callable[[AvroRecord], bool]


def _fields(topic: str, record: AvroRecord) -> dict[str, Any]:
    """What filters look at, by the name of the filter."""
    if topic == topics.ENRICHED:
        event, enrichment = record["event"], record["enrichment"]
        return {
            "campaigns": enrichment["campaign_id"], "events": event["event_type"],
            "sources": event["source"], "mailbox_providers": enrichment["mailbox_provider"],
        }  # fmt: skip
    return {
        "campaigns": record.get("campaign_id"),
        "events": ENGAGED.get(record.get("kind", "")),
        "sources": record.get("source"),
        "mailbox_providers": record.get("mailbox_provider"),
    }


def passes(destination: AnyDestination, topic: str) -> Passes:
    """Whether a record of ``topic`` goes to the destination."""
    wanted = {name: getattr(destination, name) for name in destination.filters() - {"campaigns"}}
    patterns = [matcher(text) for text in destination.campaigns]
    if not wanted and not patterns:
        return lambda record: destination.wants(topic, record)

    def check(record: AvroRecord) -> bool:
        found = _fields(topic, record)
        campaign = found["campaigns"] or ""
        if patterns and not any(pattern.fullmatch(campaign) for pattern in patterns):
            return False
        fits = all(found[name] in values for name, values in wanted.items())
        return fits and destination.wants(topic, record)

    return check
