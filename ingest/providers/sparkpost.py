"""SparkPost (Bird Email): event webhooks, a JSON list of ``{"msys": {CLASS: {…}}}``.

Invariants:
1. Nothing is signed: Basic, the bearer token of the OAuth 2.0 mode, or the older token header. The
   body is protected by TLS only.
2. The class of an event (``message_event``, ``track_event``, …) is not read: ``type`` is enough,
   and new classes may appear.
3. ``message_id`` is the transmission, since SparkPost's message id is unknown to the sender and
   missing from generation failures; together with the recipient it identifies one message.
4. What the suppression list holds back (class 25 too, which is otherwise a policy's) is
   ``suppressed``; the rule in brackets says why.
5. ``open`` and ``initial_open`` come from two images in one message: both are opens, so subscribe
   to one of them, or repeats are counted twice (unique opens are not).

Sources: Bird documentation, «Webhooks» (200 only, 8 hours of retries, ``event_id`` unique, test
batch ``[{"msys": {}}]``) and sample events; SparkPost bounce classification codes; SparkPost,
«Suppression lists» (the reply, with its source in brackets). Bird's newer
platform is another product and signs by Standard Webhooks. Not verified: the flags
``is_prefetched`` and ``is_proxy`` in live payloads; that nothing but 200 counts.
"""

import re
from collections.abc import Mapping

from ingest import verify
from ingest.providers import credentials, fields, items, suppression
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    newest,
    post_json,
    with_headers,
)
from ingest.providers.shapes import native_name
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

BATCH_ID = "x-messagesystems-batch-id"
OLD_TOKEN = "x-messagesystems-webhook-token"

EVENTS: Mapping[str, str] = {
    "injection": "queued",
    "delivery": "delivered",
    "delay": "deferred",
    "bounce": "bounced",
    "out_of_band": "bounced",
    "policy_rejection": "rejected",
    "generation_rejection": "rejected",
    "generation_failure": "failed",
    "open": "opened",
    "initial_open": "opened",
    "amp_open": "opened",
    "amp_initial_open": "opened",
    "click": "clicked",
    "amp_click": "clicked",
    "spam_complaint": "complained",
    "list_unsubscribe": "unsubscribed",
    "link_unsubscribe": "unsubscribed",
}

_BOUNCES: Mapping[str, tuple[str, str]] = {
    "10": ("hard", "no_mailbox"),
    "20": ("soft", "none"),
    "21": ("soft", "dns"),
    "22": ("soft", "mailbox_full"),
    "23": ("soft", "too_large"),
    "24": ("soft", "timeout"),
    "25": ("block", "policy"),
    "30": ("hard", "no_mailbox"),
    "40": ("soft", "none"),
    "50": ("block", "none"),
    "51": ("block", "reputation"),
    "52": ("block", "content"),
    "53": ("block", "content"),
    "54": ("block", "relay_denied"),
    "70": ("soft", "none"),
}
"""``bounce_class`` -> class and reason; 1 (undetermined) is classified by the codes."""

_NOT_BOUNCES: Mapping[str, str] = {
    "60": "autoresponded",
    "80": "subscribed",
    "90": "unsubscribed",
    "100": "autoresponded",
}
"""``bounce_class`` of replies that are not bounces: auto-reply, requests, challenge."""


_SUPPRESSED = re.compile(r"suppressed due to (?:customer|system) policy(?: \(([^)]*))?")


class SparkPost(Provider):
    """See the module."""

    name = "sparkpost"
    title = "SparkPost / Bird"
    required = credentials.BASIC_OR_TOKEN
    events = EVENTS
    campaign = "sender's: campaign_id"
    id_recipe = "event_id; else transmission, message, type, recipient, time, url, ip"
    verification = "Basic, bearer token, or token header"
    signs = "nothing"
    batch = "list"
    other_calls = 'test batch [{"msys": {}}]: 200, no event'
    bounces = "bounce_class; reason of suppressed"
    machine = "user_agent_parsed.is_prefetched, is_proxy (Gmail)"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        if any(name == OLD_TOKEN for name, _ in request.headers):
            verify.check_token(source.secrets("token"), request.header(OLD_TOKEN))
        else:
            credentials.check_authorization(request, source)

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = items.read_json(request.body)
        if not isinstance(content, list):
            raise BadInput("not_a_list", "SparkPost sends a list of events")
        batch_id = request.header(BATCH_ID)
        real = [item for item in content if not _is_ping(item)]
        parsed = items.parse_items(
            real, lambda item: build(_unwrapped(item), source, received_at, batch_id)
        )
        if len(real) == len(content):
            return parsed
        return Parsed(parsed.events, parsed.rejects, note="ping")

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        if any(name == OLD_TOKEN for name, _ in request.headers):
            return with_headers(request, (OLD_TOKEN, newest(source, "token")))
        return credentials.again(request, source)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "type": "delivery",
            "event_id": f"{92356927693813856 + number}",
            "campaign_id": "sample",
            "raw_rcpt_to": f"reader{number}@example.com",
            "rcpt_to": f"reader{number}@example.com",
            "message_id": f"000443ee{number:012x}",
            "transmission_id": f"{65832150921904138 + number}",
            "timestamp": str(int(now)),
        }
        return post_json([{"msys": {"message_event": event}}], credentials.authorization(source))


def _is_ping(item: object) -> bool:
    return isinstance(item, dict) and item.get("msys") == {}


def _unwrapped(item: items.Item) -> items.Item:
    """The event inside its wrapping.

    Raises:
        BadInput: ``not_wrapped``: no ``msys`` with exactly one class.
    """
    classes = fields.as_dict(item.get("msys"))
    if len(classes) != 1:
        raise BadInput("not_wrapped", "item has no msys with one event class")
    name, inner = next(iter(classes.items()))
    if not isinstance(inner, dict):
        raise BadInput("not_wrapped", "event class holds no object")
    # inbound mail (relay webhooks) has no type, only a class
    return inner if "type" in inner else {**inner, "type": name}


def build(item: items.Item, source: Source, received_at: int, batch_id: str | None) -> Event:
    """One event of a request; ``item`` without its wrapping."""
    get = item.get
    native = native_name(item, "type")
    recipient = get("raw_rcpt_to") or get("rcpt_to")
    own = fields.text(get("event_id"))
    parts = (get("transmission_id"), get("message_id"), native, recipient, get("timestamp"))
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(own,) if own else (*parts, get("target_link_url"), get("ip_address")),
        native_id=bool(own),
        time=get("timestamp"),
        message_id=get("transmission_id") or get("message_id"),
        recipient=recipient,
        tags=get("rcpt_tags"),
        metadata=get("rcpt_meta"),
        campaign_name=get("campaign_id"),
        batch_id=batch_id,
    )
    if event["event_type"] in ("opened", "clicked"):
        items.set_client(
            event,
            user_agent=get("user_agent"),
            ip=get("ip_address"),
            click_url=get("target_link_url"),
            machine_kind=_machine(item, fields.as_dict(get("user_agent_parsed"))),
            geo_country=fields.as_dict(get("geo_ip")).get("country"),
        )
    else:
        _add_reply(event, item)
    return event


def _machine(item: Mapping[str, object], agent: Mapping[str, object]) -> str:
    """A prefetch has no reader; a proxy hides who reads, and Gmail's fetches when somebody does.

    The flags are accepted in the event and in ``user_agent_parsed``.
    """
    if agent.get("is_prefetched") is True or item.get("is_prefetched") is True:
        return "prefetch"
    proxied = agent.get("is_proxy") is True or item.get("is_proxy") is True
    if proxied and agent.get("agent_family") == "Gmail":
        return "gmail_proxy"
    return "none"


def _add_reply(event: Event, item: items.Item) -> None:
    said = item.get("raw_reason") or item.get("reason")
    flag = fields.text(item.get("bounce_class")) or ""
    if said is None and not flag and "error_code" not in item:
        return
    bounce_class, reason = _BOUNCES.get(flag, ("none", "none"))
    if event["event_type"] == "bounced":
        event["event_type"] = _NOT_BOUNCES.get(flag, "bounced")
    if event["event_type"] != "bounced":
        bounce_class = "none"
    if event["event_type"] in ("bounced", "rejected"):
        bounce_class, reason = _held_back(fields.text(said)) or (bounce_class, reason)
    items.set_reply(
        event,
        diagnostic=said,
        smtp_code=item.get("error_code"),
        bounce_class=bounce_class,
        bounce_reason=reason,
    )


def _held_back(said: str | None) -> tuple[str, str] | None:
    """Class and reason if the address is on SparkPost's suppression list, else ``None``."""
    found = _SUPPRESSED.search((said or "").lower())
    return None if found is None else ("suppressed", suppression.cause(found[1]))


PROVIDER = SparkPost()
