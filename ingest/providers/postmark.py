"""Postmark: one JSON object per request, verified by Basic authentication in the hook's URL.

Invariants:
1. The body is not signed: whoever knows user and password can post anything.
2. ``Type`` of a bounce decides its event type; several types are not bounces.
3. A subscription change after a bounce or complaint has the type of that event: a message is
   counted once for both.
4. ``Description`` is Postmark's fixed text for each ``Type``; only ``Details`` is what a server
   said. («The server was unable to deliver your message (ex: unknown user, mailbox not found)» is
   that of every hard bounce.)
5. A subscription change that stops sending without a reason is an unsubscribe: Postmark mails the
   address no more, and does not say that it bounced or complained.
6. Each message stream has a suppression list. An unsubscribe and an entry by hand concern their
   stream alone. Who stands behind a bounce or a complaint is the address.
7. A reactivation has no reason. It lifts the bounce, for the address, and what was done by hand or
   by the reader, for its stream: two events. Postmark does not reactivate after a complaint.

Sources: Postmark documentation, «Webhooks overview», «Bounce webhook», «Bounce API» (types),
«Subscription change webhook»; types as in the official Node client. Not verified: how often
tracking hooks are retried.
"""

from collections.abc import Mapping

from ingest import verify
from ingest.providers import credentials, fields, items, scopes
from ingest.providers.base import Certificates, Request, post_json
from ingest.providers.shapes import ItemProvider, native_name
from schemas.event import Event
from schemas.settings import Source

_BOUNCES: Mapping[str, tuple[str, str, str]] = {
    "HardBounce": ("bounced", "hard", "none"),
    "SoftBounce": ("bounced", "soft", "none"),
    "Transient": ("deferred", "soft", "none"),
    "DnsError": ("deferred", "soft", "dns"),
    "Blocked": ("bounced", "block", "reputation"),
    "SpamNotification": ("bounced", "block", "content"),
    "VirusNotification": ("bounced", "block", "content"),
    "DMARCPolicy": ("rejected", "block", "auth"),
    "BadEmailAddress": ("rejected", "none", "invalid_address"),
    "ManuallyDeactivated": ("rejected", "suppressed", "other"),
    "Unconfirmed": ("rejected", "none", "other"),
    "SMTPApiError": ("failed", "none", "other"),
    "TemplateRenderingFailed": ("failed", "none", "other"),
    "SpamComplaint": ("complained", "none", "none"),
    "Unsubscribe": ("unsubscribed", "none", "none"),
    "Subscribe": ("subscribed", "none", "none"),
    "AutoResponder": ("autoresponded", "none", "none"),
    "AddressChange": ("autoresponded", "none", "none"),
    "ChallengeVerification": ("autoresponded", "none", "none"),
    "OpenRelayTest": ("unknown", "none", "none"),
    "InboundError": ("unknown", "none", "none"),
    "Unknown": ("bounced", "undetermined", "none"),
}
"""``Type`` of a bounce -> event type, bounce class, bounce reason."""

_SUPPRESSIONS: Mapping[str, tuple[str, str]] = {
    "HardBounce": ("bounced", "hard"),
    "SpamComplaint": ("complained", "none"),
    "ManualSuppression": ("unsubscribed", "none"),
}

_REACTIVATED = "SubscriptionChange.Reactivated"
_BY_HAND = ("Customer", "Admin")
"""``Origin`` of a manual suppression that is no reader's unsubscribe."""

EVENTS: Mapping[str, str] = {
    "Delivery": "delivered",
    "Open": "opened",
    "Click": "clicked",
    "SpamComplaint": "complained",
    **{f"SubscriptionChange.{reason}": verdict[0] for reason, verdict in _SUPPRESSIONS.items()},
    **{f"SubscriptionChange.ManualSuppression.{by}": "suppression_added" for by in _BY_HAND},
    _REACTIVATED: "suppression_removed",
    "SubscriptionChange.Unexplained": "unsubscribed",
    **{f"Bounce.{kind}": verdict[0] for kind, verdict in _BOUNCES.items()},
}
_OF_A_STREAM = frozenset(
    (
        "SubscriptionChange.ManualSuppression",
        "SubscriptionChange.Unexplained",
        *(f"SubscriptionChange.ManualSuppression.{by}" for by in _BY_HAND),
    )
)
_TIMES = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")


class Postmark(ItemProvider):
    """See the module."""

    name = "postmark"
    title = "Postmark"
    required = ("username", "password")
    events = EVENTS
    id_recipe = "RecordType and ID; else MessageID, type, recipient, time, link, place of the click"
    verification = "Basic"
    signs = "nothing"
    bounces = "Type"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        users, passwords = source.secrets("username"), source.secrets("password")
        verify.check_basic(users, passwords, request.header("authorization"))

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        return credentials.again(request, source)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        body = {
            "RecordType": "Delivery",
            "MessageID": f"00000000-0000-4000-8000-{number:012d}",
            "Recipient": f"reader{number}@example.com",
            "DeliveredAt": fields.iso(now),
            "Details": "250 OK",
            "Tag": "sample",
            "MessageStream": "outbound",
            "Metadata": {},
        }
        return post_json(body, credentials.authorization(source))


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The events of a request: two for a reactivation."""
    record = native_name(item, "RecordType")
    native, bounce_class, bounce_reason = _native(item, record)
    recipient = item.get("Recipient") or item.get("Email")
    moment = next((item[key] for key in _TIMES if item.get(key)), None)
    own = item.get("ID")
    parts: tuple[object, ...] = (record, own)
    if not own:
        extra = (item.get("OriginalLink"), item.get("ClickLocation"), item.get("SuppressSending"))
        parts = (item.get("MessageID"), record, recipient, moment, *extra)
    tag = item.get("Tag")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=parts,
        native_id=bool(own),
        time=moment,
        message_id=item.get("MessageID"),
        recipient=recipient,
        tags=tag,
        metadata=item.get("Metadata"),
    )
    items.set_reply(
        event,
        diagnostic=item.get("Details"),
        bounce_class=bounce_class,
        bounce_reason=bounce_reason,
    )
    if record in ("Open", "Click"):
        place = fields.as_dict(item.get("Geo"))
        first = item.get("FirstOpen")
        items.set_client(
            event,
            user_agent=item.get("UserAgent"),
            ip=place.get("IP"),
            click_url=item.get("OriginalLink"),
            provider_first=first if isinstance(first, bool) else None,
            geo_country=place.get("CountryISOCode"),
        )
    stream = scopes.scopes("stream", item.get("MessageStream"))
    if native == _REACTIVATED:
        return _reactivated(event, stream)
    return scopes.by_scope(event, stream if native in _OF_A_STREAM else [])


def _reactivated(event: Event, stream: list[str]) -> list[Event]:
    """Invariant 7; the second event is for all mail if the stream is not named."""
    event["bounce_reason"] = "suppressed_bounce"
    left = scopes.another(event, "left")
    left["bounce_reason"] = "none" if stream else "suppressed_unsubscribe"
    return [event, *scopes.by_scope(left, stream)]


def _native(item: items.Item, record: str) -> tuple[str, str, str]:
    """Native name with its subtype, bounce class and bounce reason."""
    if record == "Bounce":
        kind = item.get("Type")
        if not isinstance(kind, str):
            return record, "undetermined", "none"
        _, bounce_class, reason = _BOUNCES.get(kind, ("", "none", "none"))
        return f"Bounce.{kind}", bounce_class, reason
    if record == "SubscriptionChange":
        if item.get("SuppressSending") is False:
            return _REACTIVATED, "none", "none"
        why, by = item.get("SuppressionReason"), item.get("Origin")
        if why == "ManualSuppression" and by in _BY_HAND:
            return f"SubscriptionChange.{why}.{by}", "none", "other"
        if isinstance(why, str) and why:
            return f"SubscriptionChange.{why}", _SUPPRESSIONS.get(why, ("", "none"))[1], "none"
        if item.get("SuppressSending") is True:
            return "SubscriptionChange.Unexplained", "none", "none"
    return record, "none", "none"


PROVIDER = Postmark(build)
