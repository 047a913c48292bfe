"""Mailgun: one JSON object per request, with its signature inside the body.

Invariants:
1. The signature covers a timestamp and a token, *not* the event: whoever has seen one request can
   send other events with its signature while the timestamp is accepted. TLS, ``allow_ips`` and a
   small ``tolerance_s`` protect against that. Repeats are deduplicated by event id; tokens are not
   stored, since a retry may repeat one.
2. ``event-data.id`` is unique within a day only, so the event's date is part of the identity.
3. A rejected message names its recipients only in its ``To`` header. If these are several, the
   event has none.
4. The tags of an unsubscribe are what the reader left, ``*`` all mail of the domain. ``*`` is no
   tag of the message, and names no campaign.
5. A message that Mailgun did not try to deliver (``suppress-…``) is ``rejected`` and
   ``suppressed``.

Sources: Mailgun documentation, «Webhooks», «Webhook Payloads» and «Securing Webhooks»;
django-anymail (``delivery-status`` may be null; rejected events name no recipient). A subaccount's
``parent-signature`` is accepted where the parent's key is configured. Not verified: whether retries
get a new timestamp, so the default tolerance covers their eight hours; the complete list of
reasons; the values of ``client-info.bot``; that the tags of an unsubscribe are never just those of
the message. A re-subscription is not reported. The form-encoded webhooks from before 2018 are
refused.
"""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from ingest import verify
from ingest.providers import fields, items, scopes
from ingest.providers.base import Certificates, Parsed, Provider, Request, newest, post_json
from ingest.providers.shapes import native_name
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "accepted": "queued",
    "delivered": "delivered",
    "failed.temporary": "deferred",
    "failed.permanent": "bounced",
    "rejected": "rejected",
    "opened": "opened",
    "clicked": "clicked",
    "complained": "complained",
    "unsubscribed": "unsubscribed",
}
_PERMANENT = {
    "bounce": ("hard", "none"),
    "delayed-bounce": ("hard", "none"),
    "hardfail": ("hard", "none"),
    "espblock": ("block", "reputation"),
    "old": ("soft", "timeout"),
    "suppress-bounce": ("suppressed", "suppressed_bounce"),
    "suppress-complaint": ("suppressed", "suppressed_complaint"),
    "suppress-unsubscribe": ("suppressed", "suppressed_unsubscribe"),
}
"""Reason of a permanent failure -> bounce class and reason; others are classified by codes."""
_BOTS = {"apple": "apple_mpp", "gmail": "prefetch", "generic": "scanner"}
"""Mailgun names no other: one that it adds later is some machine."""
_GMAIL_PROXY = "GoogleImageProxy"


class Mailgun(Provider):
    """See the module."""

    name = "mailgun"
    title = "Mailgun"
    required = ("signing_key",)
    tolerance_s = 9 * 3600
    events = EVENTS
    campaign = "sender's: campaigns"
    id_recipe = "event-data.id and date of the event; else message, event, recipient, time, url, ip"
    verification = "HMAC-SHA256 over timestamp and token"
    signs = "token only"
    reads_body = True
    bounces = "severity, reason"
    machine = "client-info.bot"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        try:
            content = fields.as_dict(items.read_json(request.body))
        except BadInput:
            raise SignatureError("missing_signature") from None
        secrets = source.secrets("signing_key")
        try:
            self._check(content.get("signature"), secrets, now, self.tolerance(source))
        except SignatureError:
            if "parent-signature" not in content:
                raise
            self._check(content["parent-signature"], secrets, now, self.tolerance(source))

    @staticmethod
    def _check(block: object, secrets: tuple[str, ...], now: float, tolerance_s: int) -> None:
        given = fields.as_dict(block)
        timestamp, token, signature = (
            value if isinstance(value, str) else None
            for value in (given.get("timestamp"), given.get("token"), given.get("signature"))
        )
        signed = f"{verify.given(timestamp)}{verify.given(token)}"
        verify.check_timestamp(timestamp, now, tolerance_s)
        verify.check_hmac_hex(secrets, signed.encode("utf-8", "surrogatepass"), signature)

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = items.read_json(request.body)
        item = content.get("event-data") if isinstance(content, dict) else None
        if not isinstance(item, dict):
            raise BadInput("no_event_data", "Mailgun sends an object with event-data")
        return items.parse_items([item], lambda one: build(one, source, received_at))

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        content, body = fields.as_dict(items.read_json(request.body)), request.body
        for name in ("signature", "parent-signature"):
            block = fields.as_dict(content.get(name))
            signed = f"{block.get('timestamp')}{block.get('token')}"
            made = verify.hmac_hex(newest(source, "signing_key"), signed.encode())
            if block.get("signature"):
                body = body.replace(orjson.dumps(block["signature"]), orjson.dumps(made))
        return replace(request, body=body)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        timestamp, token = str(int(now)), f"{number:050d}"
        signature = verify.hmac_hex(newest(source, "signing_key"), f"{timestamp}{token}".encode())
        body = {
            "signature": {"timestamp": timestamp, "token": token, "signature": signature},
            "event-data": {
                "event": "delivered",
                "id": f"sample{number:016d}",
                "timestamp": now,
                "recipient": f"reader{number}@example.com",
                "tags": ["sample"],
                "user-variables": {},
                "message": {"headers": {"message-id": f"sample.{number}@example.com"}},
                "delivery-status": {"code": 250, "message": "OK", "description": ""},
            },
        }
        return post_json(body)


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The events of a request: one, or one for each tag that was left."""
    native = native_name(item, "event")
    severity, reason = fields.text(item.get("severity")), fields.text(item.get("reason"))
    full = f"{native}.{severity}" if native == "failed" and severity else native
    bounce_class, bounce_reason = _verdict(full, reason or "")
    headers = fields.as_dict(fields.as_dict(item.get("message")).get("headers"))
    moment = fields.microseconds(item.get("timestamp"))
    tags = fields.as_list(item.get("tags"))
    own = item.get("id")
    parts: tuple[object, ...] = (own, fields.utc_date(moment))
    if not own:
        keys = ("event", "severity", "recipient", "timestamp", "url", "ip")
        parts = (headers.get("message-id"), *(item.get(key) for key in keys))
    event = items.make_event(
        source,
        received_at,
        event_type="rejected" if bounce_class == "suppressed" else EVENTS.get(full, "unknown"),
        native_type=f"{full}.{reason}" if native == "failed" and reason else full,
        id_parts=parts,
        native_id=bool(own),
        time=moment,
        message_id=headers.get("message-id"),
        rfc_message_id=headers.get("message-id"),
        recipient=item.get("recipient") or headers.get("to"),
        tags=tags if native != "unsubscribed" else [tag for tag in tags if tag != "*"],
        metadata=item.get("user-variables"),
        campaign_name=_campaign(item),
    )
    _add_details(event, item, bounce_class, bounce_reason)
    left = tags if native == "unsubscribed" and "*" not in tags else []
    return scopes.by_scope(event, scopes.scopes("tag", left))


def _campaign(item: items.Item) -> object:
    """The id of the first of Mailgun's (old) campaigns; the sender chose it."""
    return next(
        (c.get("id") for c in fields.as_list(item.get("campaigns")) if isinstance(c, dict)), None
    )


def _verdict(full: str, reason: str) -> tuple[str, str]:
    """Bounce class and reason by severity and reason."""
    if full == "failed.permanent":
        return _PERMANENT.get(reason, ("none", "none"))
    if full == "failed.temporary":
        return "soft", "policy" if reason == "greylisted" else "none"
    return "none", "none"


def _add_details(event: Event, item: items.Item, bounce_class: str, bounce_reason: str) -> None:
    status = fields.as_dict(item.get("delivery-status"))
    rejected = fields.as_dict(item.get("reject"))
    said = status.get("message") or status.get("description") or rejected.get("reason")
    items.set_reply(
        event,
        diagnostic=said,
        smtp_code=status.get("code"),
        enhanced_status=status.get("enhanced-code"),
        bounce_class=bounce_class,
        bounce_reason=bounce_reason,
    )
    if event["event_type"] in ("opened", "clicked", "unsubscribed", "complained"):
        client = fields.as_dict(item.get("client-info"))
        bot = client.get("bot")
        items.set_client(
            event,
            user_agent=client.get("user-agent"),
            ip=item.get("ip"),
            click_url=item.get("url"),
            machine_kind=_machine(bot, fields.text(client.get("user-agent")) or ""),
            geo_country=fields.as_dict(item.get("geolocation")).get("country"),
        )


def _machine(bot: object, user_agent: str) -> str:
    """Mailgun's word. Gmail's image proxy is no prefetch: it fetches when somebody looks."""
    if not isinstance(bot, str) or not bot:
        return "none"
    if bot == "gmail" and _GMAIL_PROXY in user_agent:
        return "gmail_proxy"
    return _BOTS.get(bot, "unknown")


PROVIDER = Mailgun()
