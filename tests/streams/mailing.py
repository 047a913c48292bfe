"""Events that are sent throughout everything that happens to a worker, and a recount of its
figures."""

import random
from collections import defaultdict
from typing import Any

from schemas import topics
from schemas.event import Event
from schemas.glossary import COUNTER_NAMES
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import Broker, EngineRig
from tests.streams.reference import Counts, count

EVENTS = 60
"""In a round; about as many of the rounds before come once more."""
KINDS = ("delivered", "delivered", "bounced", "opened", "clicked", "complained")


class Mail:
    """Events, some of them repeated.

    Args:
        begin: time of the first one, microseconds since 1970.
    """

    def __init__(
        self, broker: Broker, dice: random.Random, campaigns: int = 3, begin: int = RECEIVED_AT
    ) -> None:
        self.broker, self.dice, self.campaigns, self.begin = broker, dice, campaigns, begin
        self.events: list[Event] = []

    def send(self, fresh: int = EVENTS, again: int = EVENTS) -> None:
        """Feeds new events, with repeats of earlier ones among them."""
        dice, at = self.dice, self.begin + len(self.events) * 1_000_000
        new = [
            event(
                event_id=f"{len(self.events) + number:032x}",
                event_type=(kind := dice.choice(KINDS)),
                bounce_class="hard" if kind == "bounced" else "none",
                message_id=f"m{(message := dice.randrange(len(self.events) + EVENTS))}",
                recipient=f"user-{message}@gmail.com",
                recipient_domain="gmail.com",
                campaign_id=f"c{dice.randrange(self.campaigns)}",
                received_at=at + number * 1_000_000,
                occurred_at=at + number * 1_000_000,
                user_agent="Mozilla/5.0" if kind in ("opened", "clicked") else "",
                click_url="https://shop.example/1" if kind == "clicked" else None,
            )
            for number in range(fresh)
        ]
        old = dice.choices(self.events, k=again) if self.events else []
        mixed = [*new, *old]
        dice.shuffle(mixed)
        self.broker.feed(mixed)
        self.events += new

    def read(self) -> list[Event]:
        """Every event on the raw topic, in order within each partition."""
        raw: list[Any] = self.broker.decoded(topics.RAW, "raw_event")
        return raw


def identities(broker: Broker) -> dict[str, set[tuple[int, int]]]:
    """Event id -> coordinates under which it is enriched."""
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for value in broker.decoded(topics.ENRICHED, "enriched_event"):
        added = value["enrichment"]
        found[value["event"]["event_id"]].add((added["partition"], added["offset"]))
    return found


def merged_minutes(broker: Broker) -> Counts:
    """The minutes topic merged as in ClickHouse: the newest offset of each partial counts."""
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for value in broker.decoded(topics.MINUTES, "campaign_minute"):
        place = value["campaign_id"], value["mailbox_provider"], value["minute"]
        key = (*place, value["partition"])
        if key not in newest or value["offset"] >= newest[key]["offset"]:
            newest[key] = value
    sums: Counts = defaultdict(lambda: defaultdict(int))
    for (campaign, mailbox, minute, _), value in newest.items():
        for name in COUNTER_NAMES:
            sums[campaign, mailbox, minute // 60_000][name] += value[name]
    cleaned = {key: {n: v for n, v in row.items() if v} for key, row in sums.items()}
    return {key: row for key, row in cleaned.items() if row}


def totals(broker: Broker) -> dict[str, dict[str, int]]:
    """Campaign -> its total counters, as published last."""
    newest: dict[str, dict[str, int]] = {}
    for value in broker.decoded(topics.RATES, "campaign_rates"):
        (total,) = (one for one in value["windows"] if one["window"] == "total")
        newest[value["campaign_id"]] = {n: v for n, v in total["counts"].items() if v}
    return newest


async def assert_exact(rig: EngineRig, mail: Mail) -> None:
    """Everything is enriched once and counted once, in minutes and in rates."""
    await rig.work_off()
    await rig.tick()
    broker, events = mail.broker, mail.read()
    found = identities(broker)
    assert set(found) == {one["event_id"] for one in mail.events}
    twice = {event_id: at for event_id, at in found.items() if len(at) > 1}
    assert not twice, f"{len(twice)} events under two identities"
    expected = count(events)
    assert merged_minutes(broker) == expected
    by_campaign: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (campaign, _, _), row in expected.items():
        for name, value in row.items():
            by_campaign[campaign][name] += value
    assert totals(broker) == by_campaign
