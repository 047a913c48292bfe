"""Unisender Go (UniOne): grouped events, or one flat event in the «single event» mode.

Invariants:
1. The signature is inside the body: MD5 of the body with the value of ``auth`` replaced by the API
   key. It is found and replaced in the bytes, without parsing.
2. Whoever has seen a signed body can extend the MD5, but only after its padding, which is not
   UTF-8. So a body that is not UTF-8 is refused before it is hashed.
3. ``delivery_status`` is a category; only ``destination_response`` is what a server said.
4. ``retry_count`` and the ``ID`` header differ between attempts and are not part of an id.

Sources: Unisender Go and UniOne documentation, «Webhooks» and «Email statuses» (200 within 3 s,
every 10 minutes for 24 hours; at most 100 events; GET on set-up). The scheme was checked with a
real signed body that django-anymail publishes. Not verified: whether ``job_id`` is one per
recipient; time-out of the GET.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from ingest import verify
from ingest.providers import fields, items
from ingest.providers.base import Certificates, Request, newest, post_json
from ingest.providers.shapes import ItemProvider, member_list, read_object
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

AUTH_CANDIDATES_MAX = 4
"""Candidates for a body's ``auth``: metadata may contain the same name. Each costs an MD5."""

EVENTS: Mapping[str, str] = {
    "accepted": "queued",
    "sent": "sent",
    "delivered": "delivered",
    "soft_bounced": "deferred",
    "hard_bounced": "bounced",
    "opened": "opened",
    "clicked": "clicked",
    "spam": "complained",
    "unsubscribed": "unsubscribed",
    "subscribed": "subscribed",
}

_DELIVERY: Mapping[str, tuple[str, str]] = {
    "err_user_unknown": ("hard", "no_mailbox"),
    "err_user_inactive": ("hard", "inactive"),
    "err_mailbox_discarded": ("hard", "no_mailbox"),
    "err_dest_invalid": ("hard", "invalid_address"),
    "err_domain_inactive": ("hard", "dns"),
    "err_no_dns": ("hard", "dns"),
    "err_no_smtp": ("soft", "dns"),
    "err_mailbox_full": ("soft", "mailbox_full"),
    "err_too_large": ("soft", "too_large"),
    "err_destination_misconfigured": ("soft", "other"),
    "err_giveup": ("soft", "timeout"),
    "err_will_retry": ("soft", "none"),
    "err_resend": ("soft", "none"),
    "err_spam_rejected": ("block", "content"),
    "err_spam_skipped": ("block", "content"),
    "err_spam_removed": ("block", "content"),
    "err_blacklisted": ("block", "reputation"),
    "err_unsubscribed": ("suppressed", "suppressed_unsubscribe"),
    "err_unreachable": ("suppressed", "suppressed_bounce"),
    "err_skip_letter": ("suppressed", "suppressed_bounce"),
    "skip_dup_unreachable": ("suppressed", "suppressed_bounce"),
    "skip_dup_temp_unreachable": ("suppressed", "suppressed_bounce"),
    "skip_dup_mailbox_full": ("suppressed", "mailbox_full"),
    "err_delivery_failed": ("none", "none"),
    "err_lost": ("none", "other"),
    "err_internal": ("none", "other"),
}
"""``delivery_info.delivery_status`` -> class and reason."""

_AUTH = re.compile(rb'"auth"\s*:\s*"([0-9a-f]{32}|[0-9A-F]{32})"')


class UnisenderGo(ItemProvider):
    """See the module."""

    name = "unisender_go"
    title = "Unisender Go / UniOne"
    required = ("api_key",)
    events = EVENTS
    id_recipe = "job_id, status, email, event_time, url, ip"
    verification = "MD5 of raw body with API key, inside the body"
    reads_body = True
    batch = "list, or one flat"
    other_calls = "GET on set-up: 200; transactional_spam_block: kept as unknown"
    bounces = "delivery_info.delivery_status"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        try:
            request.body.decode()
        except UnicodeDecodeError:
            raise SignatureError("bad_encoding") from None  # invariant 2
        keys = [key.encode() for key in source.secrets("api_key") if key]
        good = False
        missing = True
        for start, end in _places(request.body):
            missing = False
            found = verify.small_letters(request.body[start:end].decode())
            made = [_digest(request.body, start, end, key) for key in keys]
            good |= verify.same_as_any(found, made)
        if missing:
            raise SignatureError("missing_signature")
        if not good:
            raise SignatureError(verify.BAD_SIGNATURE)

    def probe(self, request: Request, source: Source) -> int | None:
        """200 for the GET that Unisender Go sends when a webhook is set up."""
        return 200 if request.method in ("GET", "HEAD") else None

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        body, key = request.body, newest(source, "api_key").encode()
        start, end = next(_places(body), (0, 0))
        if not end:
            raise SignatureError("missing_signature")
        made = _digest(body, start, end, key).encode()
        return replace(request, body=body[:start] + made + body[end:])

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        key = newest(source, "api_key").encode()
        data = {
            "job_id": f"1sn15Z-{number:06d}-GtVN",
            "email": f"reader{number}@example.com",
            "status": "delivered",
            "metadata": {"campaign_id": "sample"},
            "event_time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        }
        event = {"event_name": "transactional_email_status", "event_data": data}
        blank = "0" * 32
        content = {"auth": blank, "events_by_user": [{"user_id": 456, "events": [event]}]}
        body = orjson.dumps(content)
        start = body.index(blank.encode())
        digest = _digest(body, start, start + 32, key).encode()
        signed = body[:start] + digest + body[start + 32 :]
        return post_json(signed)


def _places(body: bytes) -> Iterator[tuple[int, int]]:
    for position, found in enumerate(_AUTH.finditer(body)):
        if position == AUTH_CANDIDATES_MAX:
            return
        yield found.span(1)


def _digest(body: bytes, start: int, end: int, key: bytes) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # the provider's choice
    digest.update(body[:start])
    digest.update(key)
    digest.update(body[end:])
    return digest.hexdigest()


def read(body: bytes) -> Iterator[object]:
    """The events of all users, each flattened to the shape that «single event» has.

    Raises:
        BadInput: as ``read_object`` and ``member_list`` do.
    """
    content = read_object(body)
    if "events_by_user" not in content:
        yield content
        return
    for user in member_list(content, "events_by_user"):
        found = user.get("events") if isinstance(user, dict) else None
        for event in found if isinstance(found, list) else [user]:
            data = event.get("event_data") if isinstance(event, dict) else None
            if isinstance(event, dict) and isinstance(data, dict):
                yield {**data, "event_name": event.get("event_name")}
            else:
                yield event  # becomes a reject


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """One event of a request, flattened."""
    get = item.get
    name = get("event_name")
    status = get("status") if name in (None, "transactional_email_status") else None
    native = status or name
    if not isinstance(native, str) or native == "transactional_email_status":
        raise BadInput("no_event_type", "item has neither status nor event_name")
    details = fields.as_dict(get("delivery_info"))
    moment = get("event_time") or get("block_time")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown") if status else "unknown",
        native_type=native,
        id_parts=(
            get("job_id"),
            native,
            get("email") or get("domain"),
            moment,
            get("url"),
            details.get("ip"),
            get("domain_status"),
        ),
        native_id=False,
        time=moment,
        message_id=get("job_id"),
        recipient=get("email"),
        metadata=get("metadata"),
    )
    if native in ("opened", "clicked"):
        items.set_client(
            event,
            user_agent=details.get("user_agent"),
            ip=details.get("ip"),
            click_url=get("url") if native == "clicked" else None,
            geo_country=details.get("country_code"),
        )
    elif details or get("comment"):
        _add_reply(event, details, get("comment"))
    elif native == "hard_bounced":
        items.set_reply(event, bounce_class="hard")  # details are switched off
    return event


def _add_reply(event: Event, details: items.Item, comment: object) -> None:
    status = fields.text(details.get("delivery_status")) or ""
    bounce_class, reason = _DELIVERY.get(status, ("none", "none"))
    if event["event_type"] not in ("bounced", "deferred"):
        bounce_class = reason = "none"
    if event["event_type"] != "delivered":
        items.add_category(event, status)
    items.set_reply(
        event,
        diagnostic=details.get("destination_response") or comment,
        bounce_class=bounce_class,
        bounce_reason=reason,
    )


PROVIDER = UnisenderGo(build, read)
