"""Brevo: transactional and marketing webhooks, one event or a batch.

Invariants:
1. Overload is answered with 429: by Brevo's documentation other 4xx, and in its present wording 5xx
   too, discard the event.
2. Nothing is signed: Basic or bearer token. Put Brevo's published addresses into ``allow_ips``.
3. ``id`` is the webhook's, not the event's; ``ts`` and ``date`` are in the account's time zone, so
   they are not used as times (``ts`` is part of the identity).
4. ``sending_ip`` is the reader's address in opens and clicks, Brevo's in all other events.
5. An open is reported twice if two of its kinds are subscribed: subscribe to one plain and one
   proxy kind, or repeats are counted twice (unique opens are not).
6. Marketing events have no message id: campaign and ``ts_sent`` make it. Their link is ``URL``, in
   transactional ones it is ``link``.

Sources: Brevo documentation, «Transactional webhooks», «Marketing webhooks» and «Getting started»
(retries, ``batched``: at most 500 events); payloads seen by others. Not verified: the shape of a
batch (a list is assumed); which of ``opened`` and ``unique_opened`` is the first open, since
Brevo's reference and others' reports contradict each other, so ``provider_first`` stays empty
for these two; ``ts_epoch`` is documented as milliseconds, its sample shows seconds: both are read.
"""

from collections.abc import Mapping

import orjson

from ingest.providers import credentials, fields, items, suppression
from ingest.providers.base import Request, post_json
from ingest.providers.shapes import native_name, one_or_many
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {
    "request": "queued",  # may still be followed by "blocked"
    "sent": "sent",
    "delivered": "delivered",
    "deferred": "deferred",
    "hard_bounce": "bounced",
    "soft_bounce": "bounced",
    "invalid_email": "bounced",
    "blocked": "rejected",
    "error": "failed",
    "opened": "opened",
    "unique_opened": "opened",
    "proxy_open": "opened",
    "unique_proxy_open": "opened",
    "click": "clicked",
    "spam": "complained",
    "complaint": "complained",
    "unsubscribed": "unsubscribed",
    "unsubscribe": "unsubscribed",
}

_BOUNCES: Mapping[str, tuple[str, str]] = {
    "hard_bounce": ("hard", "none"),
    "soft_bounce": ("soft", "none"),
    "invalid_email": ("hard", "invalid_address"),
}
_BLOCKLIST = ("blacklist", "blocklist")
"""Words in the reason of ``blocked`` for the list of addresses that bounced, complained or left."""

_CLIENT_EVENTS = frozenset(("opened", "clicked", "unsubscribed"))


class Brevo(credentials.CredentialProvider):
    """See the module."""

    name = "brevo"
    title = "Brevo"
    required = credentials.BASIC_OR_TOKEN
    overload_status = 429
    events = EVENTS
    campaign = "own: camp_id"
    id_recipe = "message-id, event, email, ts_epoch, ts_event, ts, link or URL, camp_id"
    verification = "Basic, or bearer token"
    batch = "one, or list"
    bounces = "event; reason of blocked"
    machine = "proxy_open, unique_proxy_open"

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "id": 814119,
            "event": "delivered",
            "email": f"reader{number}@example.com",
            "message-id": f"<202611241200.{number:011d}@smtp-relay.example.com>",
            "subject": "Sample",
            "tags": ["sample"],
            "ts_event": int(now),
            "ts_epoch": int(now * 1000),
        }
        return post_json(event, credentials.authorization(source))


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """One event of a request."""
    get = item.get
    native = native_name(item, "event")
    message_id = get("message-id")
    parts = ("message-id", "event", "email", "ts_epoch", "ts_event", "ts")
    link = get("link") or get("URL")
    moment = get("ts_epoch")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(*map(get, parts), link, get("camp_id")),
        native_id=False,
        time=moment if fields.microseconds(moment) else get("ts_event"),
        message_id=message_id,
        rfc_message_id=message_id,
        sent_time=get("ts_sent"),
        recipient=get("email"),
        tags=_tags(item),
        metadata=_metadata(item),
        campaign_number=get("camp_id"),
    )
    if event["event_type"] in _CLIENT_EVENTS:
        items.set_client(
            event,
            user_agent=get("user_agent"),
            ip=get("ip") or (None if event["event_type"] == "unsubscribed" else get("sending_ip")),
            click_url=link,
            # a privacy proxy loaded the image, read or not: in effect Apple's
            machine_kind="apple_mpp" if native.endswith("proxy_open") else "none",
            provider_first=True if native == "unique_proxy_open" else None,
        )
    else:
        _add_reply(event, item, native)
    return event


def _tags(item: items.Item) -> object:
    """``tags``; else ``tag``, which may be JSON text of a list."""
    tags = item.get("tags")
    if isinstance(tags, list) and tags:
        return tags
    tag = item.get("tag")
    if isinstance(tag, str) and tag.startswith("["):
        try:
            return orjson.loads(tag)
        except ValueError:
            return tag
    return tag


def _metadata(item: items.Item) -> object:
    """``X-Mailin-custom`` when it is JSON, else under its own name; the campaign's name."""
    custom = item.get("X-Mailin-custom")
    metadata: dict[str, object] = dict(fields.metadata_map(custom))
    if custom and not metadata:
        metadata["X-Mailin-custom"] = custom
    if item.get("campaign name"):
        metadata.setdefault("campaign name", item["campaign name"])
    return metadata


def _add_reply(event: Event, item: items.Item, native: str) -> None:
    said = fields.text(item.get("reason"))
    bounce_class, reason = _BOUNCES.get(native, ("none", "none"))
    if native == "blocked" and said:
        listed = any(word in said.lower() for word in _BLOCKLIST)
        reason = suppression.cause(said, "other" if listed else "none")
        bounce_class = "none" if reason == "none" else "suppressed"
    if said is None and bounce_class == "none":
        return
    if said == "sent" and native in ("request", "delivered"):
        return  # the field's default, not a server's reply
    items.set_reply(
        event,
        diagnostic=items.words_of(event, said),
        bounce_class=bounce_class,
        bounce_reason=reason,
    )


PROVIDER = Brevo(build, one_or_many)
