"""Mailjet: Event API, one bare event or, with grouping on, a JSON list of them.

Invariants:
1. Nothing is signed: Basic only. The body is protected by TLS only.
2. ``MessageID`` exceeds 2^53: it is read as an integer, never as a float, and kept as text.
3. A bounce for greylisting is a deferral: Mailjet tries again.
4. ``error`` is Mailjet's category; only ``comment`` is what a server said.
5. An unsubscribe is from the list ``mj_list_id``, or, without one, from all mail.

Sources: Mailjet documentation, «Event API» and its table of errors (200 only; retries, by the
English text, every 30 s for 24 hours). Not verified: time-out; whether ``mj_campaign_id`` and
``mj_list_id`` are 0 for everything transactional; that an old ungrouped hook (version 1) has no
other fields.
"""

from collections.abc import Mapping

from ingest.providers import credentials, fields, items, scopes
from ingest.providers.base import Request, post_json
from ingest.providers.shapes import native_name, one_or_many
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "sent": "delivered",  # the receiving server accepted it
    "open": "opened",
    "click": "clicked",
    "bounce": "bounced",
    "blocked": "rejected",
    "spam": "complained",
    "unsub": "unsubscribed",
}

_ERRORS: Mapping[str, tuple[str, str]] = {
    "user unknown": ("hard", "no_mailbox"),
    "mailbox inactive": ("hard", "inactive"),
    "quota exceeded": ("soft", "mailbox_full"),
    "blacklisted": ("suppressed", "suppressed_bounce"),
    "spam reporter": ("suppressed", "suppressed_complaint"),
    "invalid domain": ("hard", "invalid_address"),
    "no mail host": ("hard", "dns"),
    "relay/access denied": ("block", "relay_denied"),
    "greylisted": ("soft", "other"),
    "typofix": ("hard", "invalid_address"),
    "bad or empty template": ("none", "content"),
    "error in template language": ("none", "content"),
    "sender blocked": ("block", "reputation"),
    "content blocked": ("block", "content"),
    "policy issue": ("block", "policy"),
    "system issue": ("none", "other"),
    "protocol issue": ("none", "other"),
    "connection issue": ("none", "timeout"),
    "preblocked": ("suppressed", "suppressed_bounce"),
    "duplicate in campaign": ("none", "other"),
}
"""``error`` -> class and reason. ``hard_bounce`` overrides hard and soft, never block."""


class Mailjet(credentials.CredentialProvider):
    """See the module."""

    name = "mailjet"
    title = "Mailjet"
    required = credentials.BASIC
    events = EVENTS
    campaign = "sender's: customcampaign; own: mj_campaign_id"
    id_recipe = "MessageID, event, email, time, url, ip"
    verification = "Basic"
    batch = "one, or list"
    bounces = "hard_bounce, error, error_related_to"

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "event": "sent",
            "time": int(now),
            "MessageID": 19421777835146490 + number,
            "Message_GUID": f"1ab23cd4-e567-4901-a345-{number:012x}",
            "email": f"reader{number}@example.com",
            "mj_campaign_id": 7257,
            "customcampaign": "sample",
            "smtp_reply": "sent (250 2.0.0 OK)",
            "CustomID": "",
            "Payload": "",
        }
        return post_json([event], credentials.authorization(source))


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The event of an item, or one for each list that was left."""
    get = item.get
    native = native_name(item, "event")
    message_id = get("MessageID") or get("mj_message_id") or get("Message_GUID")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(message_id, native, get("email"), get("time"), get("url"), get("ip")),
        native_id=False,
        time=get("time"),
        message_id=message_id,
        recipient=get("email"),
        tags=get("customcampaign"),
        metadata=_metadata(item),
        campaign_name=get("customcampaign") or None,
        campaign_number=get("mj_campaign_id") or None,  # 0: no campaign
    )
    if native in ("open", "click", "unsub"):
        items.set_client(
            event,
            user_agent=get("agent"),
            ip=get("ip"),
            click_url=get("url"),
            geo_country=get("geo"),
        )
    elif native in ("bounce", "blocked"):
        _add_bounce(event, item)
    elif native in ("sent", "spam"):
        items.set_reply(event, diagnostic=get("smtp_reply") or get("source"))
    left = scopes.scopes("list", get("mj_list_id")) if native == "unsub" else []
    return scopes.by_scope(event, left)


def _metadata(item: items.Item) -> dict[str, object]:
    """``Payload`` when it is JSON, else under its own name; ``CustomID`` beside it."""
    payload, custom_id = item.get("Payload"), item.get("CustomID")
    metadata: dict[str, object] = dict(fields.metadata_map(payload))
    if payload and not metadata:
        metadata["Payload"] = payload
    if custom_id:
        metadata.setdefault("CustomID", custom_id)
    return metadata


def _add_bounce(event: Event, item: items.Item) -> None:
    # some live events have the error in error_related_to only
    named = [name for key in ("error", "error_related_to") if (name := fields.text(item.get(key)))]
    category = next((name for name in named if name.lower() in _ERRORS), named[0] if named else "")
    error = category.lower()
    items.add_category(event, category)
    bounce_class, reason = _ERRORS.get(error, ("none", "none"))
    permanent = item.get("hard_bounce")
    if isinstance(permanent, bool) and bounce_class not in ("block", "suppressed"):
        bounce_class = "hard" if permanent else "soft"
    if error == "greylisted" and permanent is not True:
        event["event_type"] = "deferred"
    items.set_reply(
        event,
        diagnostic=item.get("comment"),
        bounce_class=bounce_class,
        bounce_reason=reason,
    )


PROVIDER = Mailjet(build, one_or_many)
