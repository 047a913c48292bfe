"""Mailchimp Transactional (Mandrill): a form whose field ``mandrill_events`` is a JSON list.

Invariants:
1. The signature covers the URL as configured at Mandrill, which a proxy may hide from us:
   ``public_url`` is required, and headers are not used.
2. While a hook is set up, Mandrill sends ``HEAD``, then an empty list signed with the key
   ``test-webhook``: that key is accepted for an empty list only.
3. There is no event id: the identity is message, event, recipient, time, link and address.
4. Bounce description and reject reason are Mandrill's categories; only ``diag`` is what a server
   said.
5. An entry of the denylist may be limited to a subaccount or a sender: that is its scope. Entries
   for soft bounces stay ``unknown``: they end by themselves, and soft bounces are judged here; so
   do entries that have ended. Entries of the safelist stay so too: what they take off the denylist
   is reported by itself.

Sources: Mailchimp Transactional documentation, «Webhooks overview», «Authenticating webhook
requests», «Webhook format», «Sync events»; mandrill-rails issue 20 and django-anymail issue 46
(URL, HEAD). Not verified: retry schedule; the complete lists of bounce descriptions and reject
reasons; whether live sync events say ``blacklist``, as the samples, or ``denylist``, as the text
(both are read).
"""

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import orjson

from ingest import verify
from ingest.providers import fields, items, scopes, suppression
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    newest,
    post,
    unreadable,
    with_headers,
)
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import ID_CHARS_MAX, Event
from schemas.settings import Source

SIGNATURE = "x-mandrill-signature"
SETUP_KEY = "test-webhook"
"""Key of the set-up call, which Mandrill has published."""

_DENYLISTS = ("blacklist", "denylist")
EVENTS: Mapping[str, str] = {
    "send": "sent",
    "deferral": "deferred",
    "delivered": "delivered",
    "hard_bounce": "bounced",
    "soft_bounce": "bounced",
    "reject": "rejected",
    "open": "opened",
    "click": "clicked",
    "spam": "complained",
    "unsub": "unsubscribed",
    **{f"sync.{name}.add": "suppression_added" for name in _DENYLISTS},
    **{f"sync.{name}.change": "suppression_added" for name in _DENYLISTS},
    **{f"sync.{name}.remove": "suppression_removed" for name in _DENYLISTS},
}
_BOUNCE_CLASS = {"hard_bounce": "hard", "soft_bounce": "soft", "deferral": "soft"}
_BOUNCE_REASON = {
    "bad_mailbox": "no_mailbox",
    "invalid_domain": "dns",
    "mailbox_full": "mailbox_full",
    "inactive": "inactive",
    "spam": "content",
    "blocked": "reputation",
    "message_too_large": "too_large",
}
_REJECTED = {
    "hard-bounce": ("suppressed", "suppressed_bounce"),
    "soft-bounce": ("suppressed", "suppressed_bounce"),
    "spam": ("suppressed", "suppressed_complaint"),
    "unsub": ("suppressed", "suppressed_unsubscribe"),
    "custom": ("suppressed", "other"),
    "invalid": ("none", "invalid_address"),
    "invalid-sender": ("none", "policy"),
    "rule": ("none", "policy"),
    "unsigned": ("none", "auth"),
}


def _check_url(text: str) -> None:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError


class Mandrill(Provider):
    """See the module."""

    name = "mandrill"
    title = "Mailchimp Transactional (Mandrill)"
    required = ("signing_key", "public_url")
    events = EVENTS
    id_recipe = "message, event, recipient, time, url, ip"
    verification = "HMAC-SHA1 over the configured URL and the sorted form"
    signs = "fields"
    reads_body = True
    batch = "list, up to 1,000"
    other_calls = "HEAD and empty list: 200; sync.whitelist: kept as unknown"
    bounces = "event name, msg.bounce_description; reject reason"

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``; the URL that is signed must be one."""
        wrong = unreadable(source, "public_url", _check_url, "is no URL with https:// or http://")
        return super().check(source) + wrong

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        if not source.public_url:
            raise SignatureError("not_configured")
        signature = verify.given(request.header(SIGNATURE))
        signed, events = signed_text(source.public_url, request.body)
        secrets = source.secrets("signing_key")
        if events == "[]":
            secrets = (*secrets, SETUP_KEY)
        verify.check_hmac_base64(secrets, signed, signature, "sha1")

    def by_anyone(self, request: Request) -> bool:
        """See ``Provider.by_anyone``: an empty list, whatever its key (invariant 2)."""
        return items.read_form(request.body).get("mandrill_events", [""])[0] == "[]"

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        events = items.read_form(request.body).get("mandrill_events")
        if not events:
            raise BadInput("no_mandrill_events", "form has no mandrill_events")
        content = items.read_json(events[0].encode("utf-8", "surrogatepass"))
        if not isinstance(content, list):
            raise BadInput("not_a_list", "mandrill_events is not a list")
        if not content:
            return Parsed(note="ping")
        return items.parse_items(content, lambda item: build(item, source, received_at))

    def probe(self, request: Request, source: Source) -> int | None:
        """200 for the HEAD (and GET) by which Mandrill checks the URL."""
        return 200 if request.method in ("HEAD", "GET") else None

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        signed, _ = signed_text(newest(source, "public_url"), request.body)
        made = verify.hmac_base64(newest(source, "signing_key"), signed, "sha1")
        return with_headers(request, (SIGNATURE, made))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        message = f"sample{number:026d}"
        item = {
            "event": "send",
            "_id": message,
            "ts": int(now),
            "msg": {
                "_id": message,
                "ts": int(now),
                "email": f"reader{number}@example.com",
                "sender": "sample@example.com",
                "state": "sent",
                "tags": ["sample"],
                "metadata": {},
                "opens": [],
                "clicks": [],
            },
        }
        body = urlencode({"mandrill_events": orjson.dumps([item]).decode()}).encode()
        signed, _ = signed_text(newest(source, "public_url"), body)
        signature = verify.hmac_base64(newest(source, "signing_key"), signed, "sha1")
        return post(
            body, ("content-type", "application/x-www-form-urlencoded"), (SIGNATURE, signature)
        )


def signed_text(url: str, body: bytes) -> tuple[bytes, str]:
    """The bytes that Mandrill signs, and the text of ``mandrill_events``.

    Raises:
        SignatureError: the body is not a form, or repeats a field (it is unknown which is signed).
    """
    try:
        form = items.read_form(body)
    except BadInput:
        raise SignatureError("not_a_form") from None
    if any(len(values) > 1 for values in form.values()):
        raise SignatureError("field_twice")
    pairs = "".join(f"{name}{values[0]}" for name, values in sorted(form.items()))
    events = form.get("mandrill_events", [""])[0]
    return (url + pairs).encode("utf-8", "surrogatepass"), events


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The event of an item."""
    native, change = item.get("event"), item.get("type")
    if not isinstance(native, str) or not native:
        if not isinstance(change, str):
            raise BadInput("no_event_type", "item has no event")
        native = f"sync.{change}.{fields.id_part(item.get('action'))}"
    message = fields.as_dict(item.get("msg"))
    entry = fields.as_dict(item.get("reject") or item.get("entry"))
    recipient = message.get("email") or entry.get("email")
    message_id = item.get("_id") or message.get("_id")
    moment = item.get("ts")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(
            message_id,
            native,
            recipient,
            moment,
            item.get("url"),
            item.get("ip"),
            *([entry["reason"]] if "reason" in entry and native.startswith("sync.") else ()),
        ),
        native_id=False,
        time=moment,
        message_id=message_id,
        recipient=recipient,
        tags=message.get("tags"),
        metadata=message.get("metadata"),
    )
    _add_reply(event, native, message)
    if native in ("open", "click"):
        items.set_client(
            event,
            user_agent=item.get("user_agent"),
            ip=item.get("ip"),
            click_url=item.get("url"),
            geo_country=fields.as_dict(item.get("location")).get("country_short"),
        )
    elif event["event_type"] in ("suppression_added", "suppression_removed"):
        return _listed(event, entry)
    return [event]


def _listed(event: Event, entry: items.Item) -> list[Event]:
    """A change of the denylist (invariant 5)."""
    why = fields.text(entry.get("reason"))
    items.add_category(event, why)
    if why == "soft-bounce" or entry.get("expired") is True:
        event["event_type"] = "unknown"
        return [event]
    event["bounce_reason"] = suppression.cause(why)
    sender = entry.get("sender")
    limits = {
        "subaccount": entry.get("subaccount"),
        "sender": sender.get("address") if isinstance(sender, dict) else sender,
    }
    found = [one for kind, value in limits.items() if (one := scopes.scope(kind, value))]
    return scopes.by_scope(event, [",".join(found)[:ID_CHARS_MAX]] if found else [])


def _add_reply(event: Event, native: str, message: dict[str, object]) -> None:
    bounce_class, bounce_reason = _BOUNCE_CLASS.get(native, "none"), "none"
    said = message.get("diag")
    if native in ("hard_bounce", "soft_bounce"):
        description = message.get("bounce_description")
        if isinstance(description, str):
            bounce_reason = _BOUNCE_REASON.get(description, "none")
            items.add_category(event, description)
    elif native == "reject":
        told = message.get("reject")
        why = told.get("reason") if isinstance(told, dict) else told or message.get("reject_reason")
        if isinstance(why, str):
            bounce_class, bounce_reason = _REJECTED.get(why, ("none", "other"))
            items.add_category(event, why)
    elif said is None:
        attempts = [
            one for one in fields.as_list(message.get("smtp_events")) if isinstance(one, dict)
        ]
        said = attempts[-1].get("diag") if attempts else None
    items.set_reply(event, diagnostic=said, bounce_class=bounce_class, bounce_reason=bounce_reason)


PROVIDER = Mandrill()
