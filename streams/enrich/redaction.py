"""Takes the person out of an erased event's record, so that it counts as before.

Invariants:
1. Pure. Of a redacted record the fold makes the same counts, verdicts and revisions as of the
   record itself: what it goes by is kept (message and event as hashes in the head, provider of the
   mailbox, user agent) or replaced by the verdict (bounce, unsubscribe link, country) or by
   something that tells as much (a link's group with a hash, an address of a known network alone).
   A property test compares both folds.
2. Nothing of it names the person: no address, no id that the provider or the sender gave, no text
   of a server, no data of the sender's, no parameter of a link, no network but a machine's.
3. It suppresses nobody and is nobody's engagement.
4. A later open or click by an erased person is erased too, unless its message is known to have been
   sent after the erasure: old mail is opened for weeks, by people and by machines. Later complaints
   and unsubscribes stay: who must not be mailed has to be known.
5. A record of an erased person that can't be read has nothing left, and becomes a dead letter
   without content.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from schemas.codec import Codec
from schemas.erasure import (
    ERASED_DOMAIN,
    ERASED_KEY,
    Erasures,
    link_without_address,
    tags_without_address,
)
from schemas.errors import BadInput
from schemas.raw_head import Head
from streams.classify import actors
from streams.classify.links import link_group
from streams.classify.mailbox import domain_of
from streams.enrich import derive
from streams.enrich.admission import check_large, is_large
from streams.enrich.derive import LookUps
from streams.enrich.revisions import ConsumedRecord
from streams.enrich.shard import Shard

_FLAGGED = frozenset(("hard", "soft", "block", "suppressed"))
"""Bounce classes that a provider's flag settles (``streams.classify.bounce``)."""


class Redacted(NamedTuple):
    """A raw record without its person (a ``ConsumedRecord``)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Messages:
    """Which messages were sent after an erasure, as far as a partition's state and the records that
    are about to be folded tell.

    Args:
        shard: ``None``: no later open or click is erased; for records that were redacted before.
    """

    def __init__(self, shard: Shard | None) -> None:
        self._shard = shard
        self._sent: set[bytes] = set()

    def erases(self, head: Head, at_us: int) -> bool:
        """Whether an event of after an erasure at ``at_us`` is erased too (invariant 4)."""
        key = head["unit_key"]
        if head["event_type"] in _SENDS:
            self._sent.add(key)
        if self._shard is None or head["event_type"] not in _READS:
            return False
        return key not in self._sent and not sent_since(self._shard, key, at_us // 1_000_000)


_SENDS = frozenset(("queued", "sent", "delivered", "deferred"))
_READS = frozenset(("opened", "clicked"))


def sent_since(shard: Shard, key: bytes, at_s: int) -> bool:
    """Whether a message's state tells that it was sent after a time in seconds."""
    shard.fetch([key], ())
    if shard.messages[key] is None:
        return False
    message = shard.message(key)
    return max(message.delivered_at, message.attempted_at) >= at_s or any(
        event.event_type in _SENDS and event.at >= at_s for event in message.pending
    )


def redact(
    records: Sequence[ConsumedRecord],
    erasures: Erasures,
    look_ups: LookUps,
    codec: Codec,
    shard: Shard | None = None,
) -> Sequence[ConsumedRecord]:
    """The records, with those of erased events redacted.

    Args:
        shard: that the records are about to be folded into; see ``Messages``.
    """
    if not erasures:
        return records
    messages = Messages(shard)
    return [
        _redacted(record, erasures, messages, look_ups, codec)
        if record.value is not None and erasures.may_concern(record.key)
        else record
        for record in records
    ]


def _redacted(
    record: ConsumedRecord,
    erasures: Erasures,
    messages: Messages,
    look_ups: LookUps,
    codec: Codec,
) -> ConsumedRecord:
    value = record.value or b""
    try:
        head = codec.raw_head(value)
        head.complete()
        at = erasures.erased_at(head)
        if not at or not (erasures.covers(head) or messages.erases(head, at)):
            return record
        if is_large(record.key, value):
            check_large(record.key, value, head, look_ups.record_bytes_max)
    except BadInput:
        # who it is about is known by its key alone, and when by its arrival
        if record.timestamp * 1_000 >= erasures.at(record.key or b""):
            return record
        return Redacted(record.offset, record.timestamp, ERASED_KEY, b"")
    return Redacted(record.offset, record.timestamp, ERASED_KEY, value_of(head, look_ups, codec))


def value_of(head: Head, look_ups: LookUps, codec: Codec) -> bytes:
    """The framed raw record of an erased event.

    Args:
        head: complete.
    """
    event = cast("dict[str, Any]", dict(head))
    event |= {
        "erased": True, "addressed": False, "recipient": None, "recipient_identity": None,
        "message_id": None, "rfc_message_id": None, "diagnostic": None, "metadata": {},
        "batch_id": None, "recipient_domain": _domain(head, look_ups),
        "tags": tags_without_address(head["tags"]),
    }  # fmt: skip
    event |= _bounce(head) | _reader(head, look_ups)
    return codec.encode("raw_event", event)


def _domain(head: Head, look_ups: LookUps) -> str:
    """A domain of the same group of mailbox providers; '' where there is none.

    A provider that only the operator's own rules name has no other domain to give.
    """
    given: str = head["recipient_domain"]
    provider = look_ups.mailbox(given)
    group = derive.group_of(provider)
    other = ERASED_DOMAIN if group == "other" else domain_of(provider)
    return other if derive.group_of(look_ups.mailbox(other)) == group else given


def _bounce(head: Head) -> dict[str, Any]:
    """The verdict as the provider's flag; codes only where they can't give another one."""
    bounce_class, reason = derive.bounce_of(head)
    kept: dict[str, Any] = {"bounce_class": head["bounce_class"],
                            "bounce_reason": head["bounce_reason"]}  # fmt: skip
    if head["event_type"] in derive.JUDGED_BOUNCES:
        kept = {"bounce_class": bounce_class, "bounce_reason": reason}
    if bounce_class not in _FLAGGED:
        kept |= {"smtp_code": None, "enhanced_status": None}
    return kept


def _reader(head: Head, look_ups: LookUps) -> dict[str, Any]:
    """What an open or a click goes by; nothing for other events."""
    if head["event_type"] not in ("opened", "clicked"):
        return {"user_agent": None, "ip": None, "click_url": None, "geo_country": None}
    rules = look_ups.rules
    url, ip = head["click_url"], head["ip"]
    seen = head["event_type"], head["machine_kind"], head["user_agent"]
    by_network = actors.by_itself(*seen, ip, None, rules) != actors.by_itself(
        *seen, None, None, rules
    )
    kept: dict[str, Any] = {
        "click_url": _link(url, look_ups), "ip": ip if by_network else None,
        "geo_country": head["geo_country"] or look_ups.country(ip) or None,
    }  # fmt: skip
    if head["event_type"] == "clicked":
        kept["unsubscribe_link"] = actors.unsubscribes(head, rules.unsubscribe)
    return kept


def _link(url: str | None, look_ups: LookUps) -> str | None:
    """The link's group without addresses, and a hash that tells links of one group apart."""
    if not url:
        return url
    links = look_ups.rules.links
    group = link_without_address(link_group(url, links))
    marked = f"{group}#{derive.text_hash(url):08x}"
    return marked if link_group(marked, links) == group else group
