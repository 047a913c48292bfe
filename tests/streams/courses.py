"""Arbitrary courses of a few messages: what two partitions publish about them, through two logs.

Times lie from minutes to weeks apart and come in any order; campaigns and mailbox providers are
missing or learned late; events repeat; partials are published at any moment.
"""

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from schemas.event import Event
from streams.campaigns.windows import Partial, PartialKey
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, log_of
from tests.streams.test_step import AGENT

KINDS = (
    "delivered", "bounced", "bounced", "opened", "opened", "clicked", "clicked", "complained",
    "unsubscribed", "deferred", "rejected", "sent",
)  # fmt: skip
CLASSES = ("hard", "soft", "block", "undetermined", "suppressed")
MINUTES_AGO = (*(0, 0, 0, 0, 3, 61, 25 * 60) * 3, 31 * 24 * 60)
GAPS_S = (*(0, 30, 300, 700, 3_600, 7_200, 90_000) * 6, 40 * 86_400)
"""Seconds between arrivals; after the longest a message is forgotten."""
LOGS = ("log-1", "log-2")
CAMPAIGNS = ("", "a", "b")


@dataclass(frozen=True)
class Publication:
    """What one partition published together, and the log's minute by then."""

    minute: int
    partials: list[Partial]


class Partition:
    """A fold whose partials are kept as they were published."""

    def __init__(self, number: int) -> None:
        self.number, self.fold, self.log, self.next_offset = number, Fold(), LOGS[0], 0

    def feed(self, events: list[Event]) -> None:
        """Folds events at the next offsets of the present log."""
        records = log_of(events)
        moved = [
            type(record)(record.offset + self.next_offset, *list(vars(record).values())[1:])
            for record in records
        ]
        self.next_offset += len(records)
        self.fold.fold(moved)

    def publish(self) -> list[Partial]:
        """A checkpoint, and the partials that it published."""
        shard = self.fold.shard
        out = [
            Partial(
                PartialKey(*key, log_id=self.log, partition=self.number), shard.applied, tuple(row)
            )
            for key, row in shard.minutes.changed()
        ]
        self.fold.checkpoint()
        return out

    def recreate(self) -> None:
        """The log is lost and begins anew; the worker's state stays."""
        self.log, self.next_offset = LOGS[1], 0
        self.fold.shard.begin_log(self.log)


def _mail(dice: random.Random) -> list[dict[str, Any]]:
    """A few messages and what happens to each, shuffled together."""
    out: list[dict[str, Any]] = []
    for message in range(dice.randint(1, 8)):
        campaign = dice.choice(("a", "a", "a", "b", ""))
        domain = dice.choice(("gmail.com", "gmail.com", "yahoo.com"))
        kinds = dice.choices(KINDS, k=dice.randint(0, 6))
        kinds += ["delivered"] * (dice.random() < 0.75)
        for kind in kinds:
            told, known = dice.random() < 0.7, dice.random() < 0.7
            bounces = kind in ("bounced", "rejected")
            out.append(
                {
                    "event_type": kind,
                    "message_id": f"m{message}",
                    "recipient": f"u{message}@{domain}",
                    "recipient_domain": domain if known else "",
                    "campaign_id": campaign if campaign and told else None,
                    "bounce_class": dice.choice(CLASSES) if bounces else "none",
                    "user_agent": dice.choice((AGENT, AGENT, "curl/8")),
                    "click_url": "https://shop.example/1" if kind == "clicked" else None,
                }
            )
    dice.shuffle(out)
    return out


def course(dice: random.Random) -> list[Publication]:
    """What is published of a few messages, by partition, in order."""
    partitions = Partition(0), Partition(1)
    out: list[Publication] = []
    at_us, sent, recreated_at = RECEIVED_AT, list[Event](), dice.randint(0, 60)
    for number, fields in enumerate(_mail(dice)):
        at_us += dice.choice(GAPS_S) * 1_000_000
        moments = {
            "received_at": at_us, "occurred_at": at_us - dice.choice(MINUTES_AGO) * 60_000_000
        }  # fmt: skip
        sent.append(event(event_id=f"{number:032x}", **fields, **moments))
        for one in (sent[-1], *dice.choices(sent, k=dice.random() < 0.15)):
            partition = partitions[int(str(one["message_id"])[1:]) % 2]
            partition.feed([one])
            if dice.random() < 0.3:
                out.append(Publication(at_us // 60_000_000, partition.publish()))
            if number == recreated_at:
                out.append(Publication(at_us // 60_000_000, partition.publish()))
                partition.recreate()
    out += [Publication(at_us // 60_000_000, each.publish()) for each in partitions]
    return out


courses = st.integers(0, 2**64 - 1).map(lambda seed: course(random.Random(seed)))
"""By seed: Hypothesis's own draws seldom make several messages of different ends."""
