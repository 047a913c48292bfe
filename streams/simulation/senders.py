"""How the simulated providers format and sign their webhooks.

Invariants:
1. Pure. Written from the providers' documentation without code of ``ingest``, so that the demo
   reveals mistakes there instead of repeating them.
2. Field names, units and signatures are the provider's.
3. A forged request is a valid one signed with a wrong key.

Sources: SendGrid, «Event Webhook Reference» and «Security Features» (ECDSA over timestamp and raw
body); Postmark, «Webhooks overview» (HTTP Basic, one event per request); SparkPost, «Webhooks»
(list of ``{"msys": …}``, HTTP Basic); Resend, «Webhooks» and Svix, «Verifying payloads»;
``ingest/README.md`` for the generic source.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from streams.simulation.simulator import APPLE_MPP, Happening

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """Headers and body of a request."""

    headers: dict[str, str]
    body: bytes


class Sender(Protocol):
    """One simulated provider account."""

    source: str
    """It posts to ``/hooks/{source}``."""
    batch_max: int
    """Most events in a request."""

    def items(self, events: Sequence[Happening]) -> bytes:
        """The events as this provider's request body."""

    def sign(self, body: bytes, now: float, *, forged: bool = False) -> Wire:
        """``body`` with the headers that authenticate it; with wrong ones if ``forged``."""


def _signed(body: bytes, **headers: str) -> Wire:
    """A JSON request; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Wire({"content-type": "application/json", **named}, body)


def iso(at_s: int) -> str:
    """A time as ISO 8601 in UTC, with the seven digits that .NET writes."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")


class SendGridSender:
    """A list of events, signed with ECDSA; custom arguments lie flat in each event."""

    batch_max = 200
    _NAMES: ClassVar[Mapping[str, str]] = {
        "queued": "processed", "delivered": "delivered", "deferred": "deferred",
        "bounced": "bounce", "rejected": "dropped", "opened": "open", "clicked": "click",
        "complained": "spamreport", "unsubscribed": "unsubscribe",
    }  # fmt: skip
    _BOUNCES: ClassVar[Mapping[str, Item]] = {
        "hard": {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 No such user",
                 "bounce_classification": "Invalid Address"},
        "soft": {"status": "4.2.2", "reason": "452 4.2.2 The mailbox is over its quota"},
        "block": {"type": "blocked", "status": "5.7.1", "reason": "550 5.7.1 Message refused",
                  "bounce_classification": "Reputation"},
    }  # fmt: skip

    def __init__(
        self, source: str, key: ec.EllipticCurvePrivateKey, wrong: ec.EllipticCurvePrivateKey
    ) -> None:
        self.source = source
        self._key = key
        self._wrong = wrong

    def items(self, events: Sequence[Happening]) -> bytes:
        """See ``Sender.items``; the body ends with a line end, which SendGrid signs too."""
        return orjson.dumps([self._item(event) for event in events]) + b"\r\n"

    def _item(self, event: Happening) -> Item:
        item: Item = {
            "email": event.recipient,
            "event": self._NAMES[event.kind],
            "timestamp": event.at_s,
            "sg_event_id": event.native_id,
            "sg_message_id": event.message_id,
        }
        if event.told:
            item["campaign_id"] = event.campaign
        if event.kind == "bounced":
            item |= self._BOUNCES[event.bounce]
        elif event.kind == "rejected":
            item["reason"] = "Bounced Address"
        elif event.kind == "deferred":
            item |= {"response": "451 4.3.2 Please try again later", "attempt": "1"}
        elif event.kind == "delivered":
            item["response"] = "250 2.0.0 OK"
        elif event.kind in ("opened", "clicked"):
            item |= {"useragent": event.user_agent, "ip": event.ip}
            if event.kind == "opened":
                item["sg_machine_open"] = event.user_agent == APPLE_MPP
            else:
                item["url"] = event.url
        return item

    def sign(self, body: bytes, now: float, *, forged: bool = False) -> Wire:
        """See ``Sender.sign``."""
        timestamp = str(int(now))
        key = self._wrong if forged else self._key
        signature = key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return _signed(
            body,
            x_twilio_email_event_webhook_signature=base64.b64encode(signature).decode(),
            x_twilio_email_event_webhook_timestamp=timestamp,
        )


class _BasicSender:
    """Signs by HTTP Basic."""

    def __init__(self, source: str, username: str, password: str) -> None:
        self.source = source
        self._username = username
        self._password = password

    def sign(self, body: bytes, now: float, *, forged: bool = False) -> Wire:
        """See ``Sender.sign``."""
        credential = f"{self._username}:{'guessed' if forged else self._password}"
        token = base64.b64encode(credential.encode()).decode()
        return _signed(body, authorization=f"Basic {token}")


class PostmarkSender(_BasicSender):
    """One event per request, HTTP Basic, .NET times."""

    batch_max = 1
    _BOUNCES: ClassVar[Mapping[str, tuple[str, int, str]]] = {
        "hard": ("HardBounce", 1, "smtp;550 5.1.1 The email account does not exist"),
        "soft": ("SoftBounce", 4096, "smtp;452 4.2.2 Mailbox full"),
        "block": ("Blocked", 100006, "smtp;550 5.7.1 Blocked by policy"),
    }
    _TIME_FIELDS: ClassVar[Mapping[str, str]] = {
        "delivered": "DeliveredAt", "opened": "ReceivedAt", "clicked": "ReceivedAt",
        "bounced": "BouncedAt", "complained": "BouncedAt", "unsubscribed": "ChangedAt",
    }  # fmt: skip
    _RECORDS: ClassVar[Mapping[str, str]] = {
        "delivered": "Delivery", "opened": "Open", "clicked": "Click", "bounced": "Bounce",
        "complained": "SpamComplaint", "unsubscribed": "SubscriptionChange",
    }  # fmt: skip

    def items(self, events: Sequence[Happening]) -> bytes:
        """See ``Sender.items``."""
        (event,) = events
        bounced = event.kind in ("bounced", "complained")
        item: Item = {
            "RecordType": self._RECORDS[event.kind],
            "MessageID": event.message_id,
            "ServerID": 23,
            "MessageStream": "outbound",
            "Tag": event.campaign if event.told else "",
            "Metadata": {},
            "Email" if bounced else "Recipient": event.recipient,
            self._TIME_FIELDS[event.kind]: iso(event.at_s),
        }
        if event.kind == "bounced":
            kind, code, details = self._BOUNCES[event.bounce]
            item |= {"ID": _number(event), "Type": kind, "TypeCode": code, "Details": details}
        elif event.kind == "complained":
            item |= {"ID": _number(event), "Type": "SpamComplaint", "TypeCode": 512}
        elif event.kind == "unsubscribed":
            item |= {
                "Origin": "Recipient",
                "SuppressSending": True,
                "SuppressionReason": "ManualSuppression",
            }
        elif event.kind in ("opened", "clicked"):
            item |= {"UserAgent": event.user_agent, "Geo": {"IP": event.ip}}
            if event.kind == "clicked":
                item |= {"OriginalLink": event.url, "ClickLocation": "HTML"}
        return orjson.dumps(item)


class GenericSender:
    """A list of plain events, HMAC-SHA256 of the raw body in ``X-Webhook-Signature``."""

    batch_max = 200

    def __init__(self, source: str, secret: str) -> None:
        self.source = source
        self._secret = secret

    def items(self, events: Sequence[Happening]) -> bytes:
        """See ``Sender.items``."""
        return orjson.dumps([self._item(event) for event in events])

    def _item(self, event: Happening) -> Item:
        item: Item = {
            "id": event.native_id,
            "event": event.kind,
            "time": event.at_s,
            "message_id": event.message_id,
            "recipient": event.recipient,
        }
        if event.told:
            item["campaign_id"] = event.campaign
        if event.bounce:
            item["bounce"] = {"class": event.bounce}
        if event.user_agent:
            item |= {"user_agent": event.user_agent, "ip": event.ip}
        if event.url:
            item["url"] = event.url
        return item

    def sign(self, body: bytes, now: float, *, forged: bool = False) -> Wire:
        """See ``Sender.sign``."""
        secret = "guessed" if forged else self._secret
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return _signed(body, x_webhook_signature=f"sha256={digest}")


class SparkPostSender(_BasicSender):
    """A list of wrapped events, HTTP Basic."""

    batch_max = 200
    _TYPES: ClassVar[Mapping[str, str]] = {
        "queued": "injection", "delivered": "delivery", "deferred": "delay", "bounced": "bounce",
        "rejected": "policy_rejection", "opened": "open", "clicked": "click",
        "complained": "spam_complaint", "unsubscribed": "link_unsubscribe",
    }  # fmt: skip
    _BOUNCES: ClassVar[Mapping[str, str]] = {"hard": "10", "soft": "22", "block": "51"}

    def items(self, events: Sequence[Happening]) -> bytes:
        """See ``Sender.items``."""
        return orjson.dumps([{"msys": self._item(event)} for event in events])

    def _item(self, event: Happening) -> Item:
        item: Item = {
            "type": self._TYPES[event.kind],
            "event_id": event.native_id,
            "timestamp": str(event.at_s),
            "transmission_id": event.message_id,
            "message_id": event.message_id,
            "raw_rcpt_to": event.recipient,
        }
        if event.told:
            item["campaign_id"] = event.campaign
        if event.kind == "bounced":
            item |= {"bounce_class": self._BOUNCES[event.bounce], "raw_reason": "refused"}
        if event.kind in ("opened", "clicked"):
            item |= {"user_agent": event.user_agent, "ip_address": event.ip}
            if event.url:
                item["target_link_url"] = event.url
            return {"track_event": item}
        return {"message_event": item}


class ResendSender:
    """One event per request, signed as Svix does: id, time and body. Retries have the same id."""

    batch_max = 1
    _TYPES: ClassVar[Mapping[str, str]] = {
        "queued": "email.scheduled", "delivered": "email.delivered",
        "deferred": "email.delivery_delayed", "bounced": "email.bounced",
        "rejected": "email.suppressed", "opened": "email.opened", "clicked": "email.clicked",
        "complained": "email.complained",
    }  # fmt: skip
    _BOUNCES: ClassVar[Mapping[str, Item]] = {
        "hard": {"type": "Permanent", "subType": "General"},
        "soft": {"type": "Transient", "subType": "MailboxFull"},
    }

    def __init__(self, source: str, secret: str) -> None:
        self.source = source
        self._secret = secret

    def items(self, events: Sequence[Happening]) -> bytes:
        """See ``Sender.items``."""
        (event,) = events
        data: Item = {
            "email_id": event.message_id,
            "to": [event.recipient],
            "tags": [{"name": "campaign_id", "value": event.campaign}] if event.told else [],
        }
        client = {"userAgent": event.user_agent, "ipAddress": event.ip}
        if event.kind == "bounced":
            data["bounce"] = {**self._BOUNCES[event.bounce], "message": "returned"}
        elif event.kind == "opened":
            data["open"] = client
        elif event.kind == "clicked":
            data["click"] = {**client, "link": event.url}
        return orjson.dumps(
            {"type": self._TYPES[event.kind], "created_at": iso(event.at_s), "data": data}
        )

    def sign(self, body: bytes, now: float, *, forged: bool = False) -> Wire:
        """See ``Sender.sign``; the id is derived from the body."""
        message = f"msg_{hashlib.sha256(body).hexdigest()[:24]}"
        timestamp = str(int(now))
        key = b"guessed" if forged else base64.b64decode(self._secret.removeprefix("whsec_"))
        signed = f"{message}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        return _signed(
            body, svix_id=message, svix_timestamp=timestamp, svix_signature=f"v1,{signature}"
        )


def _number(event: Happening) -> int:
    """A numeric id of an event, like Postmark's bounce ids."""
    return int.from_bytes(hashlib.sha256(event.native_id.encode()).digest()[:6], "big")
