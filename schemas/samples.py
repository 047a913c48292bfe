"""A believable record of each topic, for whoever writes a consumer before there is any mail.

Invariants:
1. Pure. Every record is complete: it encodes as the newest version of its schema.
2. They belong together: one message of the campaign ``spring-sale``, delivered, opened and clicked,
   and what follows from it. All names are of ``example.com``.
"""

from collections.abc import Mapping
from typing import Any

from schemas.codec import LATEST, schema_json
from schemas.glossary import COUNTER_NAMES, RATES
from schemas.topics import BY_NAME, SCOPED_SUPPRESSIONS

_AT = 1_795_507_200_000_000
"""24 November 2026, 08:00 UTC, microseconds."""
_MINUTE_US = 60_000_000
_ZERO: dict[str, Any] = {
    "string": "", "long": 0, "int": 0, "double": 0.0, "boolean": False, "bytes": b"", "null": None,
}  # fmt: skip
_ADA = {"recipient": "ada@example.com", "recipient_identity": "ada@example.com"}
_EVENT_ID = "5f0c2d9a6b1e4c7f8a3d5e6f70812a3b"
_PLACE = {"log_id": "Zb3kX0aLQ1mZ8u7y4J2nqw", "partition": 1, "offset": 18_204}
_COUNTS = {
    "events": 5_312, "delivered": 2_040, "bounced_hard": 18, "bounced_soft": 7, "opened": 611,
    "opened_any": 1_240, "clicked": 148, "clicked_any": 171, "opens": 803, "clicks": 190,
    "cohort_opened": 611, "cohort_opened_any": 1_240, "cohort_clicked": 148, "attempt_sent": 2_065,
    "cohort_opened_clicked": 139, "unsubscribed": 4, "cohort_unsubscribed": 4,
}  # fmt: skip
_RAW = {
    "event_id": _EVENT_ID, "campaign_id": "spring-sale", "campaign_source": "metadata",
    "recipient_domain": "example.com", "event_type": "clicked", "occurred_at": _AT,
    "received_at": _AT + 1_400_000, "provider": "sendgrid", "source": "news",
    "message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", **_ADA,
    "recipient_certain": True, "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1)",
    "ip": "192.0.2.17", "click_url": "https://shop.example.com/spring?utm_content=hero",
    "native_type": "click", "tags": ["newsletter"], "metadata": {"campaign_id": "spring-sale"},
}  # fmt: skip
_ENRICHMENT = {
    **_PLACE, "event_time": _AT, "campaign_id": "spring-sale", "campaign_source": "metadata",
    "message_key": "0d4b1a7c9e2f4a6b8c0d1e2f3a4b5c6d", "mailbox_provider": "gmail",
    "actor": "human", "actor_certainty": "high", "first_of_kind": True, "first_human": True,
    "seconds_since_delivery": 1_260.0, "device": "phone", "os": "iOS", "client": "Mobile Safari",
    "click_url_group": "https://shop.example.com/spring?utm_content=hero", "rules_version": 12,
}  # fmt: skip
_SUPPRESSION = {
    **_PLACE, "recipient": "old@example.com", "reason": "hard_bounce", "since": _AT,
    "evidence_event_id": "9b1e4c7f8a3d5e6f70812a3b5f0c2d9a", "provider": "sendgrid",
    "source": "news", "campaign_id": "spring-sale", "mailbox_provider": "gmail",
    "diagnostic": "550 5.1.1 The email account that you tried to reach does not exist",
}  # fmt: skip
_INCIDENT = {
    "incident_id": "6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a", "sequence": 1, "state": "opened",
    "level": "critical", "opened_at": _AT, "changed_at": _AT, "as_of": _AT,
}  # fmt: skip


def _windows() -> list[dict[str, Any]]:
    rates = []
    derived = {"sent": 2_065, "bounced": 25, **_COUNTS}
    for rate in RATES:
        above, below = derived.get(rate.numerator, 0), derived.get(rate.denominator, 0)
        rates.append({
            "name": rate.name, "basis": str(rate.basis), "numerator": above, "denominator": below,
            "value": above / below if below else None, "low": None, "high": None,
        })  # fmt: skip
    counts = {name: _COUNTS.get(name, 0) for name in COUNTER_NAMES}
    return [
        {
            "window": "1h", "starts_at": _AT - 60 * _MINUTE_US, "ends_at": _AT, "settled": False,
            "counts": counts, "rates": rates,
        }
    ]  # fmt: skip


def _overrides() -> dict[str, Mapping[str, Any]]:
    return {
        "raw_event": _RAW,
        "dead_letter": {
            "dead_letter_id": "3b5f0c2d9a6b1e4c7f8a3d5e6f70812a", "stage": "ingest",
            "reason": "not_json", "detail": "the body is not JSON", "occurred_at": _AT,
            "source": "news", "provider": "sendgrid", "content": b'[{"event": "open"',
        },
        "campaign_minute": {
            **_PLACE, **_COUNTS, "campaign_id": "spring-sale", "mailbox_provider": "gmail",
            "minute": _AT // 1_000,
        },
        "campaign_rates": {
            "campaign_id": "spring-sale", "as_of": _AT, "complete_through": _AT - 2_000_000,
            "revision": 412, "windows": _windows(),
        },
        "alert": {
            **_INCIDENT, "campaign_id": "bought-list", "rate": "hard_bounce_rate",
            "worst_level": "critical", "line": 0.05, "window": "24h", "numerator": 96,
            "denominator": 1_210, "value": 96 / 1_210, "opened_numerator": 96,
            "opened_denominator": 1_210, "opened_value": 96 / 1_210, "number": 1,
            "cause": "everywhere", "advice": "Stop the campaign and check where its list is from.",
        },
        "source_alert": {
            **_INCIDENT, "source": "news", "event_type": "", "silent_since": _AT - 60 * _MINUTE_US,
            "usual_gap_s": 240, "explained_s": 1_800, "cause": "silent",
            "accepted_until": _AT - 60 * _MINUTE_US,
            "advice": "Check at the provider that the webhook is switched on.",
        },
        "source_requests": {
            "ingress": "4c7f8a3d5e6f70812a3b5f0c2d9a6b1e", "sequence": 214, "source": "news",
            "began_at": _AT - _MINUTE_US, "ended_at": _AT, "recipients": "plain",
            "results": [
                {"result": "accepted", "reason": "", "requests": 412,
                 "first_at": _AT - _MINUTE_US + 900_000, "last_at": _AT - 1_200_000},
                {"result": "unauthorized", "reason": "bad_signature", "requests": 3,
                 "first_at": _AT - 31_000_000, "last_at": _AT - 9_000_000},
            ],
        },
        "suppression": _SUPPRESSION,
        "engagement": {
            **_PLACE, "event_id": _EVENT_ID, "kind": "clicked", "occurred_at": _AT,
            "message_id": _RAW["message_id"], "recipient": "ada@example.com",
            "campaign_id": "spring-sale", "click_url": _RAW["click_url"], "provider": "sendgrid",
            "seconds_since_delivery": 1_260.0,
        },
        "campaign": {
            "campaign_id": "spring-sale", "name": "Spring sale", "owner": "marketing",
            "expected_recipients": 2_100, "tags": ["newsletter"], "updated_at": _AT,
        },
        "destination": {"destination": "crm", "ordered_at": _AT, "paused": True},
        "rules": {**{"epoch": 1, "rules_version": 12, "log_id": _PLACE["log_id"]}},
        "erasure": {"erasure_id": "8a3d5e6f70812a3b5f0c2d9a6b1e4c7f", "at": _AT, "until": _AT},
    }  # fmt: skip


def sample(topic: str) -> dict[str, Any]:
    """The record of a topic, as it decodes: times are microseconds since 1970, unless their field
    says milliseconds.

    Raises:
        KeyError: no such topic.
    """
    schema = BY_NAME[topic].schema
    document = schema_json(LATEST[schema])
    if schema == "enriched_event":
        event, enrichment = (_empty(field["type"]) for field in document["fields"])
        return {"event": _less_head(event | _RAW), "enrichment": enrichment | _ENRICHMENT}
    scope = {"scope": "group:1234", "reason": "unsubscribe", "diagnostic": None}
    more = scope if topic == SCOPED_SUPPRESSIONS else {}
    return _less_head(_empty(document) | dict(_overrides()[schema]) | more)


def _less_head(record: dict[str, Any]) -> dict[str, Any]:
    """Without what only the streams read first; ingress makes it of the rest."""
    return {name: value for name, value in record.items() if name != "head"}


def _empty(node: Mapping[str, Any]) -> dict[str, Any]:
    """A record with every field at its default, or at zero."""
    return {
        field["name"]: field["default"] if "default" in field else _zero(field["type"])
        for field in node["fields"]
    }


def _zero(node: Any) -> Any:
    if isinstance(node, list):
        return _zero(node[0])
    if isinstance(node, str):
        return _ZERO[node]
    if node["type"] == "record":
        return _empty(node)
    if node["type"] == "enum":
        return node["default"]
    return (
        {"array": [], "map": {}}[node["type"]]
        if node["type"] in ("array", "map")
        else _zero(node["type"])
    )
