"""Postal: the open-source mail server's webhooks, one event per request, signed with RSA.

Invariants:
1. Newer versions sign twice, with SHA-1 and with SHA-256. If the second signature is present, only
   it counts. Omitting it gains an attacker nothing, since both are made with the same key.
2. Events of incoming mail (``direction`` is ``incoming``) are ``unknown``.
3. ``MessageDeliveryFailed`` is a bounce if the receiving server refused with a 5xx reply, else a
   failure of Postal: the last of its attempts passed without one, its domain does not exist, …
4. ``MessageHeld`` is ``queued``, since an operator may release it. Held for the suppression list,
   the message is ``rejected`` and ``suppressed``.

Sources: Postal's documentation, «Webhooks», and its source (``webhook_delivery_service.rb``,
``message_db/delivery.rb``, ``http.rb``, ``message_dequeuer``): envelope, uuid per webhook and
event, retries after 2, 3, 6, 10 and 15 minutes, 5 s time-out. Not verified: payloads older than
Postal 2; ``SendLimit…``.
"""

from collections.abc import Mapping

import orjson

from ingest import verify
from ingest.providers import fields, items, suppression
from ingest.providers.base import (
    Certificates,
    Request,
    post_json,
    private_key,
    unreadable,
    with_headers,
)
from ingest.providers.shapes import ItemProvider, native_name
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "x-postal-signature"
SIGNATURE_256 = "x-postal-signature-256"
_SUPPRESSED = "is on the suppression list"
_GIVEN_UP = "maximum number of delivery attempts"
_NO_HOST = "no hosts to try"
"""Words of ``details``, in lower case (``outgoing_message_processor.rb``,
``single_message_processor.rb``, ``smtp_sender.rb``). The address that was given up is added to the
suppression list afterwards, which ``details`` says too."""

EVENTS: Mapping[str, str] = {
    "MessageSent": "delivered",
    "MessageDelayed": "deferred",
    "MessageDeliveryFailed": "failed",
    "MessageHeld": "queued",
    "MessageBounced": "bounced",
    "MessageLinkClicked": "clicked",
    "MessageLoaded": "opened",
}


class Postal(ItemProvider):
    """See the module."""

    name = "postal"
    title = "Postal"
    required = ("public_key",)
    events = EVENTS
    id_recipe = "uuid; else event, message id, time, url, ip"
    verification = "RSA PKCS#1 v1.5 over raw body, SHA-256 or SHA-1"
    other_calls = "DomainDNSError, SendLimit…: kept as unknown"
    bounces = "5xx answer of MessageDeliveryFailed; details"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        keys = verify.rsa_keys(source.public_key)
        if any(name == SIGNATURE_256 for name, _ in request.headers):
            verify.check_rsa(keys, request.body, request.header(SIGNATURE_256), "sha256")
        else:
            verify.check_rsa(keys, request.body, request.header(SIGNATURE), "sha1")

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        if any(name == SIGNATURE_256 for name, _ in request.headers):
            made = verify.sign_rsa(private_key(signing_key), request.body, "sha256")
            return with_headers(request, (SIGNATURE_256, made))
        made = verify.sign_rsa(private_key(signing_key), request.body, "sha1")
        return with_headers(request, (SIGNATURE, made))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        key = private_key(signing_key)
        event = {
            "event": "MessageSent",
            "timestamp": now,
            "payload": {
                "message": {
                    "id": 12345 + number,
                    "token": f"sample{number}",
                    "direction": "outgoing",
                    "message_id": f"sample-{number}@rp.postal.example.com",
                    "to": f"reader{number}@example.com",
                    "tag": "sample",
                },
                "status": "Sent",
                "output": "250 2.0.0 OK",
                "timestamp": now,
            },
            "uuid": f"0fcc8fb6-7c16-4e57-9c1e-{number:012x}",
        }
        body = orjson.dumps(event)
        signature = verify.sign_rsa(key, body, "sha1")
        return post_json(body, (SIGNATURE, signature))

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``."""
        keys = unreadable(source, "public_key", verify.load_rsa_key, "is no RSA key")
        return super().check(source) + keys


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """The event of a request."""
    native = native_name(item, "event")
    payload = fields.as_dict(item.get("payload"))
    message = fields.as_dict(payload.get("message") or payload.get("original_message"))
    own = fields.text(item.get("uuid"))
    # the payload of a click or load has no time; the envelope's is the same on retries
    moment = payload.get("timestamp") or item.get("timestamp")
    outgoing = message.get("direction") != "incoming"
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown") if outgoing else "unknown",
        native_type=native,
        id_parts=(own,)
        if own
        else (native, message.get("id"), moment, payload.get("url"), payload.get("ip_address")),
        native_id=bool(own),
        time=moment,
        message_id=message.get("id"),
        rfc_message_id=message.get("message_id"),
        recipient=message.get("to"),
        tags=message.get("tag"),
    )
    if native in ("MessageLinkClicked", "MessageLoaded"):
        items.set_client(
            event,
            user_agent=payload.get("user_agent"),
            ip=payload.get("ip_address"),
            click_url=payload.get("url"),
        )
    elif "output" in payload or "details" in payload:
        _add_reply(event, payload)
    return event


def _add_reply(event: Event, payload: items.Item) -> None:
    details = (fields.text(payload.get("details")) or "").lower()
    bounce_class = reason = "none"
    if event["event_type"] == "queued" and _SUPPRESSED in details:
        event["event_type"], bounce_class = "rejected", "suppressed"
        reason = suppression.cause(details.partition("(reason:")[2], "suppressed_bounce")
    elif _GIVEN_UP in details:
        bounce_class, reason = "soft", "timeout"
    elif _NO_HOST in details:
        reason = "dns"
    items.set_reply(
        event,
        diagnostic=payload.get("output") or payload.get("details"),
        bounce_class=bounce_class,
        bounce_reason=reason,
    )
    answered = fields.reply_code(payload.get("output"))
    if event["event_type"] == "failed" and answered is not None and answered >= 500:
        event["event_type"] = "bounced"


PROVIDER = Postal(build)
