"""Suppression records: what is told when another suppression holds, or none does any more.

Invariants:
1. Pure. A record's ``offset`` is that of the raw record that it follows from; the highest holds.
2. When a suppression ends and a weaker one still holds, that one is told anew, with the raw record
   of its evidence if that can still be read.
"""

from typing import Any, NamedTuple

from schemas.event import recipient_identity
from schemas.raw_head import Head
from streams.enrich import derive
from streams.enrich.derive import LookUps
from streams.enrich.suppressions import REASONS, SCOPED, SOFT, SOFT_FOR_S, Telling


class Addressee(NamedTuple):
    """Whom a suppression concerns.

    Attributes:
        identity: of the address.
        source, scope: the list or group that it is limited to; empty: all mail to the address.
    """

    identity: str
    source: str = ""
    scope: str = ""


class Told(NamedTuple):
    """What is to be published.

    Attributes:
        record: the suppression that holds; ``None``: none does any more.
        offset, timestamp: of the raw record that it follows from; ms.
    """

    addressee: Addressee
    record: dict[str, Any] | None
    offset: int
    timestamp: int


class Retold(NamedTuple):
    """A ``Told`` that lacks the raw record of its evidence.

    Attributes:
        telling: what holds now.
        offset, timestamp: as of ``Told``.
    """

    addressee: Addressee
    telling: Telling
    offset: int
    timestamp: int


def addressee_of(head: Head) -> Addressee:
    """Whom an event concerns, as far as suppressions go."""
    identity = recipient_identity(head)
    scope = head["suppression_scope"] if head["event_type"] in SCOPED else None
    return Addressee(identity, head["source"], scope) if scope else Addressee(identity)


def told(
    addressee: Addressee,
    head: Head,
    telling: Telling,
    look_ups: LookUps,
    *,
    campaign: str | None,
    log_id: str,
    partition: int,
    offset: int,
    timestamp: int,
) -> Told | Retold:
    """What follows from the event of ``head``, at ``offset``.

    Args:
        addressee: whom it concerns; of an event beyond the limit of scopes, the whole address.
        campaign: of the event's message, where known.
    """
    if not telling.reason:
        return Told(addressee, None, offset, timestamp)
    if telling.offset != offset:
        return Retold(addressee, telling, offset, timestamp)
    record = _record(
        addressee, head, telling, look_ups, campaign or head["campaign_id"], log_id, partition,
        offset,
    )  # fmt: skip
    return Told(addressee, record, offset, timestamp)


def completed(
    one: Retold, head: Head | None, look_ups: LookUps, log_id: str, partition: int
) -> Told:
    """The record that is told anew.

    Args:
        head: of its evidence; ``None``: that can't be read any more.
    """
    campaign = None if head is None else head["campaign_id"]
    record = _record(
        one.addressee, head, one.telling, look_ups, campaign, log_id, partition, one.offset
    )
    return Told(one.addressee, record, one.offset, one.timestamp)


def _record(
    addressee: Addressee,
    head: Head | None,
    telling: Telling,
    look_ups: LookUps,
    campaign: str | None,
    log_id: str,
    partition: int,
    offset: int,
) -> dict[str, Any]:
    since = telling.at * 1_000_000
    if head is not None and telling.reason != SOFT:
        since = derive.happened_us(head)
    return {
        "recipient": addressee.identity,
        "reason": REASONS[telling.reason],
        "scope": addressee.scope or None,
        "since": since,
        "until": since + SOFT_FOR_S * 1_000_000 if telling.reason == SOFT else None,
        "evidence_event_id": "" if head is None else head["event_id"],
        "provider": "" if head is None else head["provider"],
        "source": addressee.source if head is None else head["source"],
        "campaign_id": campaign or None,
        "mailbox_provider": "" if head is None else derive.mailbox_of(head, look_ups),
        "diagnostic": None if head is None else head["diagnostic"],
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
    }
