"""Resend: one JSON object per request, signed by Svix.

Invariants:
1. ``svix-id`` is the event's identity; the top-level ``created_at`` is its time (the one under
   ``data`` is the message's).
2. ``data.to`` lists all recipients of the message, not who acted: with several, the event has none.
3. Tags are names with values, so they are metadata.

Sources: Resend documentation, «Event Types» and «Webhook body parameters»; Svix, «Verifying
payloads manually»; resend-python issue 68 (recipients). Bounce subtypes are Amazon SES's, as in
Resend's examples. Not verified: the shape of ``suppressed`` and ``scheduled`` events.
"""

from collections.abc import Mapping

import orjson

from ingest.providers import fields, items
from ingest.providers.base import Parsed, Request
from ingest.providers.bounce_subtypes import ses_verdict
from ingest.providers.shapes import native_name, read_object
from ingest.providers.standard_webhooks import StandardSigned
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "email.scheduled": "queued",
    "email.sent": "sent",
    "email.delivered": "delivered",
    "email.delivery_delayed": "deferred",
    "email.bounced": "bounced",
    "email.suppressed": "rejected",
    "email.failed": "failed",
    "email.complained": "complained",
    "email.opened": "opened",
    "email.clicked": "clicked",
}


class Resend(StandardSigned):
    """See the module."""

    prefix = "svix"
    name = "resend"
    title = "Resend"
    events = EVENTS
    id_recipe = "svix-id; else message, event, time, link"
    verification = "Svix: HMAC-SHA256 over id, timestamp and raw body"
    other_calls = "contact.*, domain.*: kept as unknown"
    bounces = "data.bounce.type, subType"

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = read_object(request.body)
        own = self.message_id(request)
        return items.parse_items([content], lambda item: build(item, source, received_at, own))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        moment = fields.iso(now)
        body = {
            "type": "email.delivered",
            "created_at": moment,
            "data": {
                "created_at": moment,
                "email_id": f"00000000-0000-4000-8000-{number:012d}",
                "from": "Sample <sample@example.com>",
                "to": [f"reader{number}@example.com"],
                "subject": "Sample",
            },
        }
        return self.signed(source, now, f"msg_sample{number}", orjson.dumps(body))


def build(item: items.Item, source: Source, received_at: int, own: str | None) -> Event:
    """The event of a request; ``own`` is its ``svix-id``."""
    native = native_name(item, "type")
    data = fields.as_dict(item.get("data"))
    recipients = fields.as_list(data.get("to"))
    click = fields.as_dict(data.get("click"))
    client = click or fields.as_dict(data.get("open"))
    parts: tuple[object, ...] = (own,)
    if own is None:
        parts = (data.get("email_id"), native, item.get("created_at"), click.get("link"))
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=parts,
        native_id=own is not None,
        time=item.get("created_at"),
        message_id=data.get("email_id"),
        rfc_message_id=data.get("message_id"),
        recipient=recipients[0] if len(recipients) == 1 else None,
        recipient_certain=len(recipients) <= 1,
        metadata=fields.named_values(data.get("tags")),
        provider_campaign=data.get("broadcast_id"),
        headers=fields.header_map(data.get("headers")),
        batch_id=own,
    )
    _add_reply(event, native, data)
    items.set_client(
        event,
        user_agent=client.get("userAgent"),
        ip=client.get("ipAddress"),
        click_url=click.get("link"),
    )
    return event


def _add_reply(event: Event, native: str, data: dict[str, object]) -> None:
    bounce = fields.as_dict(data.get("bounce"))
    bounce_class = reason = "none"
    said: object = None
    if native == "email.bounced":
        bounce_class, reason = ses_verdict(bounce.get("type"), bounce.get("subType"))
        said = next(iter(fields.as_list(bounce.get("diagnosticCode"))), bounce.get("message"))
    elif native == "email.suppressed":
        told = fields.as_dict(data.get("suppressed"))
        bounce_class, said = "suppressed", told.get("message") or bounce.get("message")
        reason = ses_verdict(None, told.get("type"))[1]
    elif native == "email.failed":
        said = fields.as_dict(data.get("failed")).get("reason")
    items.set_reply(event, diagnostic=said, bounce_class=bounce_class, bounce_reason=reason)


PROVIDER = Resend()
