"""What is added to a raw event: the ``Enrichment`` record, and the records others subscribe to.

Laws of this file:
1. Pure: everything is a function of the raw head, the message's state and the look-ups.
2. An event's enrichment can be made again from its raw bytes (a correction is a new revision).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from schemas.errors import BadInput
from streams import machine
from streams.classify import RULES_VERSION, classify_bounce
from streams.client import client_of
from streams.mailbox import mailbox_provider
from streams.message import Message
from streams.minutes import OLD_S, SUSPECT_FUTURE_S
from streams.recipients import REASONS, SOFT, SOFT_FOR_S

Head = dict[str, Any]
_OLDEST_US = 946_684_800 * 1_000_000  # 2000-01-01
_NEWEST_US = 4_102_444_800 * 1_000_000  # 2100-01-01
JUDGED_BOUNCES = frozenset(("bounced", "deferred", "rejected", "failed"))


def _nowhere(_ip: str | None) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class LookUps:
    """What ``step`` may consult besides its state; constant while a worker runs.

    Attributes:
        rules: machine detection rules.
        mailbox: domain -> mailbox provider.
        country: address of a client -> ISO country, '' when unknown.
        message_ttl_s: how long a message is remembered, by log time.
        settle_s: how long the verdict on an open or click may be corrected.
        attribute_s: how long a message may wait for its campaign.
    """

    rules: machine.Rules = machine.DEFAULT_RULES
    mailbox: Callable[[str], str] = field(default=mailbox_provider)
    country: Callable[[str | None], str] = field(default=_nowhere)
    message_ttl_s: int = 30 * 86400
    settle_s: int = 600
    attribute_s: int = 86400


def event_time_us(head: Head) -> tuple[int, bool]:
    """The time an event is counted at, in microseconds, and whether it is only its arrival.

    Raises:
        BadInput: the arrival time itself is nonsense.
    """
    occurred, received = head["occurred_at"], head["received_at"]
    if not _OLDEST_US <= received <= _NEWEST_US:
        raise BadInput("bad_time", "received_at lies outside 2000 to 2100")
    age = received - occurred
    if age > OLD_S * 1_000_000 or age < -SUSPECT_FUTURE_S * 1_000_000:
        return received, True
    return occurred, head["time_suspect"]


def unit_key(head: Head) -> bytes:
    """Identity of message and recipient, 16 bytes: the unit of every unique count."""
    message_id = head["message_id"]
    recipient = head["recipient"] if head["recipient_certain"] else None
    if message_id is None:
        text = f"e\x1f{head['event_id']}"
    else:
        text = f"{head['provider']}\x1f{message_id}\x1f{(recipient or '').lower()}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def bounce_of(head: Head) -> tuple[str, str]:
    """Class and reason of a bounce, deferral or rejection; ``("none", "none")`` otherwise."""
    if head["event_type"] not in JUDGED_BOUNCES:
        return "none", "none"
    return classify_bounce(
        head["event_type"], head["bounce_class"], head["bounce_reason"],
        head["enhanced_status"], head["smtp_code"], head["diagnostic"],
    )  # fmt: skip


def mailbox_of(head: Head, look_ups: LookUps) -> str:
    """Who hosts the recipient's mailbox."""
    return look_ups.mailbox(head["recipient_domain"])


def mailbox_group(head: Head, look_ups: LookUps) -> str:
    """The mailbox provider that counts are kept by: one known by name, else ``other``.

    Domains that stand for themselves are too many to count each minute by; the events keep them.
    """
    provider = mailbox_of(head, look_ups)
    return "other" if "." in provider else provider


def text_hash(text: str | None) -> int:
    """32 bits that stand for a link or a user agent; 0 for none."""
    if not text:
        return 0
    value: int = struct.unpack(
        "<I", blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()
    )[0]
    return value or 1


def enrichment(
    head: Head,
    message: Message,
    look_ups: LookUps,
    *,
    log_id: str,
    partition: int,
    offset: int,
    version: int,
    revision: int,
    key: bytes,
    actor: str,
    reason: str,
    first: bool,
    first_human: bool,
    unsubscribe: bool,
    bounce: tuple[str, str],
    previous_campaign: str | None,
) -> dict[str, Any]:
    """The ``Enrichment`` record of one revision of an event. Arguments: fields of that record."""
    at_us, _ = event_time_us(head)
    campaign = message.campaign or None
    source = "none"
    if campaign is not None:
        source = head["campaign_source"] if head["campaign_id"] == campaign else "learned"
    judged = actor != "none"
    device, system, client = client_of(head["user_agent"]) if judged else ("", "", "")
    delivered = message.delivered_at
    return {
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
        "version": version,
        "revision": revision,
        "event_time": at_us,
        "message_key": key.hex(),
        "campaign_id": campaign,
        "campaign_source": source,
        "previous_campaign_id": previous_campaign,
        "mailbox_provider": mailbox_of(head, look_ups),
        "bounce_class": bounce[0],
        "bounce_reason": bounce[1],
        "actor": actor,
        "actor_reason": reason,
        "rules_version": look_ups.rules.version if judged else RULES_VERSION,
        "first_of_kind": first,
        "first_human": first_human,
        "unsubscribe_link": unsubscribe,
        "seconds_since_delivery": (at_us / 1e6 - delivered) if delivered and judged else None,
        "device": device,
        "os": system,
        "client": client,
        "country": (head.get("geo_country") or look_ups.country(head["ip"])) if judged else "",
    }


def suppression(
    head: Head,
    reason: int,
    at_us: int,
    look_ups: LookUps,
    *,
    campaign: str | None,
    log_id: str,
    partition: int,
    offset: int,
) -> dict[str, Any]:
    """A ``suppression`` record for the recipient of ``head``."""
    return {
        "recipient": head["recipient"],
        "reason": REASONS[reason],
        "since": at_us,
        "until": at_us + SOFT_FOR_S * 1_000_000 if reason == SOFT else None,
        "evidence_event_id": head["event_id"],
        "provider": head["provider"],
        "source": head["source"],
        "campaign_id": campaign or None,
        "mailbox_provider": mailbox_of(head, look_ups),
        "diagnostic": head["diagnostic"],
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
    }


def engagement(
    head: Head,
    message: Message,
    *,
    withdrawn: bool,
    log_id: str,
    partition: int,
    offset: int,
) -> dict[str, Any]:
    """An ``engagement`` record: a first human open or click, or its withdrawal."""
    at_us, _ = event_time_us(head)
    delivered = message.delivered_at
    return {
        "event_id": head["event_id"],
        "kind": "open" if head["event_type"] == "opened" else "click",
        "occurred_at": at_us,
        "message_id": head["message_id"] or "",
        "recipient": head["recipient"],
        "campaign_id": message.campaign or None,
        "click_url": head["click_url"],
        "seconds_since_delivery": (at_us / 1e6 - delivered) if delivered else None,
        "provider": head["provider"],
        "withdrawn": withdrawn,
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
    }
