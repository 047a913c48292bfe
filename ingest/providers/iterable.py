"""Iterable: system webhooks, one event per request.

Invariants:
1. Nothing is signed: a fixed ``Authorization`` header, with or without the name of a scheme before
   the token, or Basic. The body is protected by TLS only.
2. A hosted unsubscribe click is a click on an unsubscribe link, which never counts as a click; the
   unsubscribe itself is an event of its own.
3. Iterable reports machines: ``proxySource`` names the proxy, ``isBot`` marks a robot.
4. Subscriptions are to channels, lists and message types, of all media; adding a user to a list is
   one. Only what the plural fields name was left or joined: ``channelId`` and ``messageTypeId`` are
   the message's.

Sources: Iterable documentation, «System webhooks» (authentication, body, events, delivery not
guaranteed) and «Subscribe and Unsubscribe Events»; Snowplow's schema of these webhooks (fields).
Not verified: retries and time-out; the values of ``recipientState`` other than ``HardBounce`` and
``SoftBounce``; spelling of the unsubscribe event (both are accepted).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain

from ingest import verify
from ingest.providers import credentials, fields, items, scopes
from ingest.providers.base import (
    Certificates,
    Request,
    given_values,
    newest,
    post_json,
    with_headers,
)
from ingest.providers.shapes import ItemProvider, native_name
from schemas.event import Event
from schemas.settings import Source

UNSUBSCRIBE_CLICK = "hostedUnsubscribeClick"
TOKEN_SCHEMES = ("basic", "bearer", "oauth2")

EVENTS: Mapping[str, str] = {
    "emailSend": "sent",
    "emailSendSkip": "rejected",
    "emailBounce": "bounced",
    "emailOpen": "opened",
    "emailClick": "clicked",
    UNSUBSCRIBE_CLICK: "clicked",
    "emailComplaint": "complained",
    "emailUnSubscribe": "unsubscribed",
    "emailUnsubscribe": "unsubscribed",
    "emailSubscribe": "subscribed",
}

_SCOPES = {"channelIds": "channel", "emailListIds": "list", "messageTypeIds": "message_type"}
"""Field of a subscription event -> kind of the scopes that it lists."""
_STATES = {"hardbounce": "hard", "softbounce": "soft", "mailblock": "block"}
_PROXIES = {"apple": "apple_mpp", "gmail": "gmail_proxy"}
_OWN_KEYS = ("templateId", "workflowId", "experimentId", "channelId", "messageTypeId")
_KEPT = (
    "campaignName", "templateId", "templateName", "workflowId", "workflowName", "experimentId",
    "channelId", "messageTypeId", "unsubSource",
)  # fmt: skip


class Iterable(ItemProvider):
    """See the module."""

    name = "iterable"
    title = "Iterable"
    required = ("token|username", "token|password")
    events = EVENTS
    campaign = "own: campaignId"
    id_recipe = "messageId, eventName, email, userId, createdAt, url, linkId, ip"
    verification = "fixed Authorization header, or Basic"
    signs = "nothing"
    other_calls = "push, SMS, in-app, web push, WhatsApp events: kept as unknown"
    bounces = "recipientState, status"
    machine = "proxySource, isBot"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        header = verify.given(request.header(credentials.AUTHORIZATION), "missing_credentials")
        scheme, space, rest = header.partition(" ")
        value = rest if space and scheme.lower() in TOKEN_SCHEMES else header
        tokens = [token for token in source.secrets("token") if token]
        if not verify.same_as_any(value, tokens):
            credentials.check_authorization(request, source)

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        if given_values(source, "token"):
            return with_headers(request, (credentials.AUTHORIZATION, newest(source, "token")))
        return credentials.again(request, source)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        address = f"reader{number}@example.com"
        event = {
            "email": address,
            "eventName": "emailSend",
            "dataFields": {
                "campaignId": 5023667,
                "campaignName": "Sample",
                "templateId": 6810007,
                "labels": [],
                "email": address,
                "createdAt": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S +00:00"),
                "messageId": f"5d7d33ba4c3f423e{number:016x}",
                "emailId": f"c5023667:t6810007:{address}",
            },
        }
        header = credentials.authorization(source)
        if source.secrets("token"):
            header = (credentials.AUTHORIZATION, newest(source, "token"))
        return post_json(event, header)


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The events of a request: one, or one for each channel, list and message type."""
    native = native_name(item, "eventName")
    data = fields.as_dict(item.get("dataFields"))
    recipient = item.get("email") or data.get("email")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(
            data.get("messageId"),
            native,
            recipient,
            item.get("userId"),  # some projects identify users by this only
            data.get("createdAt"),
            data.get("url"),
            data.get("linkId"),
            data.get("ip"),
        ),
        native_id=False,
        time=_moment(data.get("createdAt")),
        message_id=data.get("messageId"),
        recipient=recipient,
        tags=data.get("labels"),
        metadata={name: data[name] for name in _KEPT if name in data},
        campaign_number=data.get("campaignId"),
        own_keys=_OWN_KEYS,
    )
    if native in ("emailOpen", "emailClick", UNSUBSCRIBE_CLICK):
        items.set_client(
            event,
            user_agent=data.get("userAgent"),
            ip=data.get("ip"),
            click_url=data.get("url") or data.get("linkUrl"),
            unsubscribe_link=True if native == UNSUBSCRIBE_CLICK else None,
            machine_kind=_machine(data, native),
            geo_country=data.get("country"),
        )
    elif native in ("emailBounce", "emailSendSkip"):
        state = (fields.text(data.get("recipientState")) or "").lower()
        items.set_reply(
            event,
            diagnostic=data.get("bounceMessage") or items.words_of(event, data.get("reason")),
            enhanced_status=data.get("status"),
            bounce_class=_STATES.get(state, "none") if native == "emailBounce" else "none",
        )
    elif event["event_type"] in ("subscribed", "unsubscribed"):
        named = [scopes.scopes(kind, data.get(field)) for field, kind in _SCOPES.items()]
        return scopes.by_scope(event, chain.from_iterable(named))
    return [event]


def _moment(value: object) -> object:
    """``2022-09-12 07:49:10 +00:00`` without the second space, as in ISO 8601."""
    return value.replace(" +", "+").replace(" -", "-") if isinstance(value, str) else value


def _machine(data: items.Item, native: str) -> str:
    if data.get("isBot") is True:
        return "unknown" if native == "emailOpen" else "scanner"
    return _PROXIES.get((fields.text(data.get("proxySource")) or "").lower(), "none")


PROVIDER = Iterable(build)
