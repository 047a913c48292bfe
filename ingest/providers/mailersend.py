"""MailerSend: one event per request, version 1 and version 2 payloads.

Invariants:
1. The top-level ``type`` names the event; ``data.type`` may say ``delivered`` on a click.
2. ``webhook.test`` is signed with a key that MailerSend has published, so it proves nothing. It is
   answered 200, since a webhook is only saved after a 2xx, and gives no event; that key is accepted
   for nothing else.
3. A retry repeats ``data.id``. An open is reported twice, as ``opened`` and ``opened_unique``, if
   both are subscribed: subscribe to one of them.

Sources: MailerSend documentation, «Webhooks» (signature, 3 s, at most 2 retries, pause after 20
failures in a day, version 2 payloads, test ping); payloads seen by others (``data.email_id`` is the
local part of the Message-ID at mailersend.net; ``meta`` is ``[]`` when empty). Not verified: which
``meta`` fields each event has.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from ingest import verify
from ingest.providers import fields, items, suppression
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    newest,
    post_json,
    with_headers,
)
from ingest.providers.shapes import native_name, read_object
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "signature"
TEST_KEY = "test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"
"""Published by MailerSend for its test call, so not a secret (invariant 2)."""
TEST_TYPE = "webhook.test"
TEST_BODY_BYTES_MAX = 4096
MESSAGE_ID_DOMAIN = "mailersend.net"

EVENTS: Mapping[str, str] = {
    "activity.sent": "sent",
    "activity.delivered": "delivered",
    "activity.deferred": "deferred",
    "activity.soft_bounced": "bounced",
    "activity.hard_bounced": "bounced",
    "activity.suppressed": "rejected",
    "activity.opened": "opened",
    "activity.opened_unique": "opened",
    "activity.clicked": "clicked",
    "activity.clicked_unique": "clicked",
    "activity.unsubscribed": "unsubscribed",
    "activity.spam_complaint": "complained",
}

_CLASSES = {
    "activity.soft_bounced": "soft",
    "activity.hard_bounced": "hard",
    "activity.suppressed": "suppressed",
}


_CATEGORIES = frozenset(("unknown reason",))
"""Reasons of more than one word that no server gave."""


class MailerSend(Provider):
    """See the module."""

    name = "mailersend"
    title = "MailerSend"
    required = ("signing_key",)
    events = EVENTS
    id_recipe = "data.id, type; else message, type, recipient, time, url, ip"
    verification = "HMAC-SHA256 over raw body"
    other_calls = "webhook.test: 200, no event; maintenance.*, sender_identity.*: kept as unknown"
    bounces = "type"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``; accepts the test call, which holds no event (invariant 2)."""
        signature = request.header(SIGNATURE)
        try:
            verify.check_hmac_hex(source.secrets("signing_key"), request.body, signature)
        except SignatureError:
            if not _is_test_call(request.body, signature):
                raise

    def by_anyone(self, request: Request) -> bool:
        """See ``Provider.by_anyone``: the test call (invariant 2)."""
        return _is_test_call(request.body, request.header(SIGNATURE))

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = read_object(request.body)
        if content.get("type") == TEST_TYPE:
            return Parsed(note="ping")
        return items.parse_items([content], lambda item: build(item, source, received_at))

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        made = verify.hmac_hex(newest(source, "signing_key"), request.body)
        return with_headers(request, (SIGNATURE, made))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "type": "activity.delivered",
            "created_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "data": {
                "id": f"6aa59d4a53{number:014x}",
                "message_id": f"6aa59d2fbf{number:014x}",
                "email_id": f"6aa59d3037{number:014x}",
                "type": "delivered",
                "recipient": f"reader{number}@example.com",
                "tags": ["sample"],
                "meta": [],
            },
        }
        body = orjson.dumps(event)
        signature = verify.hmac_hex(newest(source, "signing_key"), body)
        return post_json(body, (SIGNATURE, signature))


def _is_test_call(body: bytes, signature: str | None) -> bool:
    """Whether this is MailerSend's test call, which anybody could have made."""
    if len(body) > TEST_BODY_BYTES_MAX:
        return False
    try:
        verify.check_hmac_hex((TEST_KEY,), body, signature)
        return fields.as_dict(items.read_json(body)).get("type") == TEST_TYPE
    except (SignatureError, BadInput):
        return False


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """The event of a request, whichever its version."""
    native = native_name(item, "type")
    data = fields.as_dict(item.get("data"))
    mail = fields.as_dict(data.get("email"))  # version 1 only
    details = fields.as_dict(data.get("morph") if "morph" in data else data.get("meta"))
    message_id = data.get("message_id") or fields.as_dict(mail.get("message")).get("id")
    recipient = _recipient(data, mail)
    email_id = fields.identifier(data.get("email_id") or mail.get("id"))
    # version 1: the top-level time is that of the call, about a minute after the event
    moment = data.get("created_at") or item.get("created_at")
    own = fields.text(data.get("id"))
    parts = (message_id, native, recipient, moment, details.get("url"), details.get("ip"))
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(own, native) if own else parts,
        native_id=bool(own),
        time=moment,
        message_id=message_id,
        rfc_message_id=f"{email_id}@{MESSAGE_ID_DOMAIN}" if email_id else None,
        recipient=recipient,
        tags=data.get("tags") or mail.get("tags"),
    )
    if event["event_type"] in ("opened", "clicked"):
        items.set_client(
            event,
            user_agent=details.get("user_agent"),
            ip=details.get("ip"),
            click_url=details.get("url"),
            provider_first=True if native.endswith("_unique") else None,
            geo_country=details.get("country"),
        )
    else:
        said = _said(details)
        bounce_class = _CLASSES.get(native, "none")
        suppressed = bounce_class == "suppressed"
        items.set_reply(
            event,
            diagnostic=items.words_of(event, said, _CATEGORIES),
            smtp_code=details.get("bounce_code"),
            bounce_class=bounce_class,
            bounce_reason=suppression.cause(fields.text(said)) if suppressed else "none",
        )
    return event


def _recipient(data: items.Item, mail: items.Item) -> object:
    """Version 2: a text (or an object); version 1: inside the mail."""
    for found in (data.get("recipient"), mail.get("recipient"), data.get("email")):
        if isinstance(found, str):
            return found
        address = fields.as_dict(found).get("email")
        if isinstance(address, str):
            return address
    return None


def _said(details: items.Item) -> object:
    names = ("bounce_reason", "readable_reason", "reason", "unsubscribe_reason")
    return next((details[name] for name in names if details.get(name)), None)


PROVIDER = MailerSend()
