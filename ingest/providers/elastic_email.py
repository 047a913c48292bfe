"""Elastic Email: notifications, one event per call: GET with a query, a form, or signed JSON.

Invariants:
1. All three forms use the same field names. A signed call is verified by ``secret``; an unsigned
   one by ``token`` in the URL (``?token=…``), by a bearer token, or by Basic. The signature covers
   the body, so a signed call needs one: a signature over an empty body would accept any query.
2. Elastic Email saves a webhook only after a test event was answered 2xx: a call without a status,
   or with the test's values, is answered 200 and gives no event.
3. Reverse proxies may log the query with the token: prefer the signature.
4. ``category`` is Elastic Email's word, never the receiving server's, so it is no diagnostic.

Sources: Elastic Email's published examples (parameters, statuses, test event, token in the URL)
and its API reference (message categories); the signed form is known from a third party's schema
only. Not verified: what exactly is signed (``TIMESTAMP.BODY`` is assumed, with the secret as text
or as decoded base64, written in hexadecimal or base64), so an unknown form is refused; that
``Sent`` means accepted by the receiving server, as assumed here; the time zone of
``date`` (UTC is assumed); the 1,000 failures after which it stops.
"""

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import urlencode

import orjson

from ingest import verify
from ingest.providers import credentials, fields, items
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    given_values,
    newest,
    post_json,
    with_headers,
    with_parameter,
)
from ingest.providers.shapes import native_name, read_object
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

SIGNATURE = "x-elasticemail-signature"
TIMESTAMP = "x-elasticemail-timestamp"
TOKEN = "token"

EVENTS: Mapping[str, str] = {
    "Sent": "delivered",
    "Error": "bounced",
    "Opened": "opened",
    "Clicked": "clicked",
    "AbuseReport": "complained",
    "Unsubscribed": "unsubscribed",
}

_CATEGORIES: Mapping[str, tuple[str, str]] = {
    "NoMailbox": ("hard", "no_mailbox"),
    "AccountProblem": ("soft", "mailbox_full"),
    "DNSProblem": ("soft", "dns"),
    "GreyListed": ("soft", "other"),
    "Throttled": ("soft", "policy"),
    "Timeout": ("soft", "timeout"),
    "ConnectionProblem": ("soft", "timeout"),
    "ConnectionTerminated": ("soft", "timeout"),
    "Spam": ("block", "content"),
    "BlackListed": ("block", "reputation"),
    "SPFProblem": ("block", "auth"),
    "WhitelistingProblem": ("block", "policy"),
    "NotDelivered": ("suppressed", "none"),
    "NotDeliveredCancelled": ("none", "other"),
    "ManualCancel": ("none", "other"),
    "CodeError": ("none", "other"),
}
"""``category`` of an error -> class and reason; others are classified by the codes."""

_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]")
_TEST = ("test@test.com", "abc1234")
"""Recipient and message of the event that Elastic Email sends when a webhook is saved."""
_US_TIMES = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S")


class ElasticEmail(Provider):
    """See the module."""

    name = "elastic_email"
    title = "Elastic Email"
    required = ("secret|token|username", "secret|token|password")
    methods: ClassVar[tuple[str, ...]] = ("POST", "GET")
    tolerance_s = 26 * 3600
    token_at = "query:token"
    events = EVENTS
    campaign = "sender's: channel"
    id_recipe = "transaction, messageid, status, to, date, target, ip"
    verification = "HMAC-SHA256 over timestamp and raw body; else token in URL, bearer or Basic"
    other_calls = "GET without status, test event: 200, no event"
    bounces = "category"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        if any(name == SIGNATURE for name, _ in request.headers):
            timestamp = request.header(TIMESTAMP)
            verify.check_timestamp(timestamp, now, self.tolerance(source))
            if not request.body:
                raise SignatureError("nothing_signed")
            _check_signature(request, source, verify.given(timestamp))
        elif any(name == credentials.AUTHORIZATION for name, _ in request.headers):
            credentials.check_authorization(request, source)
        else:
            given = items.read_form(request.query.encode("utf-8", "replace")).get(TOKEN, [])
            if len(given) != 1:
                raise SignatureError("missing_token")
            verify.check_token(source.secrets("token"), given[0])

    def probe(self, request: Request, source: Source) -> int | None:
        """200 for the empty call that is sent when a webhook is saved."""
        if request.method == "HEAD":
            return 200
        return 200 if request.method == "GET" and "status=" not in request.query else None

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        item = read_item(request)
        if (item.get("to"), item.get("messageid")) == _TEST:
            return Parsed(note="ping")
        return items.parse_items([item], lambda one: build(one, source, received_at))

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        if any(name == SIGNATURE for name, _ in request.headers):
            signed = _signed(request.header(TIMESTAMP) or "", request.body)
            made = verify.hmac_hex(newest(source, "secret"), signed)
            return with_headers(request, (SIGNATURE, f"v1={made}"))
        if any(name == credentials.AUTHORIZATION for name, _ in request.headers):
            return credentials.again(request, source)
        return with_parameter(request, TOKEN, newest(source, "token"))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``: signed where a secret is configured, else a GET with a token."""
        event = {
            "transaction": f"ea45d3a1-3b92-4b62-9d9c-{number:012x}",
            "messageid": f"sample{number}",
            "to": f"reader{number}@example.com",
            "status": "Sent",
            "date": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "category": "Unknown",
            "channel": "sample",
        }
        if given_values(source, "secret"):
            body, timestamp = orjson.dumps(event), str(int(now))
            made = verify.hmac_hex(newest(source, "secret"), _signed(timestamp, body))
            return post_json(body, (SIGNATURE, f"v1={made}"), (TIMESTAMP, timestamp))
        if given_values(source, "token"):
            query = urlencode({**event, TOKEN: newest(source, "token")})
            return Request("GET", query, (), b"", "127.0.0.1")
        return Request("GET", urlencode(event), (credentials.authorization(source),), b"", "")


def _signed(timestamp: str, body: bytes) -> bytes:
    return timestamp.encode() + b"." + body


def _check_signature(request: Request, source: Source, timestamp: str) -> None:
    """Checks the signature by each secret, in each possible form (see the module)."""
    signed = _signed(timestamp, request.body)
    accepted = []
    for secret in given_values(source, "secret"):
        keys = [secret.encode()]
        try:
            keys.append(verify.standard_key(secret))
        except (ValueError, binascii.Error):
            pass  # not base64: then the text is the only key
        for key in filter(None, keys):
            accepted.append("v1=" + verify.hmac_hex(key, signed))
            accepted.append("v1=" + verify.hmac_base64(key, signed))
    given = verify.given(request.header(SIGNATURE))
    prefix, encoded = given[:3], given[3:]
    spellings = [given, prefix + verify.small_letters(encoded)]
    if not any([verify.same_as_any(one, accepted) for one in spellings]):
        raise SignatureError(verify.BAD_SIGNATURE)


def read_item(request: Request) -> items.Item:
    """The event of a call, from JSON, a form, or, without a body, the query.

    Raises:
        BadInput: ``no_event``: none of them, or ``not_an_object``.
    """
    if _JSON.match(request.body):
        return read_object(request.body)
    raw = request.body or request.query.encode("utf-8", "replace")
    given = items.read_form(raw)
    item = {name: values[0] for name, values in given.items() if name != TOKEN}
    if "status" not in item:
        raise BadInput("no_event", "call has no status")
    return item


def build(item: items.Item, source: Source, received_at: int) -> Event:
    """The event of a call."""
    get = item.get
    native = native_name(item, "status")
    ip = get("ipaddress") or get("ip")
    event = items.make_event(
        source,
        received_at,
        event_type=EVENTS.get(native, "unknown"),
        native_type=native,
        id_parts=(
            get("transaction"),
            get("messageid"),
            native,
            get("to"),
            get("date"),
            get("target"),
            ip,
        ),
        native_id=False,
        time=moment(get("date")),
        message_id=get("messageid") or get("transaction"),
        recipient=get("to"),
        tags=get("channel"),
        metadata={"postback": get("postback")} if get("postback") else None,
        campaign_name=get("channel"),
    )
    if native in ("Opened", "Clicked", "Unsubscribed"):
        items.set_client(event, user_agent=get("useragent"), ip=ip, click_url=get("target"))
    elif native == "Error":
        category = fields.text(get("category")) or ""
        bounce_class, reason = _CATEGORIES.get(category, ("none", "none"))
        items.add_category(event, category)
        if category == "ManualCancel":  # by the sender, before it was sent
            event["event_type"] = "failed"
        items.set_reply(
            event, diagnostic=get("message"), bounce_class=bounce_class, bounce_reason=reason
        )
    return event


def moment(value: object) -> object:
    """A time in the American form as ISO 8601; anything else unchanged."""
    if isinstance(value, str):
        for form in _US_TIMES:
            try:
                return datetime.strptime(value, form).replace(tzinfo=UTC).isoformat()
            except ValueError:
                continue
    return value


PROVIDER = ElasticEmail()
