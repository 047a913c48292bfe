"""Mailtrap: sending webhooks, ``{"events": […]}`` or JSON Lines, one event a line.

Invariants:
1. The format is a setting of the webhook, so the body is parsed as one JSON value first, then line
   by line; only a line that can't be read is rejected.
2. The event id may repeat for different events (as in the documentation's samples), so type,
   message and recipient are part of the identity.

Sources: Mailtrap documentation, «Webhooks» (formats, signature, events); payloads seen by others.
Not verified: that ``event_id`` is the same on a retry; retries, time-out and batch size; the list
of ``bounce_category`` values, so unknown ones are left to the codes and the server's words. The
documented values of ``reason`` are words (``unknown``, ``other``) or a sentence about the
suppression list; a word is a category, so no diagnostic.
"""

from collections.abc import Mapping

import orjson

from ingest import verify
from ingest.providers import fields, items, suppression
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Reject,
    Request,
    newest,
    post_json,
    with_headers,
)
from ingest.providers.shapes import native_name
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "mailtrap-signature"

EVENTS: Mapping[str, str] = {
    "delivery": "delivered",
    "soft bounce": "deferred",
    "bounce": "bounced",
    "suspension": "deferred",
    "reject": "rejected",
    "open": "opened",
    "click": "clicked",
    "spam": "complained",
    "unsubscribe": "unsubscribed",
}

_CATEGORIES: Mapping[str, tuple[str, str]] = {
    "badmailbox": ("hard", "no_mailbox"),
    "baddomain": ("hard", "invalid_address"),
    "inactivemailbox": ("hard", "inactive"),
    "spam": ("block", "content"),
    "spamrelated": ("block", "content"),
    "contentrelated": ("block", "content"),
    "virusrelated": ("block", "content"),
    "policyrelated": ("block", "policy"),
    "relayingissues": ("block", "relay_denied"),
    "quotaissues": ("soft", "mailbox_full"),
    "greylisting": ("soft", "other"),
    "noanswerfromhost": ("soft", "timeout"),
    "badconnection": ("soft", "timeout"),
    "routingerrors": ("soft", "dns"),
}
"""``bounce_category``, lower case and without separators -> class and reason."""


class Mailtrap(Provider):
    """See the module."""

    name = "mailtrap"
    title = "Mailtrap"
    required = ("signing_key",)
    events = EVENTS
    id_recipe = "event_id, event, message_id, email; else with timestamp, url, ip"
    verification = "HMAC-SHA256 over raw body"
    batch = "list, or JSON Lines"
    other_calls = "«Run Test»: sample events, kept like others"
    bounces = "event, bounce_category; reason of reject"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        signature = request.header(SIGNATURE)
        verify.check_hmac_hex(source.secrets("signing_key"), request.body, signature)

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content, unread = read_items(request.body)
        parsed = items.parse_items(content, lambda item: build(item, source, received_at))
        parsed.rejects.extend(unread)
        return parsed

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        made = verify.hmac_hex(newest(source, "signing_key"), request.body)
        return with_headers(request, (SIGNATURE, made))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "event": "delivery",
            "message_id": f"1df37d17-0286-4d8b-8edf-{number:012x}",
            "sending_stream": "transactional",
            "email": f"reader{number}@example.com",
            "timestamp": int(now),
            "event_id": f"bede7236-2284-43d6-a953-{number:012x}",
            "category": "sample",
        }
        body = orjson.dumps({"events": [event]})
        signature = verify.hmac_hex(newest(source, "signing_key"), body)
        return post_json(body, (SIGNATURE, signature))


def read_items(body: bytes) -> tuple[list[object], list[Reject]]:
    """The items of a body in either format, and a reject for each line that is not JSON.

    Raises:
        BadInput: ``empty_body``; ``not_json`` if no line can be read; ``no_events``.
    """
    try:
        content = items.read_json(body)
    except BadInput:
        return _lines(body)
    if isinstance(content, list):
        return content, []
    if isinstance(content, dict):
        if isinstance(content.get("events"), list):
            return content["events"], []
        if "event" in content:
            return [content], []  # JSON Lines of one line
    raise BadInput("no_events", "body has no list events")


def _lines(body: bytes) -> tuple[list[object], list[Reject]]:
    content: list[object] = []
    rejects: list[Reject] = []
    for line in body.splitlines():
        if not line.strip():
            continue
        try:
            content.append(items.read_json(line))
        except BadInput as error:
            rejects.append(Reject(error.reason, error.detail, line))
    if not content:
        raise BadInput("not_json" if body else "empty_body", "neither JSON nor JSON Lines")
    return content, rejects


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """One event of a request."""
    get = item.get
    native = native_name(item, "event")
    own = fields.text(get("event_id"))
    same = (get("message_id"), native, get("email"))
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(own, *same) if own else (*same, get("timestamp"), get("url"), get("ip")),
        native_id=bool(own),
        time=get("timestamp"),
        message_id=get("message_id"),
        recipient=get("email"),
        tags=get("category"),
        metadata=get("custom_variables"),
    )
    if event["event_type"] in ("opened", "clicked", "unsubscribed"):
        items.set_client(event, user_agent=get("user_agent"), ip=get("ip"), click_url=get("url"))
    else:
        _add_reply(event, item, native)
    return event


def _add_reply(event: Event, item: items.Item, native: str) -> None:
    said = fields.text(item.get("response")) or items.words_of(event, item.get("reason"))
    category = fields.text(item.get("bounce_category")) or ""
    plain = "".join(letter for letter in category.lower() if letter.isalnum())
    bounce_class, reason = _CATEGORIES.get(plain, ("none", "none"))
    if native == "bounce" and bounce_class in ("none", "soft"):
        bounce_class = "hard"  # Mailtrap reports it as final, not as a soft bounce
    elif native == "soft bounce":
        bounce_class = "soft"
    elif native == "reject":
        words = (said or "").lower()
        if "suppression" in words:
            why = words.partition("suppression")[2]
            bounce_class, reason = "suppressed", suppression.cause(why)
    elif native != "bounce":
        bounce_class = "none"
    items.set_reply(
        event,
        diagnostic=said,
        smtp_code=item.get("response_code"),
        bounce_class=bounce_class,
        bounce_reason=reason,
    )


PROVIDER = Mailtrap()
