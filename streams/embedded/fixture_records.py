"""Believable records of every topic that outside consumers read, for ``mailpulse dev``.

Invariants:
1. Pure and deterministic: the same number of messages gives the same records, but for the time.
2. They fit together: counts are sums of the events before, follow-ups and suppressions name events
   that were told, and coordinates rise.
3. One record in ``REPEATED_EVERY`` comes twice with the same coordinates, as after a crash of a
   worker: a consumer that acts on it twice has a fault.
4. Of the messages that are opened but not clicked one in ``CORRECTED_EVERY`` has its open corrected
   to a machine's at once, as by later news: a higher revision of the event, and a withdrawal of its
   follow-up.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas import topics
from schemas.glossary import COUNTER_NAMES, RATES
from schemas.samples import sample

CAMPAIGNS = ("spring-sale", "weekly-digest", "receipts")
READERS = 400
"""Different recipients; every one gets many messages."""
TOLD_EVERY = 20
"""Messages between two records of a campaign's rates."""
REPEATED_EVERY = 10
CORRECTED_EVERY = 7
ENDS = ("", "_or_unknown", "_at_most", "_any")
"""Of the counts of opens and clicks, by who made them, the fewest first."""
MESSAGE_OFFSETS = 10
"""Offsets of the raw topic that each message has."""
_DERIVED = {
    "sent": ("delivered", "bounced_hard"), "bounced": ("bounced_hard",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FixtureRecord:
    """A record to be written.

    Attributes:
        identity: of the CloudEvents header; equal on a repeat.
        value: ``None``: a tombstone, which lifts what its key has.
    """

    topic: str
    key: bytes
    identity: str
    value: dict[str, Any] | None


class Story:
    """Messages one after the other, and what becomes of each."""

    def __init__(self) -> None:
        self._number = 0
        self._written = 0
        self._counts = {campaign: Counter[str]() for campaign in CAMPAIGNS}

    def counts(self, campaign: str) -> Counter[str]:
        """What a campaign's rates count, after the messages so far."""
        return self._counts[campaign].copy()

    def message(self, at_us: int) -> Iterator[FixtureRecord]:
        """The records that the next message leads to.

        Args:
            at_us: when it was delivered, microseconds since 1970.
        """
        number, self._number = self._number, self._number + 1
        campaign = CAMPAIGNS[number % len(CAMPAIGNS)]
        for record in self._records(number, campaign, at_us):
            self._written += 1
            yield record
            if self._written % REPEATED_EVERY == 0:
                yield record

    def _records(self, number: int, campaign: str, at_us: int) -> Iterator[FixtureRecord]:
        kinds = _kinds(number)
        for step, kind in enumerate(kinds):
            yield from self._event(number, step, kind, campaign, at_us + step * 60_000_000)
        if number % TOLD_EVERY == TOLD_EVERY - 1:
            for each in CAMPAIGNS:
                yield self._rates(each, at_us)

    def _event(
        self, number: int, step: int, kind: str, campaign: str, at_us: int
    ) -> Iterator[FixtureRecord]:
        address = f"reader{number % READERS}@example.com"
        identity = _id(f"event {number} {step}")
        place = {"log_id": "fixture", "partition": 0, "offset": number * MESSAGE_OFFSETS + step}
        event = {
            "event_id": identity, "event_type": kind, "occurred_at": at_us,
            "received_at": at_us + 900_000, "message_id": f"message-{number}",
            "recipient": address, "recipient_identity": address, "campaign_id": campaign,
            "metadata": {"campaign_id": campaign}, "native_type": kind,
        }  # fmt: skip
        bare = {} if kind == "clicked" else {"click_url": None}
        if kind == "bounced":
            event |= {"bounce_class": "hard", "bounce_reason": "no_mailbox"}
        raw = sample(topics.RAW) | event | bare
        yield FixtureRecord(topics.RAW, address.encode(), identity, raw)
        enriched = sample(topics.ENRICHED)
        is_person = kind in ("opened", "clicked")
        added = place | {
            "event_time": at_us, "campaign_id": campaign, "message_key": _id(f"message {number}"),
            "actor": "human" if is_person else "none", "first_human": is_person,
            "actor_certainty": "high" if is_person else "none",
            "seconds_since_delivery": float(step * 60), "first_of_kind": True,
            "click_url_group": raw["click_url"] or "",
            "bounce_class": event.get("bounce_class", "none"),
            "bounce_reason": event.get("bounce_reason", "none"),
        }  # fmt: skip
        value = {"event": raw, "enrichment": enriched["enrichment"] | added}
        yield FixtureRecord(topics.ENRICHED, address.encode(), identity, value)
        self._count(campaign, kind)
        follow: dict[str, Any] = {}
        if is_person:
            follow |= sample(topics.ENGAGEMENT) | place | {
                "event_id": identity, "kind": kind, "occurred_at": at_us, "recipient": address,
                "campaign_id": campaign, "message_id": f"message-{number}",
                "click_url": raw["click_url"], "seconds_since_delivery": float(step * 60),
            }  # fmt: skip
            yield FixtureRecord(topics.ENGAGEMENT, address.encode(), identity, follow)
        if kind == "opened" and not number % CORRECTED_EVERY and "clicked" not in _kinds(number):
            yield from self._corrected(value, follow, campaign)
        if kind == "bounced":
            held = sample(topics.SUPPRESSIONS) | place | {
                "recipient": address, "since": at_us, "evidence_event_id": identity,
                "campaign_id": campaign,
            }  # fmt: skip
            yield FixtureRecord(topics.SUPPRESSIONS, address.encode(), identity, held)
            if number % 2 == 0:
                lifted = _id(f"lifted {number}")
                yield FixtureRecord(topics.SUPPRESSIONS, address.encode(), lifted, None)

    def _corrected(
        self, value: dict[str, Any], follow: dict[str, Any], campaign: str
    ) -> Iterator[FixtureRecord]:
        """The same open once it is known to be a machine's, as the next offset tells."""
        event, before = value["event"], value["enrichment"]
        later = before["offset"] + MESSAGE_OFFSETS // 2
        added = before | {
            "revision": 1, "version": later, "actor": "machine", "first_human": False,
            "actor_reason": "provider_flag", "actor_certainty": "high",
        }  # fmt: skip
        key, identity = event["recipient_identity"].encode(), event["event_id"]
        counts = self._counts[campaign]
        for name in ("opens", *(f"{at}opened{end}" for at in ("", "cohort_") for end in ENDS[:3])):
            counts[name] -= 1
        counts["machine_opens"] += 1
        corrected = value | {"enrichment": added}
        yield FixtureRecord(topics.ENRICHED, key, _id(f"{identity} 1"), corrected)
        withdrawn = follow | {"withdrawn": True, "offset": later}
        yield FixtureRecord(topics.ENGAGEMENT, key, _id(f"{identity} withdrawn"), withdrawn)

    def _count(self, campaign: str, kind: str) -> None:
        counts = self._counts[campaign]
        counts["events"] += 1
        if kind == "bounced":
            counts.update(("bounced_hard", "attempt_bounced_hard", "attempt_sent"))
        elif kind == "delivered":
            counts.update(("delivered", "attempt_sent"))
        else:
            names = {"opened": ("opens",), "clicked": ("clicks",)}[kind]
            counts.update(names)
            counts.update(f"{kind}{end}" for end in ENDS)
            counts.update(f"cohort_{kind}{end}" for end in ENDS)
            if kind == "clicked":
                counts["cohort_opened_clicked"] += 1

    def _rates(self, campaign: str, at_us: int) -> FixtureRecord:
        counts = {name: self._counts[campaign][name] for name in COUNTER_NAMES}
        sums = counts | {name: sum(counts[one] for one in of) for name, of in _DERIVED.items()}
        [window] = sample(topics.RATES)["windows"]
        rates = []
        for rate in RATES:
            above, below = sums.get(rate.numerator, 0), sums.get(rate.denominator, 0)
            share = above / below if below else None
            rates.append({
                "name": rate.name, "basis": str(rate.basis), "numerator": above,
                "denominator": below, "value": share, "low": None, "high": None,
            })  # fmt: skip
        told = window | {
            "starts_at": at_us - 3_600_000_000, "ends_at": at_us, "counts": counts, "rates": rates,
        }  # fmt: skip
        value = sample(topics.RATES) | {
            "campaign_id": campaign, "as_of": at_us, "complete_through": at_us,
            "revision": self._number, "windows": [told],
        }  # fmt: skip
        identity = _id(f"rates {campaign} {self._number}")
        return FixtureRecord(topics.RATES, campaign.encode(), identity, value)


def _kinds(number: int) -> tuple[str, ...]:
    """What happens to a message: most are delivered, a third opened, a tenth clicked."""
    if number % 33 == 7:
        return ("bounced",)
    if number % 10 == 3:
        return ("delivered", "opened", "clicked")
    return ("delivered", "opened") if number % 3 == 0 else ("delivered",)


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
