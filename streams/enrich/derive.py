"""Makes the records that follow from an event: enriched event, engagement.

Invariants:
1. Pure: everything is a function of the raw head, the message's state and the look-ups.
2. An event's enrichment can be made again from its raw bytes; a correction is a new revision.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from schemas import enrichment
from schemas.codec import PREFIX_BYTES
from schemas.errors import BadInput
from schemas.raw_head import Head
from schemas.versions import REVISION_EPOCH_SHIFT
from streams.classify import actors
from streams.classify.bounce import RULES_VERSION, classify_bounce
from streams.classify.certainty import certainty_of
from streams.classify.links import link_group
from streams.classify.mailbox import mailbox_provider
from streams.classify.user_agent import client_of
from streams.enrich.admission import NEWEST_MS
from streams.enrich.message import Message, Pending
from streams.enrich.minute_counts import OLD_S, SUSPECT_FUTURE_S

_OLDEST_US: Final = 946_684_800 * 1_000_000  # 2000-01-01
_NEWEST_US: Final = NEWEST_MS * 1_000
TEXTS_CACHED_MAX: Final = 16_384
NO_BOUNCE: Final = ("none", "none")
_OLD_US: Final = OLD_S * 1_000_000
_FUTURE_US: Final = SUSPECT_FUTURE_S * 1_000_000
JUDGED_BOUNCES: Final = frozenset(("bounced", "deferred", "rejected", "failed"))


def _nowhere(_ip: str | None) -> str:
    return ""


class Standing:
    """What an event's enrichment takes from its message. A value.

    Attributes:
        campaign: ``None`` while unattributed.
        delivered_us: when it was delivered, microseconds; 0 while unknown.
    """

    __slots__ = ("campaign", "delivered_us")

    def __init__(self, campaign: str | None, delivered_us: int) -> None:
        self.campaign = campaign
        self.delivered_us = delivered_us

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Standing)
            and self.campaign == other.campaign
            and self.delivered_us == other.delivered_us
        )

    def __hash__(self) -> int:
        return hash((self.campaign, self.delivered_us))

    @staticmethod
    def of(message: Message) -> "Standing":
        """As the message stands now."""
        return Standing(message.campaign or None, message.delivered_us)


@dataclass(frozen=True, slots=True)
class LookUps:
    """What ``step`` may consult besides its state; constant while a worker runs.

    Attributes:
        rules: machine detection rules.
        mailbox: domain -> mailbox provider.
        country: IP address of a client -> ISO country, '' when unknown.
        message_ttl_s: how long a message is remembered after its last event, in log time.
        correction_s: length of a message's correction window, in log time.
        epoch: the number of the rules' epoch (``streams.enrich.epochs``).
        record_bytes_max: largest raw record that is folded, key and value together.
    """

    rules: actors.Rules = actors.DEFAULT_RULES
    mailbox: Callable[[str], str] = field(default=mailbox_provider)
    country: Callable[[str | None], str] = field(default=_nowhere)
    message_ttl_s: int = 30 * 86400
    correction_s: int = 86400
    epoch: int = 0
    record_bytes_max: int = 1_000_000


def event_time_us(head: Head) -> tuple[int, bool]:
    """The time that an event is counted at, in microseconds, and whether it is suspect.

    An event that claims to be far older or newer than its arrival is counted by its arrival.

    Raises:
        BadInput: the arrival time itself is impossible.
    """
    occurred, received = head["occurred_at"], head["received_at"]
    if not _OLDEST_US <= received <= _NEWEST_US:
        raise BadInput("bad_time", "received_at is outside 2000 to 2100")
    if not -_FUTURE_US <= received - occurred <= _OLD_US:
        return received, True
    return occurred, head["time_suspect"]


def is_stale(head: Head) -> bool:
    """Whether an event is told so late that it is counted by its arrival."""
    age: int = head["received_at"] - head["occurred_at"]
    return age > _OLD_US


def happened_us(head: Head) -> int:
    """The time by which an event suppresses or lifts, in microseconds.

    That is the event's own, however old it is: an address listed years ago is not listed today.
    """
    occurred, received = head["occurred_at"], head["received_at"]
    plausible = occurred >= _OLDEST_US and received - occurred >= -_FUTURE_US
    return int(occurred if plausible else received)


def bounce_of(head: Head) -> tuple[str, str]:
    """Class and reason of a bounce, deferral or rejection; ``("none", "none")`` otherwise."""
    if head["event_type"] not in JUDGED_BOUNCES:
        return NO_BOUNCE
    return classify_bounce(
        head["event_type"], head["bounce_class"], head["bounce_reason"],
        head["enhanced_status"], head["smtp_code"], head["diagnostic"],
    )  # fmt: skip


def mailbox_of(head: Head, look_ups: LookUps) -> str:
    """The provider that hosts the recipient's mailbox."""
    return look_ups.mailbox(head["recipient_domain"])


def group_of(provider: str) -> str:
    """The mailbox provider that counts are kept under: one known by name, else ``other``.

    There are too many other domains to count each one per minute; the events keep them.
    """
    return "other" if "." in provider else provider


@lru_cache(maxsize=TEXTS_CACHED_MAX)
def text_hash(text: str | None) -> int:
    """A hash of a link or user agent in 32 bits; 0 for none."""
    if not text:
        return 0
    value: int = struct.unpack(
        "<I", blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()
    )[0]
    return value or 1


_PLAIN_END: Final = {
    first: enrichment.verdict(
        "none", "none", "none", "", "none", RULES_VERSION, first, False, False
    )
    + enrichment.NOBODY
    for first in (False, True)
}


@lru_cache(maxsize=TEXTS_CACHED_MAX)
def _client_part(user_agent: str | None, country: str) -> bytes:
    return enrichment.client(*client_of(user_agent), country)


def plain_value(
    frame: bytes,
    origin: bytes,
    raw: bytes,
    head: Head,
    offset: int,
    at_us: int,
    key: bytes,
    mailbox: str,
    *,
    first: bool,
    revision: int,
) -> bytes:
    """``value`` for the frequent case: an event that is not judged and has its campaign.

    Args:
        frame, origin: framing of enriched records; encoded log and partition.
        raw: the framed raw record.
        first: the ``first_of_kind``.
        revision: the first of the present epoch.
    """
    return b"".join(
        (
            frame,
            raw[PREFIX_BYTES:],
            origin,
            enrichment.coordinates(offset, offset, revision, at_us, key.hex()),
            enrichment.campaign(head["campaign_id"], head["campaign_source"], None, None),
            enrichment.mailbox(mailbox),
            _PLAIN_END[first],
        )
    )


def value(
    frame: bytes,
    origin: bytes,
    raw: bytes,
    head: Head,
    standing: Standing,
    event: Pending,
    bounce: tuple[str, str],
    look_ups: LookUps,
    *,
    version: int,
    key: bytes,
    previous_campaign: str | None,
    previous_key: bytes | None,
) -> bytes:
    """An enriched record: the raw bytes, and one revision of their enrichment.

    Args:
        raw: the framed raw record.
        version: offset of the record that this revision follows from.
        previous_campaign, previous_key: that the revision before was under, if it was another one.
    """
    campaign, delivered = standing.campaign, standing.delivered_us
    previous = None if previous_key is None else previous_key.hex()
    source = "none"
    if campaign is not None:
        source = head["campaign_source"] if head["campaign_id"] == campaign else "learned"
    judged = event.actor != "none"
    if judged:
        rest = enrichment.since((event.at_us - delivered) / 1e6 if delivered else None)
        country = head["geo_country"] or look_ups.country(head["ip"])
        rest += _client_part(head["user_agent"], country)
        rest += enrichment.link(link_group(head["click_url"], look_ups.rules.links))
    else:
        rest = enrichment.NOBODY
    return b"".join(
        (
            frame,
            raw[PREFIX_BYTES:],
            origin,
            enrichment.coordinates(
                event.offset, version, look_ups.epoch << REVISION_EPOCH_SHIFT | event.revision,
                event.at_us, key.hex(),
            ),
            enrichment.campaign(campaign, source, previous_campaign, previous),
            enrichment.mailbox(look_ups.mailbox(head["recipient_domain"])),
            enrichment.verdict(
                bounce[0], bounce[1], event.actor, event.reason,
                certainty_of(event.actor, event.reason),
                look_ups.rules.version if judged else RULES_VERSION, event.first, event.human,
                event.unsubscribe,
            ),
            rest,
        )
    )  # fmt: skip


def reissued(
    value: bytes, end: int, said: Mapping[str, Any], look_ups: LookUps, *, version: int,
    revision: int, previous_campaign: str | None = None, previous_key: bytes | None = None,
) -> bytes:  # fmt: skip
    """An enriched record that says the same as ``value``, as another revision.

    Args:
        end: where the enrichment begins, which is decoded in ``said``.
        previous_campaign, previous_key: as in ``value``.
    """
    judged = said["actor"] != "none"
    return b"".join(
        (
            value[:end],
            enrichment.origin(said["log_id"], said["partition"]),
            enrichment.coordinates(
                said["offset"], version, revision, said["event_time"], said["message_key"]
            ),
            enrichment.campaign(
                said["campaign_id"], said["campaign_source"], previous_campaign,
                None if previous_key is None else previous_key.hex(),
            ),
            enrichment.mailbox(said["mailbox_provider"]),
            enrichment.verdict(
                said["bounce_class"], said["bounce_reason"], said["actor"], said["actor_reason"],
                said["actor_certainty"],
                look_ups.rules.version if judged else said["rules_version"],
                said["first_of_kind"], said["first_human"], said["unsubscribe_link"],
            ),
            enrichment.since(said["seconds_since_delivery"]),
            enrichment.client(said["device"], said["os"], said["client"], said["country"]),
            enrichment.link(said["click_url_group"]),
        )
    )  # fmt: skip


def engagement(
    head: Head,
    standing: Standing,
    *,
    withdrawn: bool,
    log_id: str,
    partition: int,
    offset: int,
) -> dict[str, Any]:
    """An ``engagement`` record: a first human open or click, or its withdrawal."""
    at_us, _ = event_time_us(head)
    campaign, delivered = standing.campaign, standing.delivered_us
    return {
        "event_id": head["event_id"],
        "kind": "open" if head["event_type"] == "opened" else "click",
        "occurred_at": at_us,
        "message_id": head["message_id"] or "",
        "recipient": head["recipient"],
        "campaign_id": campaign,
        "click_url": head["click_url"],
        "seconds_since_delivery": (at_us - delivered) / 1e6 if delivered else None,
        "provider": head["provider"],
        "withdrawn": withdrawn,
        "log_id": log_id,
        "partition": partition,
        "offset": offset,
    }
