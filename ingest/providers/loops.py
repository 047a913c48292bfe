"""Loops: one JSON object per request, signed by Standard Webhooks.

Invariants:
1. ``webhook-id`` is the event's identity.
2. The campaign is the first of ``campaignId``, ``loopId`` and ``transactionalId`` with a value.
   Mailing lists are sent with some events of a message only, so they are metadata, not tags.
3. ``contact.mailingList.*`` concern that list, ``contact.unsubscribed`` all mail. Loops sends one
   of them beside each ``email.unsubscribed``, which does not say what was left and so is taken for
   all mail: subscribe to the ``contact`` events instead of it.

Sources: Loops documentation, «Webhooks»: event names, ``email.id`` as id of the email sent to one
contact, ``eventTime`` in seconds, ``testing.testEvent`` from the settings page. Not verified: retry
schedule; whether clicks have a link, user agent or address (no field for them is documented, so
``url``, ``userAgent`` and ``ipAddress`` under ``email`` or ``click`` are used if present).
"""

from collections.abc import Mapping

import orjson

from ingest.providers import fields, items, scopes
from ingest.providers.base import Parsed, Request
from ingest.providers.shapes import native_name, read_object
from ingest.providers.standard_webhooks import StandardSigned
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "campaign.email.sent": "sent",
    "loop.email.sent": "sent",
    "transactional.email.sent": "sent",
    "email.delivered": "delivered",
    "email.softBounced": "bounced",
    "email.hardBounced": "bounced",
    "email.opened": "opened",
    "email.clicked": "clicked",
    "email.unsubscribed": "unsubscribed",
    "email.resubscribed": "subscribed",
    "email.spamReported": "complained",
    "contact.unsubscribed": "unsubscribed",
    "contact.mailingList.unsubscribed": "unsubscribed",
    "contact.mailingList.subscribed": "subscribed",
}
_BOUNCE_CLASS = {"email.softBounced": "soft", "email.hardBounced": "hard"}
_CAMPAIGNS = ("campaignId", "loopId", "transactionalId")


class Loops(StandardSigned):
    """See the module."""

    name = "loops"
    title = "Loops"
    events = EVENTS
    campaign = "own: campaignId, loopId, transactionalId"
    id_recipe = "webhook-id; else email, event, recipient, time"
    other_calls = "testing.testEvent: 200, no event; contact.created, .deleted: kept as unknown"
    bounces = "event name"

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = read_object(request.body)
        if content.get("eventName") == "testing.testEvent":
            return Parsed(note="ping")
        own = self.message_id(request)
        return items.parse_items([content], lambda item: build(item, source, received_at, own))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        body = {
            "eventName": "email.delivered",
            "eventTime": int(now),
            "webhookSchemaVersion": "1.0.0",
            "sourceType": "campaign",
            "campaignId": "sample",
            "contactIdentity": {
                "id": f"contact{number}",
                "email": f"reader{number}@example.com",
                "userId": None,
            },
            "email": {"id": f"email{number}", "emailMessageId": "sample", "subject": "Sample"},
        }
        return self.signed(source, now, f"msg_sample{number}", orjson.dumps(body))


def build(item: items.Item, source: Source, received_at: int, own: str | None) -> list[Event]:
    """The event of a request; ``own`` is its ``webhook-id``."""
    native = native_name(item, "eventName")
    mail = fields.as_dict(item.get("email"))
    contact = fields.as_dict(item.get("contactIdentity"))
    moment = item.get("eventTime")
    lists = [one for one in fields.as_list(item.get("mailingLists")) if isinstance(one, dict)]
    names = [one.get("name") for one in lists]
    parts: tuple[object, ...] = (own,)
    if own is None:
        parts = (mail.get("id"), native, contact.get("email"), moment)
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=parts,
        native_id=own is not None,
        time=moment,
        message_id=mail.get("id"),
        recipient=contact.get("email"),
        metadata={"mailing_lists": names} if names else None,
        campaign_number=next((item[key] for key in _CAMPAIGNS if item.get(key)), None),
        batch_id=own,
    )
    event["bounce_class"] = _BOUNCE_CLASS.get(native, "none")
    client = {**mail, **fields.as_dict(item.get("click"))}
    items.set_client(
        event,
        user_agent=client.get("userAgent"),
        ip=client.get("ipAddress"),
        click_url=client.get("url"),
    )
    if event["event_type"] not in ("subscribed", "unsubscribed"):
        return [event]
    joined_or_left = fields.as_dict(item.get("mailingList")).get("id")
    return scopes.by_scope(event, scopes.scopes("list", joined_or_left))


PROVIDER = Loops()
