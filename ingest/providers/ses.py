"""Amazon SES: event publishing and notifications, by SNS, EventBridge or Firehose.

Invariants:
1. SNS is verified by its signature (``ingest.providers.sns``). EventBridge API destinations and
   Firehose have none: they send ``token`` in a header (``X-Amz-Firehose-Access-Key`` for Firehose,
   ``X-Api-Key`` or ``Authorization: Bearer`` for an API destination's connection). A request with
   one of these is verified by the token only. SNS's raw delivery must be off.
2. Deliveries, bounces, delays, rejects and complaints become one event per recipient. SES does not
   report who opened or clicked: with several destinations that is one event without a recipient.
3. The identity is message, event, recipient, time and feedback id or link, so that copies of an
   event by SNS, EventBridge and Firehose are one event. The SNS message id is not part of it:
   all recipients of one notification share it.
4. The user agent of a complaint is the feedback loop's, not the reader's, and is not used.

Sources: Amazon SES Developer Guide, «Contents of event data that Amazon SES publishes to Amazon
SNS» (also to EventBridge, to Firehose) and «Amazon SNS notification contents»; Amazon Data
Firehose, «HTTP endpoint delivery request and response specifications». Not verified: that an
event's time is the same at every destination.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ingest import verify
from ingest.providers import credentials, fields, items, sns
from ingest.providers.base import (
    Certificates,
    ConfirmSubscription,
    Parsed,
    Provider,
    Request,
    newest,
    post,
    post_json,
    private_key,
    unreadable,
    with_headers,
)
from ingest.providers.ses_events import EVENTS, build
from ingest.providers.shapes import read_object
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.settings import Source

FIREHOSE_KEY = "x-amz-firehose-access-key"
_VALIDATED = "Successfully validated SNS topic"
NO_ARN = "is no ARN of an SNS topic, such as arn:aws:sns:eu-west-1:123456789012:mail"


class Ses(Provider):
    """See the module."""

    name = "ses"
    title = "Amazon SES"
    required = ("topic_arns|token",)
    tolerance_s = 86_400
    events = EVENTS
    id_recipe = "message, event, recipient, time, feedback id or link"
    verification = "SNS: RSA over the envelope, topic allow-list; EventBridge, Firehose: token"
    signs = "fields"
    reads_body = True
    batch = "one per recipient; Firehose: list"
    other_calls = "subscription: confirmed; unsubscription, validation: logged"
    bounces = "bounceType, bounceSubType; delayType"

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``; topics must be named by their ARNs."""
        topics = unreadable(source, "topic_arns", sns.check_topic_arn, NO_ARN)
        return super().check(source) + topics

    def proof_in_body(self, request: Request) -> bool:
        """See ``Provider.proof_in_body``: not in a request with a token."""
        shown = any(name in (FIREHOSE_KEY, "x-api-key") for name, _ in request.headers)
        return not shown and not _bearer(request)

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        tokens = source.secrets("token")
        names = {name for name, _ in request.headers}
        if FIREHOSE_KEY in names:
            verify.check_token(tokens, request.header(FIREHOSE_KEY))
        elif "x-api-key" in names:
            verify.check_token(tokens, request.header("x-api-key"))
        elif _bearer(request):
            verify.check_bearer(tokens, request.header("authorization"))
        else:
            try:
                envelope = fields.as_dict(items.read_json(request.body))
            except BadInput:
                raise SignatureError("missing_signature") from None
            arns = source.topic_arns
            sns.check_envelope(envelope, arns, now, self.tolerance(source), certificates)

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        content = read_object(request.body)
        if "TopicArn" in content:
            read = _from_sns(content, source)
        elif "records" in content:
            read = _from_firehose(content, received_at)
        elif "detail" in content:
            read = _Read([content["detail"]], content.get("id"))
        else:
            read = _Read([content])
        if read.parsed is not None:
            return read.parsed
        parsed = items.parse_items(
            read.items, lambda item: build(item, source, received_at, read.batch_id)
        )
        return Parsed(parsed.events, parsed.rejects, note=read.note, answer=read.answer)

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        names = {name for name, _ in request.headers}
        for header in (FIREHOSE_KEY, "x-api-key"):
            if header in names:
                return with_headers(request, (header, newest(source, "token")))
        if _bearer(request):
            return credentials.again(request, source)
        key = private_key(signing_key)
        envelope = fields.as_dict(items.read_json(request.body))
        made = verify.sign_rsa(key, sns.signed_text(envelope), sns.algorithm_of(envelope))
        old = orjson.dumps(envelope.get("Signature", ""))
        return replace(request, body=request.body.replace(old, orjson.dumps(made)))

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``: by token if the source has no topic, else an SNS notification.

        The certificate's URL is ``sample_certificate_url``, which only a test can serve.
        """
        moment = fields.iso(now)
        message = {
            "eventType": "Delivery",
            "mail": {
                "timestamp": moment,
                "messageId": f"sample{number:054d}",
                "destination": [f"reader{number}@example.com"],
                "tags": {"campaign_id": ["sample"]},
            },
            "delivery": {
                "timestamp": moment,
                "recipients": [f"reader{number}@example.com"],
                "smtpResponse": "250 2.0.0 OK",
            },
        }
        if not source.topic_arns:
            body = {"source": "aws.ses", "id": f"sample-{number}", "detail": message}
            return post_json(body, ("x-api-key", newest(source, "token")))
        envelope = {
            "Type": "Notification",
            "MessageId": f"00000000-0000-4000-8000-{number:012d}",
            "TopicArn": newest(source, "topic_arns"),
            "Message": orjson.dumps(message).decode(),
            "Timestamp": moment,
            "SignatureVersion": "2",
            "SigningCertURL": sample_certificate_url(private_key(signing_key)),
        }
        signed = sns.signed_text(envelope)
        envelope["Signature"] = verify.sign_rsa(private_key(signing_key), signed, "sha256")
        return post(orjson.dumps(envelope), ("content-type", "text/plain; charset=UTF-8"))


def _bearer(request: Request) -> bool:
    """Whether there is a bearer token.

    Basic credentials in a subscription's URL are ignored, since SNS signs.
    """
    shown = (value for name, value in request.headers if name == "authorization")
    return any(value[:7].lower() == "bearer " for value in shown)


def sample_certificate_url(signing_key: str) -> str:
    """URL of a sample's certificate; a different one for each key, as at SNS."""
    digest = hashlib.sha256(signing_key.encode()).hexdigest()[:32]
    return f"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{digest}.pem"


@dataclass(frozen=True, slots=True)
class _Read:
    """The content of a body: items to build events from, or the result of another kind of call."""

    items: list[object]
    batch_id: object = None
    parsed: Parsed | None = None
    note: str = ""
    answer: bytes = b""


def _from_sns(envelope: Mapping[str, Any], source: Source) -> _Read:
    kind = envelope.get("Type")
    if kind == "UnsubscribeConfirmation":
        return _Read([], parsed=Parsed(note="unsubscribe_confirmation"))
    if kind == "SubscriptionConfirmation":
        url = sns.confirmation_url(envelope)
        if envelope.get("TopicArn") not in source.topic_arns:
            raise BadInput("unknown_topic", "subscription to a topic that is not configured")
        if url is None:
            raise BadInput("bad_subscribe_url", "SubscribeURL is not SNS's for this subscription")
        confirm = ConfirmSubscription(url)
        return _Read([], parsed=Parsed(confirm=confirm, note="subscription_confirmation"))
    message = envelope.get("Message")
    if not isinstance(message, str):
        raise BadInput("no_message", "envelope has no Message")
    if message.startswith(_VALIDATED):
        return _Read([], parsed=Parsed(note="validation"))
    content = items.read_json(message.encode("utf-8", "surrogatepass"))
    if isinstance(content, dict):
        if content.get("notificationType") == "AmazonSnsSubscriptionSucceeded":
            return _Read([], parsed=Parsed(note="validation"))
        if "detail" in content:  # an EventBridge rule whose target is the topic
            content = content["detail"]
    return _Read([content], envelope.get("MessageId"))


def _from_firehose(content: Mapping[str, Any], received_at: int) -> _Read:
    """The records of a delivery; those that are not base64 are kept unchanged, and rejected later.

    Firehose accepts an answer only if it repeats the request's id.
    """
    found: list[object] = []
    for record in fields.as_list(content.get("records")):
        data = record.get("data") if isinstance(record, dict) else None
        try:
            lines = base64.b64decode(data if isinstance(data, str) else "", validate=True)
        except (binascii.Error, ValueError):
            lines = b""
        if not lines.strip():
            found.append(data)
        found.extend(_json_or_text(line) for line in lines.splitlines() if line.strip())
    request_id = fields.text(content.get("requestId")) or ""
    answer = orjson.dumps({"requestId": request_id, "timestamp": received_at // 1000})
    return _Read(found, request_id or None, answer=answer)


def _json_or_text(line: bytes) -> object:
    try:
        return items.read_json(line)
    except BadInput:
        return line.decode("utf-8", "replace")


PROVIDER = Ses()
