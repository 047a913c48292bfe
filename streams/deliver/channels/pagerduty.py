"""Events for PagerDuty.

Opening, escalation and easing are ``trigger`` with the incident as ``dedup_key``, so they change
one alert; closing is ``resolve``. A trigger after that opens a new alert: so does sending again.

Invariants:
1. Pure. Every event of an incident has the same ``dedup_key`` and the same ``routing_key``.
2. Nothing is longer than PagerDuty takes.

Source: PagerDuty, «Events API v2» (developer-docs/docs/events-API-v2): summary 1,024 characters,
dedup_key 255.
"""

from typing import Any

from streams.deliver.channels.messages import Message

SUMMARY_CHARS_MAX = 1_024
KEY_CHARS_MAX = 255
SEVERITIES = {"watch": "warning", "warning": "error", "critical": "critical"}


def event(message: Message, routing_key: str) -> dict[str, Any]:
    """The JSON of a message that is an incident, or a test."""
    head = {"routing_key": routing_key, "dedup_key": message.thread[:KEY_CHARS_MAX]}
    if message.over:
        return {**head, "event_action": "resolve"}
    payload = {
        "summary": message.title[:SUMMARY_CHARS_MAX],
        "source": message.campaign or "mailpulse",
        "severity": SEVERITIES.get(message.level, "info"),
        "custom_details": {"text": "\n".join(message.lines), **message.fields},
    }
    links = {"links": [{"href": message.link, "text": "Dashboard"}]} if message.link else {}
    return {**head, "event_action": "trigger", "client": "mailpulse", "payload": payload, **links}
