"""Klaviyo: system webhooks, up to 1,000 events per request, signed.

Invariants:
1. The signature covers raw body and timestamp, the timestamp exactly as in its header. The webhook
   id in the header is not signed, so it has to equal the one inside the signed body.
2. Klaviyo identifies a message (``$message``) but not its copies: the message id is made of it, the
   time it was sent (``$_cohort$message_send_cohort``, in all events of a copy) and the profile. So
   two readers never share one, nor do two runs of a flow for one reader.
3. ``Email Domain`` is the recipient's domain where there is no address, so that mailbox providers
   are told apart; it is never taken for an address.
4. Event properties are metadata, since they contain most of what a sender wants to group by.

Sources: Klaviyo documentation, «Working with system webhooks» (headers, body, topics, 5 s, backoff
up to an hour, disabled after 48 hours). The time's form (``Thu, 04 Jan 2024 18:05:25 GMT``) is that
of its samples; seconds are accepted too. Not verified: whether retries get a new signature; that
they repeat ``external_id``; that every event has the send cohort; which spelling of the machine
flags (``Apple Privacy Open``, ``Machine Open``, ``Bot Click``) and of the recipient's property live
payloads have.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import orjson

from ingest import verify
from ingest.providers import addresses, fields, items
from ingest.providers.base import Certificates, Request, newest, post_json, with_headers
from ingest.providers.shapes import ItemProvider, member_list, native_name, read_object
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "klaviyo-signature"
TIMESTAMP = "klaviyo-timestamp"
WEBHOOK_ID = "klaviyo-webhook-id"
TOPIC = "event:klaviyo."
SEND_COHORT = "$_cohort$message_send_cohort"
"""Property with the time of sending (seconds since 1970) and ``$message``, a colon between."""

EVENTS: Mapping[str, str] = {
    TOPIC + "received_email": "delivered",
    TOPIC + "dropped_email": "rejected",
    TOPIC + "bounced_email": "bounced",
    TOPIC + "opened_email": "opened",
    TOPIC + "clicked_email": "clicked",
    TOPIC + "marked_email_as_spam": "complained",
    TOPIC + "unsubscribed_from_email_marketing": "unsubscribed",
    TOPIC + "subscribed_to_email_marketing": "subscribed",
}

_BOUNCES = {"hard": "hard", "hardbounce": "hard", "soft": "soft", "softbounce": "soft"}
_ADDRESS_PROPERTIES = ("Recipient Email Address", "$email", "email")
_APPLE_PROPERTY = "Apple Privacy Open"
_MACHINE_PROPERTIES = ("machine_open", "Machine Open")
"""Every Apple Privacy Open is a machine open too, not the reverse."""


class Klaviyo(ItemProvider):
    """See the module."""

    name = "klaviyo"
    title = "Klaviyo"
    required = ("secret",)
    tolerance_s = 3 * 86_400
    events = EVENTS
    campaign = "own: $flow, $message"
    id_recipe = "external_id or event id; else topic, message, profile, time, URL"
    verification = "HMAC-SHA256 over raw body and timestamp"
    batch = "list"
    other_calls = "sms, push, review topics: kept as unknown"
    bounces = "Bounce Type"
    machine = "Apple Privacy Open, Machine Open, Bot Click"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        timestamp = verify.given(request.header(TIMESTAMP), "missing_timestamp")
        verify.given(request.header(WEBHOOK_ID), "missing_id")
        verify.check_timestamp(_seconds(timestamp), now, self.tolerance(source))
        signed = request.body + timestamp.encode("utf-8", "surrogatepass")
        verify.check_hmac_hex(source.secrets("secret"), signed, request.header(SIGNATURE))

    def verify_content(self, request: Request, source: Source) -> None:
        """See ``Provider.verify_content``: invariant 1."""
        webhook_id = request.header(WEBHOOK_ID) or ""
        if not verify.same_as_any(webhook_id, [_webhook_id(request.body)]):
            raise SignatureError("wrong_webhook_id")

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        signed = request.body + (request.header(TIMESTAMP) or "").encode()
        made = verify.hmac_hex(newest(source, "secret"), signed)
        return with_headers(request, (SIGNATURE, made), (WEBHOOK_ID, _webhook_id(request.body)))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        moment = datetime.fromtimestamp(int(now), UTC)
        event = {
            "external_id": f"sample{number}",
            "topic": TOPIC + "received_email",
            "payload": {
                "data": {
                    "type": "event",
                    "id": f"sample{number}",
                    "attributes": {
                        "timestamp": int(now),
                        "datetime": moment.isoformat(sep=" "),
                        "event_properties": {
                            "$message": "01HKBSAMPLE",
                            "Campaign Name": "sample",
                            "Recipient Email Address": f"reader{number}@example.com",
                        },
                    },
                    "relationships": {
                        "profile": {"data": {"type": "profile", "id": f"01GD{number}"}}
                    },
                }
            },
        }
        webhook_id = "a8b890458b4bbfaa26d961471b83c101"
        body = orjson.dumps({"data": [event], "meta": {"klaviyo_webhook_id": webhook_id}})
        timestamp = format_datetime(moment, usegmt=True)
        signature = verify.hmac_hex(newest(source, "secret"), body + timestamp.encode())
        return post_json(
            body, (SIGNATURE, signature), (TIMESTAMP, timestamp), (WEBHOOK_ID, webhook_id)
        )


def _seconds(timestamp: str) -> str:
    """The header's time as seconds since 1970, for ``verify.check_timestamp``."""
    if timestamp.isascii() and timestamp.isdigit():
        return timestamp
    try:
        moment = parsedate_to_datetime(timestamp)
        if moment.tzinfo is None:
            raise SignatureError("bad_timestamp")
        return str(int(moment.timestamp()))
    except (ValueError, OverflowError):  # a year or a zone out of a date's range
        raise SignatureError("bad_timestamp") from None


def _webhook_id(body: bytes) -> str:
    """The webhook id inside the body, whose signature has been checked."""
    try:
        meta = fields.as_dict(fields.as_dict(items.read_json(body)).get("meta"))
    except BadInput:
        return ""
    return fields.text(meta.get("klaviyo_webhook_id")) or ""


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """One event of a request."""
    native = native_name(item, "topic")
    payload = fields.as_dict(item.get("payload"))
    data = fields.as_dict(payload.get("data")) or payload
    attributes = fields.as_dict(data.get("attributes"))
    properties = fields.as_dict(attributes.get("event_properties"))
    profile = fields.as_dict(
        fields.as_dict(fields.as_dict(data.get("relationships")).get("profile")).get("data")
    )
    message_id = _message_id(properties, profile)
    moment = attributes.get("datetime") or attributes.get("timestamp")
    own = fields.text(item.get("external_id") or data.get("id"))
    parts = (native, message_id, profile.get("id"), moment, properties.get("URL"))
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(own,) if own else parts,
        native_id=bool(own),
        time=moment,
        message_id=message_id,
        recipient=_recipient(payload, properties),
        metadata=properties,
        campaign_number=properties.get("$flow") or properties.get("$message"),
        own_keys=[name for name in properties if name.startswith("$")],
    )
    if event["recipient"] is None:
        event["recipient_domain"] = addresses.domain(properties.get("Email Domain"))
    if event["event_type"] in ("opened", "clicked"):
        items.set_client(
            event,
            click_url=properties.get("URL"),
            machine_kind=_machine(properties),
        )
    elif event["event_type"] in ("bounced", "rejected"):
        kind = (fields.text(properties.get("Bounce Type")) or "").lower().replace(" ", "")
        items.set_reply(
            event,
            diagnostic=items.words_of(
                event, properties.get("Bounce Reason") or properties.get("Reason")
            ),
            bounce_class=_BOUNCES.get(kind, "none"),
        )
    return event


def _message_id(properties: items.Item, profile: items.Item) -> str | None:
    message = fields.identifier(properties.get("$message"))
    reader = fields.identifier(profile.get("id"))
    if not message or not reader:
        return message
    cohort = fields.text(properties.get(SEND_COHORT)) or ""
    sent, colon, of_message = cohort.partition(":")
    when = f"/{sent}" if colon and of_message == message else ""
    return f"{message}{when}:{reader}"


def _recipient(payload: items.Item, properties: items.Item) -> object:
    """The event's property, else the address of an included profile."""
    for name in _ADDRESS_PROPERTIES:
        if isinstance(properties.get(name), str):
            return properties[name]
    for other in fields.as_list(payload.get("included")):
        address = fields.as_dict(fields.as_dict(other).get("attributes")).get("email")
        if isinstance(address, str):
            return address
    return None


def _machine(properties: items.Item) -> str:
    if _yes(properties.get(_APPLE_PROPERTY)):
        return "apple_mpp"
    if any(_yes(properties.get(name)) for name in _MACHINE_PROPERTIES):
        # most of them are Apple's, unless Klaviyo says that it is not
        return "apple_mpp" if properties.get(_APPLE_PROPERTY) is None else "unknown"
    return "scanner" if _yes(properties.get("Bot Click")) else "none"


def _yes(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


PROVIDER = Klaviyo(build, lambda body: member_list(read_object(body), "data"))
