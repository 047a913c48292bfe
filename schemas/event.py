"""The normalised event, which every provider's webhook is converted to.

Invariants:
1. Pure: no clock, no I/O, no randomness; ``received_at`` is an argument.
2. ``event_id`` is the same for every retry of an event and different for different events, so it
   never depends on what changes between attempts (receive time, endpoint, signature, batch index).
3. ``message_key`` puts all events of a recipient, and so of a message, into one Kafka partition.
4. Fields and enum symbols here are those of ``avro/raw_event.v1.avsc``; a test compares them.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypedDict

from schemas.identity import address_identity


class EventType(StrEnum):
    """What happened to a message, normalised."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    FAILED = "failed"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    AUTORESPONDED = "autoresponded"
    SUPPRESSION_ADDED = "suppression_added"
    """An address was put on a suppression list; ``bounce_reason`` says what for."""
    SUPPRESSION_REMOVED = "suppression_removed"
    """It was taken off that list."""
    UNKNOWN = "unknown"


class BounceClass(StrEnum):
    """Severity of a bounce. ``NONE``: not a bounce, or the provider does not say."""

    NONE = "none"
    HARD = "hard"
    SOFT = "soft"
    BLOCK = "block"
    SUPPRESSED = "suppressed"
    UNDETERMINED = "undetermined"


class BounceReason(StrEnum):
    """Why a message bounced. ``NONE``: not a bounce, or the provider does not say."""

    NONE = "none"
    INVALID_ADDRESS = "invalid_address"
    NO_MAILBOX = "no_mailbox"
    MAILBOX_FULL = "mailbox_full"
    INACTIVE = "inactive"
    TOO_LARGE = "too_large"
    DNS = "dns"
    TIMEOUT = "timeout"
    CONTENT = "content"
    REPUTATION = "reputation"
    POLICY = "policy"
    AUTH = "auth"
    RELAY_DENIED = "relay_denied"
    SUPPRESSED_BOUNCE = "suppressed_bounce"
    SUPPRESSED_COMPLAINT = "suppressed_complaint"
    SUPPRESSED_UNSUBSCRIBE = "suppressed_unsubscribe"
    OTHER = "other"


class MachineKind(StrEnum):
    """The provider's own classification of who opened or clicked. ``NONE``: it gives none."""

    NONE = "none"
    HUMAN = "human"
    APPLE_MPP = "apple_mpp"
    GMAIL_PROXY = "gmail_proxy"
    PREFETCH = "prefetch"
    SCANNER = "scanner"
    UNKNOWN = "unknown"


class CampaignSource(StrEnum):
    """Where the campaign of an event was found."""

    NONE = "none"
    METADATA = "metadata"
    TAG = "tag"
    PROVIDER = "provider"
    """The provider's own number or id; the campaign has the provider before it."""
    SENDER = "sender"
    """The provider's field for a name that the sender gives."""
    HEADER = "header"
    LEARNED = "learned"
    """From another event of the same message (set by the streams, never by ingress)."""


class ReceivedBy(StrEnum):
    """How an event reached mailpulse."""

    HOOK = "hook"
    """By the provider's webhook."""
    PULL = "pull"
    """Read from the provider's own history."""
    COMMAND = "command"
    """Entered by an operator."""


class DedupeQuality(StrEnum):
    """What ``event_id`` is made of."""

    NATIVE = "native"
    """The provider's own event id, stable over its retries."""
    COMPOSITE = "composite"
    """A composite of fields; two real clicks on one link in one second become one."""


class Event(TypedDict):
    """One normalised event, in the order and with the names of the raw Avro schema, without head.

    Times are microseconds since 1970-01-01 UTC. Texts are at most ``TEXT_CHARS_MAX`` characters.
    """

    event_id: str
    campaign_id: str | None
    campaign_source: str
    recipient_domain: str
    machine_kind: str
    user_agent: str | None
    ip: str | None
    click_url: str | None
    unsubscribe_link: bool | None
    geo_country: str | None
    event_type: str
    occurred_at: int
    received_at: int
    time_suspect: bool
    provider: str
    source: str
    received_by: str
    message_id: str | None
    recipient: str | None
    recipient_identity: str | None
    recipient_certain: bool
    bounce_class: str
    bounce_reason: str
    smtp_code: int | None
    enhanced_status: str | None
    diagnostic: str | None
    suppression_scope: str | None
    native_type: str
    dedupe_quality: str
    rfc_message_id: str | None
    tags: list[str]
    metadata: dict[str, str]
    provider_first: bool | None
    batch_id: str | None
    batch_index: int


EVENT_ID_CHARS = 32
"""Length of an event id that mailpulse makes."""
TEXT_CHARS_MAX = 2048
"""Longest text kept in one field; the rest is cut."""
ALIASED_PROVIDERS = frozenset(("sendgrid",))
"""Providers that tell some events of a message by the sender's Message-ID alone, others by their
own id beside it, and opens and clicks by their own id alone: see ``alias_of``."""
SENDGRID_HOSTS = ("ismtpd", "geopod-ismtpd")
"""What follows the @ in a Message-ID that SendGrid made of its own id, in which ingress finds that
id."""
_OF_READERS = frozenset(("opened", "clicked"))
ID_CHARS_MAX = 512
"""Longest message id, campaign id or recipient kept as it is; a longer one is cut."""
TAGS_MAX = 64
METADATA_ENTRIES_MAX = 64


def new_event(
    *,
    event_id: str,
    event_type: str,
    occurred_at: int,
    received_at: int,
    provider: str,
    native_type: str,
) -> Event:
    """An event with every optional field at its default."""
    return {
        "event_id": event_id,
        "campaign_id": None,
        "campaign_source": "none",
        "recipient_domain": "",
        "machine_kind": "none",
        "user_agent": None,
        "ip": None,
        "click_url": None,
        "unsubscribe_link": None,
        "geo_country": None,
        "event_type": event_type,
        "occurred_at": occurred_at,
        "received_at": received_at,
        "time_suspect": False,
        "provider": provider,
        "source": "",
        "received_by": "hook",
        "message_id": None,
        "recipient": None,
        "recipient_identity": None,
        "recipient_certain": True,
        "bounce_class": "none",
        "bounce_reason": "none",
        "smtp_code": None,
        "enhanced_status": None,
        "diagnostic": None,
        "suppression_scope": None,
        "native_type": native_type,
        "dedupe_quality": "native",
        "rfc_message_id": None,
        "tags": [],
        "metadata": {},
        "provider_first": None,
        "batch_id": None,
        "batch_index": 0,
    }


def event_id(provider: str, account: str, *parts: str) -> str:
    """The deterministic identity of an event: 32 hexadecimal digits.

    First 16 bytes of SHA-256 over the parts, each in UTF-8 (surrogates kept) and preceded by its
    length in 4 bytes, so that no two lists of parts give the same bytes.
    """
    digest = hashlib.sha256()
    for part in (provider, account, *parts):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:EVENT_ID_CHARS]


def recipient_identity(event: Mapping[str, Any]) -> str:
    """The identity of an event's recipient, or its keyed hash; '' without one.

    Ingress sets it. Of another producer's event that lacks it, it is made from the address.
    """
    return event["recipient_identity"] or address_identity(event["recipient"] or "")


def event_hash(event_id: str) -> int:
    """64 bits of an event id, enough to tell the events of one message apart."""
    if len(event_id) == EVENT_ID_CHARS:
        with suppress(ValueError):
            value = int(event_id, 16)
            return (value ^ value >> 64) & 0xFFFF_FFFF_FFFF_FFFF
    # another producer's id: one that is longer may end as all others of its message do
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big")


def is_identified(event: Mapping[str, Any]) -> bool:
    """Whether the event says which message to which recipient it is about."""
    if event["message_id"]:
        return bool(event["recipient_certain"])
    return alias_of(event) != 0


def alias_of(event: Mapping[str, Any]) -> int:
    """The alias of the event's message: see ``message_alias``."""
    return message_alias(
        event["event_type"], event["provider"], event["message_id"], event["rfc_message_id"],
        recipient_identity(event), event["recipient_certain"],
    )  # fmt: skip


def message_alias(
    event_type: str,
    provider: str,
    message_id: str | None,
    rfc_message_id: str | None,
    identity: str,
    certain: bool,
) -> int:
    """A hash of 64 bits of the Message-ID that the sender gave, and of the recipient.

    It joins events without the provider's id to those that have both ids.

    Args:
        identity: the ``recipient_identity``; events without one have partitions of their own.
        certain: the ``recipient_certain``.

    Returns:
        0 where none is needed: the provider gives its id always, or made the Message-ID of it; or
        an open or click has no id, which SendGrid's never lack.
    """
    if provider not in ALIASED_PROVIDERS or not (rfc_message_id and identity and certain):
        return 0
    if not message_id:
        if event_type in _OF_READERS:
            return 0
    elif rfc_message_id.startswith(f"{message_id}@") and rfc_message_id.startswith(
        SENDGRID_HOSTS, len(message_id) + 1
    ):
        return 0
    text = f"{provider}\x1f{rfc_message_id}\x1f{identity}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") or 1


def unit_key(event: Mapping[str, Any]) -> bytes:
    """Identity of message and recipient, 16 bytes: the unit of every unique count.

    An event that can't be told per message is a unit of its own. One that names its message by the
    sender's Message-ID alone has the unit of that, until the streams know the message.
    """
    if event["message_id"] and event["recipient_certain"]:
        return message_unit(event["provider"], event["message_id"], recipient_identity(event))
    alias = alias_of(event)
    return alias_unit(alias) if alias else own_unit(event["event_id"])


def message_unit(provider: str, message_id: str, identity: str) -> bytes:
    """The ``unit_key`` of a message to the recipient of this identity."""
    return _unit(f"{provider}\x1f{message_id}\x1f{identity}")


def alias_unit(alias: int) -> bytes:
    """The ``unit_key`` of events that name their message by an alias alone."""
    return _unit(f"a\x1f{alias:016x}")


def own_unit(event_id: str) -> bytes:
    """The ``unit_key`` of an event that can't be told per message."""
    return _unit(f"e\x1f{event_id}")


def _unit(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def message_key(event: Event) -> bytes:
    """The Kafka key: the recipient, so that a recipient's events share one partition, in order.

    These include all events of each message to that recipient, which makes unique counts exact,
    and all soft bounces of the address, which makes suppressions exact. Without a recipient (or
    with several possible ones) the key is the message; without a message it is the event.
    """
    identity = recipient_identity(event)
    if identity and event["recipient_certain"]:
        return identity.encode("utf-8", "replace")
    if event["message_id"]:
        return f"m:{event['provider']}:{event['message_id']}".encode("utf-8", "replace")
    return b"e:" + event["event_id"].encode()
