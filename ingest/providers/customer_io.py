"""Customer.io: reporting webhooks, one event per request, signed.

Invariants:
1. After a failed call Customer.io holds back all further ones, for up to 7 days. So a body that
   can't be read is kept and answered 200 (as for all providers), and overload is answered with 503,
   which is not among the codes that make it wait for an hour.
2. The signed time may be that of the first attempt: the tolerance covers all retries, and event ids
   are kept at least as long.
3. Only ``email`` events are normalised; push, SMS and in-app keep their names as ``unknown``.
4. A change of subscription preferences tells the state of each topic, in ``content`` as JSON text.

Sources: Customer.io documentation, «Reporting webhooks» (events, 4 s, retries) and «Securely verify
requests» (``v0:TIMESTAMP:BODY``). Not verified: whether retries get a new signature; that a bounce
never says whether it is hard; the flag ``prefetched`` in live payloads; the form of ``content``,
known from others' receivers of these webhooks.
"""

from collections.abc import Mapping

import orjson

from ingest import verify
from ingest.providers import fields, items, scopes, suppression
from ingest.providers.base import Certificates, Request, newest, post_json, with_headers
from ingest.providers.shapes import ItemProvider
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "x-cio-signature"
TIMESTAMP = "x-cio-timestamp"

EVENTS: Mapping[str, str] = {
    "email_attempted": "deferred",  # not accepted by the delivery provider yet; retried
    "email_sent": "sent",
    "email_delivered": "delivered",
    "email_deferred": "deferred",
    "email_bounced": "bounced",
    "email_dropped": "rejected",  # the address is on the delivery provider's suppression list
    "email_undeliverable": "rejected",
    "email_failed": "failed",
    "email_opened": "opened",
    "email_clicked": "clicked",
    "email_spammed": "complained",
    "email_unsubscribed": "unsubscribed",
    "customer_unsubscribed": "unsubscribed",
    "customer_subscribed": "subscribed",
    "customer_cio_subscription_preferences_changed.unsubscribed": "unsubscribed",
    "customer_cio_subscription_preferences_changed.subscribed": "subscribed",
}
_PREFERENCES = frozenset(
    (
        "customer_cio_subscription_preferences_changed",
        "customer_subscription_preferences_changed",
    )
)
"""The name in webhooks, and the one in Customer.io's lists of events."""

_CAMPAIGNS = (
    ("campaign_id", ""),
    ("broadcast_id", "broadcast:"),
    ("newsletter_id", "newsletter:"),
    ("transactional_message_id", "transactional:"),
)
"""Field of the message's origin -> prefix of its id: ids are unique within one field only."""

_OWN_KEYS = ("action_id", "content_id", "trigger_id", "link_id")
_KEPT = ("customer_id", *_OWN_KEYS)


class CustomerIo(ItemProvider):
    """See the module."""

    name = "customer_io"
    title = "Customer.io"
    required = ("secret",)
    tolerance_s = 8 * 86_400
    events = EVENTS
    campaign = "own: campaign_id, broadcast_id, newsletter_id, transactional_message_id"
    id_recipe = "event_id; else type, recipient, time, delivery, customer, href"
    verification = "HMAC-SHA256 over timestamp and raw body"
    other_calls = "push, sms, in_app, slack, other customer events: kept as unknown"
    bounces = "email_dropped: suppressed"
    machine = "prefetched"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        timestamp = request.header(TIMESTAMP)
        verify.check_timestamp(timestamp, now, self.tolerance(source))
        signed = _signed(verify.given(timestamp), request.body)
        verify.check_hmac_hex(source.secrets("secret"), signed, request.header(SIGNATURE))

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        signed = _signed(request.header(TIMESTAMP) or "", request.body)
        return with_headers(request, (SIGNATURE, verify.hmac_hex(newest(source, "secret"), signed)))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        event = {
            "event_id": f"01E4C4CT6YDC7Y5M7F{number:08d}",
            "object_type": "email",
            "metric": "delivered",
            "timestamp": int(now),
            "data": {
                "customer_id": f"{number}",
                "delivery_id": f"RPILAgUBcRhIBqSfeiI{number}",
                "recipient": f"reader{number}@example.com",
                "campaign_id": 9,
            },
        }
        body, timestamp = orjson.dumps(event), str(int(now))
        signature = verify.hmac_hex(newest(source, "secret"), _signed(timestamp, body))
        return post_json(body, (SIGNATURE, signature), (TIMESTAMP, timestamp))


def _signed(timestamp: str, body: bytes) -> bytes:
    return b"v0:" + timestamp.encode() + b":" + body


def build(item: items.Item, source: Source, received_at: int) -> list[Event]:
    """The events of a request: one, or one for each topic."""
    native = _native(item)
    data = fields.as_dict(item.get("data"))
    identifiers = fields.as_dict(data.get("identifiers"))
    recipient = next(
        (
            found
            for found in (
                data.get("recipient"),
                data.get("email_address"),
                identifiers.get("email"),
            )
            if isinstance(found, str) and found
        ),
        None,
    )
    own = fields.text(item.get("event_id"))
    moment = item.get("timestamp")
    parts = ("delivery_id", "customer_id", "href")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(own,) if own else (native, recipient, moment, *map(data.get, parts)),
        native_id=bool(own),
        time=moment,
        message_id=data.get("delivery_id"),
        recipient=recipient,
        metadata={name: data[name] for name in _KEPT if name in data},
        campaign_number=_campaign(data),
        own_keys=_OWN_KEYS,
    )
    if native in ("email_opened", "email_clicked"):
        items.set_client(
            event,
            user_agent=data.get("user_agent"),
            ip=data.get("ip"),
            click_url=data.get("href"),
            machine_kind="prefetch" if data.get("prefetched") is True else "none",
        )
    elif data.get("failure_message") or native == "email_dropped":
        said = fields.text(data.get("failure_message"))
        dropped = native == "email_dropped"
        items.set_reply(
            event,
            diagnostic=items.words_of(event, said),
            bounce_class="suppressed" if dropped else "none",
            bounce_reason=suppression.cause(said) if dropped else "none",
        )
    elif native in _PREFERENCES:
        return _preferences(event, data.get("content"))
    return [event]


def _preferences(event: Event, content: object) -> list[Event]:
    try:
        told = fields.as_dict(orjson.loads(content) if isinstance(content, str) else content)
    except ValueError:
        return [event]
    topics = fields.as_dict(told.get("topics"))
    choices = {
        wanted: scopes.scopes("topic", [name for name, is_in in topics.items() if is_in is wanted])
        for wanted in (False, True)
    }
    return scopes.by_choice(event, choices[False], choices[True])


def _native(item: items.Item) -> str:
    """``object_type`` and ``metric`` as one name; older calls have ``event_type``."""
    kind, metric = item.get("object_type"), item.get("metric")
    if isinstance(kind, str) and isinstance(metric, str) and kind and metric:
        return f"{kind}_{metric}"
    native = item.get("event_type") or metric
    if not isinstance(native, str) or not native:
        raise BadInput("no_event_type", "item has neither metric nor event_type")
    return native


def _campaign(data: items.Item) -> str | None:
    for name, prefix in _CAMPAIGNS:
        found = fields.identifier(data.get(name))
        if found and found != "0":
            return prefix + found
    return None


PROVIDER = CustomerIo(build)
