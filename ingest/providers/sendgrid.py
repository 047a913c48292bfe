"""Twilio SendGrid: Event Webhook, a JSON list of events signed with ECDSA.

Invariants:
1. The signature covers timestamp and raw body, its trailing ``\\r\\n`` included.
2. Parsing is optimised: a batch's usual events are read by ``sendgrid_columns``, all others by
   ``sendgrid_events``; both give the same result for the same event.

Sources: SendGrid documentation, «Event Webhook Reference» and «Security Features»; sendgrid-nodejs
issue 1193 (trailing line end). Not verified: whether retries get a new signature, so the default
tolerance covers the 24 hours of retries; that ``sg_event_id`` is the same on all of them.
"""

import orjson

from ingest import verify
from ingest.columns import Columns
from ingest.providers import fields, items
from ingest.providers.base import (
    Certificates,
    Parsed,
    Provider,
    Request,
    post_json,
    private_key,
    unreadable,
    with_headers,
)
from ingest.providers.sendgrid_columns import TOGETHER_MIN, ColumnReader, is_plain
from ingest.providers.sendgrid_events import EVENTS, build
from schemas.errors import BadInput
from schemas.settings import Source

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
NO_KEY = "is no key: SendGrid shows one line of base64 that begins with MF"


class SendGrid(Provider):
    """See the module."""

    name = "sendgrid"
    title = "Twilio SendGrid"
    required = ("public_key",)
    tolerance_s = 26 * 3600
    events = EVENTS
    campaign = "own: marketing_campaign_id, singlesend_id, mc_auto_id"
    id_recipe = "sg_event_id; else message, event, recipient, time, url, ip"
    verification = "ECDSA P-256 over timestamp and raw body"
    batch = "list"
    other_calls = "account_status_change: kept as unknown"
    bounces = "type, bounce_classification; reason of dropped"
    machine = "sg_machine_open"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        timestamp = request.header(TIMESTAMP)
        signature = verify.given(request.header(SIGNATURE))
        verify.check_timestamp(timestamp, now, self.tolerance(source))
        signed = verify.given(timestamp).encode() + request.body
        verify.check_ecdsa(source.public_key, signed, signature)

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        return self.parse_alike(request, source, received_at).one_by_one()

    def parse_alike(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse_alike``."""
        content = items.read_json(request.body)
        if not isinstance(content, list):
            raise BadInput("not_a_list", "SendGrid sends a list of events")
        identities = items.native_ids(self.name, source.account)
        believed = fields.believable_seconds(received_at)
        read: list[Columns] = []
        if len(content) >= TOGETHER_MIN and is_plain(request.body):
            read = ColumnReader(source, received_at, identities, believed).read_all(content)
        done = set().union(*[columns.positions for columns in read])
        parsed = items.parse_items(
            content, lambda item: build(item, source, received_at, identities, believed), done
        )
        parsed.alike.extend(read)
        return parsed

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        signed = (request.header(TIMESTAMP) or "").encode() + request.body
        made = verify.sign_ecdsa(private_key(signing_key), signed)
        return with_headers(request, (SIGNATURE, made))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``."""
        key = private_key(signing_key)
        message = f"sample{number:08d}.recvd-5f54b5d587-0001.0"
        item = {
            "email": f"reader{number}@example.com",
            "event": "delivered",
            "response": "250 2.0.0 OK",
            "category": ["sample"],
            "sg_event_id": f"sample-delivered-{number}",
            "sg_message_id": message,
            "smtp-id": f"<{message}@example.com>",
            "timestamp": int(now),
        }
        body = orjson.dumps([item]) + b"\r\n"
        timestamp = str(int(now))
        signature = verify.sign_ecdsa(key, timestamp.encode() + body)
        return post_json(body, (SIGNATURE, signature), (TIMESTAMP, timestamp))

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``."""
        keys = unreadable(source, "public_key", verify.load_public_key, NO_KEY)
        return super().check(source) + keys


PROVIDER = SendGrid()
