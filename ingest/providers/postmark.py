"""Postmark: one JSON object per request, verified by Basic authentication in the hook's URL.

Invariants:
1. The body is not signed: whoever knows user and password can post anything.
2. ``Type`` of a bounce decides its event type; several types are not bounces.
3. A subscription change after a bounce or complaint has the type of that event: a message is
   counted once for both.

Sources: Postmark documentation, «Webhooks overview», «Bounce webhook», «Bounce API» (types); types
as in the official Node client. Not verified: how often tracking hooks are retried.
"""

from collections.abc import Mapping

from ingest import verify
from ingest.providers import fields, items
from ingest.providers.base import Certificates, Request, newest, post_json
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

EVENTS: Mapping[str, str] = {
    "Delivery": "delivered",
    "Open": "opened",
    "Click": "clicked",
    "SpamComplaint": "complained",
    **{f"SubscriptionChange.{reason}": verdict[0] for reason, verdict in _SUPPRESSIONS.items()},
    "SubscriptionChange.Reactivated": "subscribed",
    **{f"Bounce.{kind}": verdict[0] for kind, verdict in _BOUNCES.items()},
}
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
        credentials = verify.basic_header(newest(source, "username"), newest(source, "password"))
        return post_json(body, ("authorization", credentials))


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """The event of a request."""
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
        diagnostic=item.get("Details") or item.get("Description"),
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
    return event


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
            return "SubscriptionChange.Reactivated", "none", "none"
        why = item.get("SuppressionReason")
        if isinstance(why, str):
            return f"SubscriptionChange.{why}", _SUPPRESSIONS.get(why, ("", "none"))[1], "none"
    return record, "none", "none"


PROVIDER = Postmark(build)
