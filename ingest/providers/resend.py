"""Resend: one JSON object per request, signed by Svix.

Invariants:
1. ``svix-id`` is the event's identity; the top-level ``created_at`` is its time (the one under
   ``data`` is the message's).
2. ``data.to`` lists all recipients of the message, not who acted: with several, the event has none.
3. Tags are names with values, so they are metadata.
4. The type of a bounce is Amazon SES's. Without a type, the server's words and codes judge it.
5. A contact with ``unsubscribed`` true has left all mail, whatever else was changed of it. False is
   no re-subscription: it comes with each change of a contact that had never left.
6. ``origin`` says which entry of the suppression list was added or removed: an address has one.

Sources: Resend documentation, «Event Types», «Webhook body parameters», ``suppression.added``,
``suppression.removed``, ``contact.updated`` and ``contact.topics.updated``; Svix, «Verifying
payloads manually»; resend-python issue 68 (recipients). Bounce subtypes are Amazon SES's, as in
Resend's examples. Not verified: the shape of ``suppressed`` and ``scheduled`` events; that
``suppression.removed`` has the entry's ``origin``.
"""

from collections.abc import Mapping

import orjson

from ingest.providers import fields, items, scopes, suppression
from ingest.providers.base import Parsed, Request
from ingest.providers.bounce_subtypes import is_automatic_reply, ses_verdict
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
    "suppression.added": "suppression_added",
    "suppression.removed": "suppression_removed",
    "contact.created.unsubscribed": "unsubscribed",
    "contact.updated.unsubscribed": "unsubscribed",
    "contact.topics.updated.opt_out": "unsubscribed",
    "contact.topics.updated.opt_in": "subscribed",
}
_CHOICES = ("opt_out", "opt_in")
_CONTACTS = frozenset(("contact.created", "contact.updated"))


class Resend(StandardSigned):
    """See the module."""

    prefix = "svix"
    name = "resend"
    title = "Resend"
    events = EVENTS
    campaign = "own: broadcast_id"
    id_recipe = "svix-id; else message, event, time, link"
    verification = "Svix: HMAC-SHA256 over id, timestamp and raw body"
    other_calls = "other contact.*, domain.*: kept as unknown"
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


def build(item: items.Item, source: Source, received_at: int, own: str | None) -> list[Event]:
    """The events of a request, several for several topics; ``own`` is its ``svix-id``."""
    native = native_name(item, "type")
    data = fields.as_dict(item.get("data"))
    if native in _CONTACTS and data.get("unsubscribed") is True:
        native += ".unsubscribed"
    click = fields.as_dict(data.get("click"))
    client = click or fields.as_dict(data.get("open"))
    headers = fields.header_map(data.get("headers"))
    parts: tuple[object, ...] = (own,)
    if own is None:
        what = data.get("email_id") or data.get("id") or data.get("email")
        parts = (what, native, item.get("created_at"), click.get("link"))
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
        recipient=data.get("to") or data.get("email"),
        metadata=fields.named_values(data.get("tags")),
        campaign_number=data.get("broadcast_id"),
        headers=headers,
        batch_id=own,
    )
    _add_reply(event, native, data)
    items.set_client(
        event,
        user_agent=client.get("userAgent"),
        ip=client.get("ipAddress"),
        click_url=click.get("link"),
        unsubscribe_link=fields.is_listed(click.get("link"), headers.get("list-unsubscribe")),
    )
    if native == "contact.topics.updated":
        topics = [one for one in fields.as_list(data.get("topics")) if isinstance(one, dict)]
        left, joined = (_chosen(topics, choice) for choice in _CHOICES)
        return scopes.by_choice(event, left, joined, _CHOICES)
    return [event]


def _chosen(topics: list[items.Item], choice: str) -> list[str]:
    chosen = [topic.get("id") for topic in topics if topic.get("subscription") == choice]
    return scopes.scopes("topic", chosen)


def _add_reply(event: Event, native: str, data: dict[str, object]) -> None:
    bounce = fields.as_dict(data.get("bounce"))
    bounce_class = reason = "none"
    said: object = None
    if native == "email.bounced":
        kind, subtype = bounce.get("type"), bounce.get("subType")
        reply = next(iter(fields.as_list(bounce.get("diagnosticCode"))), None)
        bounce_class, reason = ses_verdict(kind, subtype)
        said = reply or bounce.get("message")
        if is_automatic_reply(kind, subtype, reply or fields.reply_code(said)):
            event["event_type"], bounce_class, reason = "autoresponded", "none", "none"
    elif native == "email.suppressed":
        told = fields.as_dict(data.get("suppressed"))
        bounce_class, said = "suppressed", told.get("message") or bounce.get("message")
        reason = ses_verdict(None, told.get("type"))[1]
    elif native == "email.failed":
        why = fields.text(fields.as_dict(data.get("failed")).get("reason")) or ""
        reason = "policy" if "quota" in why or "rate_limit" in why else "none"  # the sender's own
        said = items.words_of(event, why)
    elif native.startswith("suppression."):
        reason = suppression.cause(fields.text(data.get("origin")))
    items.set_reply(event, diagnostic=said, bounce_class=bounce_class, bounce_reason=reason)


PROVIDER = Resend()
